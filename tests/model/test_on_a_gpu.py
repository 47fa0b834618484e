"""A model on a GPU, simulated if there is none: no tensor stays on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow  # a minute: five models are asked all that can be asked, in a process that has such a GPU
def test_every_kind_of_model_answers_on_a_gpu_as_on_the_cpu(tmp_path):
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    done = subprocess.run(
        [sys.executable, TESTS / "on_pretended_gpu.py", tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert names == ["streaming", "uem", "resampler", "frozen decoder", "text"]
