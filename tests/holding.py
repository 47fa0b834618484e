"""A process that locks a path, as a training locks its run's folder."""

import subprocess
import sys
from contextlib import contextmanager

HOLD = (
    "import sys; from palate.system.locks import locked\n"
    "with locked(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
)


@contextmanager
def held_elsewhere(place):
    """Lock a path from another process during the block, unless that process is ended before."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.communicate("\n")
