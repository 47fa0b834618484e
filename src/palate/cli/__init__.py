"""The command line: ``palate prepare | inspect | train | evaluate | questions | generate | export | serve | …``.

Commands parse their options, call one function and print its result. They import heavy modules when they run, so that
``palate --help`` is fast.
"""

from palate.cli.app import app, main

__all__ = ["app", "main"]
