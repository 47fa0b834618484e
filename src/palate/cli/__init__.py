"""The command line: ``palate prepare | inspect | train | evaluate | questions | generate | export | serve | …``.

Commands parse, call one function and print. They import what they need when they run, so that
``palate --help`` answers at once.
"""

from palate.cli.app import app, main

__all__ = ["app", "main"]
