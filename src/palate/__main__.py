"""``python -m palate``: the command line where only a module can be named, as by ``accelerate launch -m``."""

from palate.cli import main

main()
