"""The GPU benchmark runs on a CPU in its smoke form; a part that fails does not stop the others."""

import json
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


@pytest.fixture
def bench(gpu, tmp_path, tiny_data):
    from gpu_parts.bench import Bench

    made = Bench(tiny_data, tmp_path / "found.json", tmp_path / "work", torch.device("cpu"), smoke=True)
    made.results["parts"] = {}
    return made


def written(bench):
    return json.loads(bench.out.read_text())["parts"]


def test_a_part_that_fails_is_recorded_with_its_traceback_and_the_others_are_kept(gpu, bench, monkeypatch):
    def works(bench, found):
        found["figure"] = 1

    def breaks(bench, found):
        with bench.row(found, "first row", 9) as row:
            row["figure"] = 2
        raise ValueError("no such thing")

    monkeypatch.setattr(gpu, "PARTS", {"1": ("good", works, 9.0), "2": ("bad", breaks, 9.0)})
    for number in ("2", "1"):
        gpu.run_part(bench, number, 60.0)
    parts = written(bench)
    assert parts["good"]["figure"] == 1
    assert parts["bad"]["first row"]["figure"] == 2
    assert "ValueError: no such thing" in parts["bad"]["error"]


def test_a_row_that_fails_is_recorded_and_the_next_one_is_measured(bench):
    found = {}
    with bench.row(found, "breaks", 9):
        raise RuntimeError("out of memory")
    with bench.row(found, "works", 9) as row:
        row["figure"] = 3
    assert "RuntimeError: out of memory" in found["breaks"]["error"]
    assert found["works"]["figure"] == 3


def test_a_limit_ends_what_is_inside_of_it_and_an_outer_one_ends_all_rows(bench):
    from gpu_parts.bench import OutOfTime, limit

    bench.smoke, found = False, {}
    with bench.row(found, "too long", 0.05):
        time.sleep(5)
    assert "OutOfTime: the limit of 0 s is over" in found["too long"]["error"]

    def part():
        with limit(0.05), bench.row(found, "in a part that is too long", 60):
            time.sleep(5)

    with pytest.raises(OutOfTime):
        part()
    assert "OutOfTime" in found["in a part that is too long"]["error"]
    time.sleep(0.1)  # no limit is left that could ring


def test_it_says_what_it_needs_when_it_cannot_measure(gpu, capsys):
    for arguments, said in (
        ([], "give --data"),
        (["--data", "here", "--device", "cpu"], "add --smoke"),
        (["--smoke", "--parts", "1,9"], "9 is no part"),
    ):
        with pytest.raises(SystemExit):
            gpu.main(arguments)
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_every_part_runs_on_the_cpu_in_its_smoke_form(gpu, tmp_path, capsys):
    out = tmp_path / "found.json"
    gpu.main(["--smoke", "--device", "cpu", "--out", str(out), "--commit", "abc"])
    found = json.loads(out.read_text())
    assert found["commit"] == "abc"
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["parts"]) == {name for name, _, _ in gpu.PARTS.values()}
    assert "error" not in json.dumps(found["parts"])
    step = next(iter(found["parts"]["paper_step"]["rows"].values()))
    assert step["step_ms"] > 0
    assert step["profile"]["top"]
    assert all(row["as_on_the_cpu"] for row in found["parts"]["as_on_the_cpu"]["rows"].values())
    scores = found["parts"]["uem_against_text"]["rows"]["uem-50"]["scores"]["dev"]
    assert set(scores) == {"uem-50", "uem-50, another user's history"}
    assert "| uem-50 |" in capsys.readouterr().out
