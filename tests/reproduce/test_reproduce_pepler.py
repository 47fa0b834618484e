"""PEPLER's table on a few reviews and ratings: cells, published numbers, and resumption."""

import json

import numpy as np
from typer.testing import CliRunner

from bookshop import write_rows
from palate.cli.app import app
from palate.data.prepare import prepare
from palate.reproduce.pepler import pepler_cells


def data_of(folder, reviewed):
    rng, rows = np.random.default_rng(0), []
    for user in range(10):
        for time, item in enumerate(rng.permutation(8)[:5]):
            row = {"user": user, "item": f"i{item}", "rating": float(1 + (user + item) % 5), "time": time}
            rows.append(row | ({"review_text": f"It is item {item}, says {user}"} if reviewed else {}))
    return prepare(write_rows(rows, folder / "r.jsonl"), folder / "data", dev_share=0.2, test_share=0.2)


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", "pepler", "--preset", "smoke", *map(str, arguments)])


def test_a_smoke_cell_is_trained_scored_and_not_trained_again(tmp_path):
    data_of(tmp_path, reviewed=True)
    asked = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--seeds", 1, "--only", "mlp")
    said = run(*asked, "--format", "markdown")
    assert said.exit_code == 0, said.output
    for shown in (
        "| continuous, with MF | 16.67 |",
        "PEPLER, data: held-out interactions",
        "biased MF",
        "FMR",
    ):
        assert shown in said.stdout
    cell = tmp_path / "out" / "cells" / "mlp-data-seed0"
    before = (cell / "result.json").stat().st_mtime_ns
    assert json.loads((cell / "result.json").read_text())["scores"][0]["texts"]["texts"] == 10
    assert len((cell / "texts.jsonl").read_text().splitlines()) == 10
    again = run(*asked)
    assert "1 of 1 cells are already finished" in again.output
    assert (cell / "result.json").stat().st_mtime_ns == before
    other = run(*asked, "--seeds", 1, "--out", tmp_path / "out", "--preset", "mini")
    assert other.exit_code == 2
    assert "holds a cell of another recipe (differs in" in other.output


def test_data_without_reviews_is_rated_alone(tmp_path):
    data = data_of(tmp_path, reviewed=False)
    cells = pepler_cells("smoke", [data.path])
    assert [cell.name for cell in cells] == ["mf-data-seed0", "mlp-data-seed0"]
    said = run("--data", data.path, "--out", tmp_path / "out", "--seeds", 1, "--only", "mf")
    assert said.exit_code == 0, said.output
    result = json.loads((tmp_path / "out" / "cells" / "mf-data-seed0" / "result.json").read_text())
    assert result["scores"][0]["texts"] is None
    assert result["scores"][0]["ratings"]["rmse"]["value"] > 0


def test_a_cell_that_is_not_there_is_refused(tmp_path):
    data = data_of(tmp_path, reviewed=False)
    said = run("--data", data.path, "--only", "bert")
    assert said.exit_code == 2
    assert "--only 'bert': no cell's name contains it" in said.output
