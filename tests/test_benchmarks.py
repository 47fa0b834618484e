import runpy
from pathlib import Path

import pytest

PROGRAMS = sorted(
    path
    for folder in ("benchmarks", "examples")
    for path in (Path(__file__).parents[1] / folder).glob("*.py")
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_each_benchmark_and_example_finds_what_it_imports(program, monkeypatch):
    monkeypatch.syspath_prepend(str(program.parent))
    assert callable(runpy.run_path(str(program), run_name="looked_at")["main"])
