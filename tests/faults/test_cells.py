"""Processes of an experiment end with their parent."""

import os
import signal
import subprocess
import sys

import pytest

START = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from palate.reproduce import engine
from test_cells import wait
if __name__ == "__main__":
    process = engine._process(wait, Path(sys.argv[1]), 1, {})
    process.start()
    process.join()
"""


def wait(folder):
    """A step that never ends."""
    os.write(os.open(folder / "pipe", os.O_WRONLY), f"{os.getpid()}\n".encode())
    signal.pause()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the processes tell of themselves by a pipe")
def test_a_cell_ends_when_the_experiment_is_killed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "start.py").write_text(START)
    command = [sys.executable, str(tmp_path / "start.py"), str(tmp_path), os.path.dirname(__file__)]  # noqa: PTH120
    experiment = subprocess.Popen(command)
    with (tmp_path / "pipe").open() as pipe:  # it ends when nobody has it open for writing any more
        assert pipe.readline().strip().isdigit()
        experiment.kill()
        experiment.wait()
        assert pipe.read() == ""
