"""The paper's tables: cells are trained once, and their results written."""

import json
import os
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holding import held_elsewhere
from palate.cli.app import app
from palate.config.load import load_recipe
from palate.errors import DataError, OutputError, PalateError
from palate.reproduce.cell import RESULT, read_result
from palate.reproduce.engine import run_cells
from palate.reproduce.markdown import as_latex, as_markdown
from palate.reproduce.page import LEVEL, ResultsView, write_results_page
from palate.reproduce.places import Places
from palate.reproduce.plan import make_plan
from palate.reproduce.references import ask_references
from palate.reproduce.results import gather, read_results, write_results

ALONE = Places(1, 1, "cpu")
WANTED = ("uem-items-5-base-seed0", "text-items-5-base-seed0")


@pytest.fixture(scope="module")
def plan(tiny_data):
    return make_plan(["table1"], "smoke", tiny_data.path)


@pytest.fixture(scope="module")
def cells(plan):
    return [cell for cell in plan.cells if cell.name in WANTED]


@pytest.fixture(scope="module")
def reproduced(tiny_data, tmp_path_factory):
    """The folder of a command that trained two cells, and what it printed; a function to give it again."""
    out = tmp_path_factory.mktemp("reproduced") / "out"

    def command(*more):
        arguments = [
            "reproduce",
            "table1",
            "--preset",
            "smoke",
            "--data",
            str(tiny_data.path),
            "--seeds",
            "1",
        ]
        only = ["--only", "items-5-base", "--jobs", "2", "--device", "cpu", "--out", str(out)]
        shown = CliRunner().invoke(app, [*arguments, *only, *more])
        assert shown.exit_code == 0, shown.output
        return shown

    return out, command(), command


@pytest.fixture(scope="module")
def finished(reproduced):
    """The folder of the two finished cells, their results, and what was told."""
    out, shown, _ = reproduced
    return (
        out / "cells",
        {name: read_result(out / "cells" / name) for name in WANTED},
        shown.stderr.splitlines(),
    )


def test_a_cell_holds_its_scores_and_what_they_cost(finished):
    out, results, lines = finished
    assert {path.name for path in out.iterdir()} == set(WANTED)
    text, vectors = results["text-items-5-base-seed0"], results["uem-items-5-base-seed0"]
    assert text.setting.window == vectors.setting.window == 5
    assert text.users == vectors.users
    assert text.answer.input_vectors > 5 * vectors.answer.input_vectors / 2
    for costs in (text.answer, text.training):
        assert min(costs.model_dump().values()) > 0
    assert text.training.windows == text.training.steps * 2
    assert set(text.controls) == {"another user's history", "no history", "ratings shuffled"}
    assert set(vectors.controls) == {*text.controls, "population prompt"}
    assert len({result.recipe_digest for result in results.values()}) == len(results)
    assert {result.data_fingerprint for result in results.values()} == {text.data_fingerprint}
    assert read_result(out / WANTED[0]) == results[WANTED[0]]
    assert sum("another user's history" in line for line in lines) == 2


def test_all_files_of_a_cell_follow_the_umask(finished):
    umask = os.umask(0o022)
    os.umask(umask)
    files = [path for path in finished[0].rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_a_cell_without_a_run_makes_room_for_another_recipe(cells, tmp_path, monkeypatch):
    """As a command leaves it that was refused after the folders were made."""
    monkeypatch.setattr("palate.reproduce.engine._run", lambda *_: 1)
    run_once = partial(run_cells, out=tmp_path, places=ALONE, tell=lambda line: None)
    (tmp_path / cells[0].name).mkdir()
    (tmp_path / cells[0].name / "log.txt").touch()
    changed = cells[0].recipe.model_copy(update={"seed": 9})
    for cell in (cells[0], replace(cells[0], recipe=changed)):
        with pytest.raises(PalateError, match="1 of 1 cells failed"):
            run_once([cell])
    assert load_recipe(tmp_path / cells[0].name / "recipe.yaml").seed == 9


def test_results_that_another_command_makes_are_refused(tiny_data, tmp_path):
    out = tmp_path / "out"
    with held_elsewhere(out) as process:
        refused = CliRunner().invoke(
            app,
            ["reproduce", "table3", "--preset", "smoke", "--data", str(tiny_data.path), "--out", str(out)],
        )
    assert refused.exit_code == 2
    assert f"out is in use by process {process.pid} on " in refused.stderr


def test_a_finished_cell_is_not_trained_again(cells, finished):
    out, results, _ = finished
    stamps = {name: (out / name / RESULT).stat().st_mtime_ns for name in WANTED}
    lines = []
    assert run_cells(cells, out, ALONE, lines.append) == results
    assert {name: (out / name / RESULT).stat().st_mtime_ns for name in WANTED} == stamps
    assert lines == ["2 of 2 cells are already finished"]


def test_an_interrupted_cell_goes_on(cells, finished, tmp_path):
    """A cell that was trained and not yet measured keeps its training."""
    out, results, _ = finished
    shutil.copytree(out / WANTED[0], tmp_path / WANTED[0])
    (tmp_path / WANTED[0] / RESULT).unlink()
    ended = (tmp_path / WANTED[0] / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    again = run_cells([cell for cell in cells if cell.name == WANTED[0]], tmp_path, ALONE, lambda line: None)
    assert again[WANTED[0]].scores.scores == results[WANTED[0]].scores.scores
    assert (tmp_path / WANTED[0] / "run" / "model" / "model.safetensors").stat().st_mtime_ns == ended


def test_a_folder_of_another_recipe_is_refused(cells, finished):
    out, _, _ = finished
    changed = replace(cells[0], recipe=cells[0].recipe.model_copy(update={"seed": 9}))
    with pytest.raises(OutputError, match=r"another recipe \(differs in seed\)"):
        run_cells([changed], out, ALONE, lambda line: None)


def measure_as_before(result, folder, device):
    """A measurement that has the result of an earlier one."""
    shutil.copy(result, folder / RESULT)


def test_a_cell_that_fails_is_named_and_the_others_are_trained(cells, finished, tmp_path, monkeypatch):
    before = partial(measure_as_before, finished[0] / cells[1].name / RESULT)
    monkeypatch.setattr("palate.reproduce.engine.measure_cell", before)
    data = cells[0].recipe.data.model_copy(update={"path": Path("gone")})
    broken = replace(cells[0], name="broken", recipe=cells[0].recipe.model_copy(update={"data": data}))
    lines = []
    with pytest.raises(PalateError, match=r"1 of 2 cells failed, the first broken; see .*log\.txt"):
        run_cells([broken, cells[1]], tmp_path, ALONE, lines.append)
    assert (tmp_path / cells[1].name / "run" / "model" / "model.safetensors").is_file()
    assert read_result(tmp_path / cells[1].name) == finished[1][cells[1].name]
    assert any(line.startswith(f"broken FAILED: {Path('gone').absolute()}") for line in lines), lines


def test_a_damaged_result_is_named(finished, tmp_path):
    (tmp_path / RESULT).write_text("{}")
    with pytest.raises(DataError, match=r"result\.json.*remove it"):
        read_result(tmp_path)


@pytest.fixture(scope="module")
def asked(reproduced, plan, tiny_data):
    """The folder of the references' results, and the results."""
    folder, lines = reproduced[0] / "references", []
    results = ask_references(plan.references, tiny_data.path, "random", folder, lines.append)
    assert not lines  # the command has asked them all
    return folder, results


def test_references_are_asked_once(plan, asked, tiny_data):
    folder, results = asked
    lines = []
    assert ask_references(plan.references, tiny_data.path, "random", folder, lines.append) == results
    assert not lines
    assert {window for name, window, _ in results if name == "floor"} == {5, 50, 100}  # every row's
    with pytest.raises(DataError, match="name a new folder"):
        ask_references(plan.references, tiny_data.path, "recent", folder, lines.append)


def test_tables_hold_the_paper_ours_and_the_difference(plan, finished, asked, tiny_data, tmp_path):
    out, found, _ = finished
    results = gather(plan, found, asked[1], out, tiny_data.path)
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results
    table = results.tables["table1"]
    counting, text = table.rows[0], table.rows[1]
    assert counting.paper["base"][2] == 0.192
    assert text.ours["base"].liked[2] == pytest.approx(found[WANTED[1]].scores.scores.liked.f1.value)
    assert "large" not in text.ours
    document = as_markdown(results)
    mine = counting.ours["no size"].liked[2]
    line = next(line for line in document.splitlines() if line.startswith("| Counting |"))
    assert f"{mine - 0.192:+.3f}" in line
    assert "| Text history, 5 | large | 0.257 / 0.273 / 0.261 | not measured |" in document
    assert f"{text.ours['base'].answer.input_vectors:,.0f}" in document
    page = tmp_path / "report.html"
    write_results_page(results, page)
    text = page.read_text()
    assert f"{mine - 0.192:+.3f}" in text
    assert "Quality against cost" in text
    assert not re.search(r"https?://", text)


def test_users_of_whom_all_is_seen_stand_apart(plan, finished, asked, tiny_data):
    out, found, _ = finished
    table = gather(plan, found, asked[1], out, tiny_data.path).tables["table1"]
    rows = {row.name: row for row in (*table.rows, *table.beside)}
    short = rows["Text history, 5"].ours["base"]
    assert (short.whole, short.partly.users) == (None, short.everybody.users)
    long = rows["Rule, 50"].ours["no size"]  # longer than every history: nobody is seen in part
    assert (long.partly, long.whole.users) == (None, long.everybody.users)
    assert long.whole.liked.f1.value == 1.0  # where the rule is right by definition


def test_every_table_says_which_windows_and_every_cell_where_it_comes_from(plan, finished, asked, tiny_data):
    out, found, _ = finished
    results = gather(plan, found, asked[1], out, tiny_data.path)
    for document in (as_markdown(results), as_latex(results)):
        assert document.count("random windows") >= 3 * len(results.tables)
        for name in WANTED:
            assert found[name].recipe_digest.removeprefix("sha256:")[:12] in document
        assert tiny_data.info.fingerprint.removeprefix("sha256:")[:12] in document
    latex = as_latex(results)
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") > 4
    assert "Counting &" in latex


def test_a_system_that_scores_alike_with_another_history_is_said_to_read_nobody(
    plan, finished, asked, tiny_data
):
    out, found, _ = finished
    results = gather(plan, found, asked[1], out, tiny_data.path)
    one = results.tables["table1"].rows[1].ours["base"]  # two steps of training: it reads nobody
    assert one.reads_the_user is False
    assert "has not learned to read the user" in as_markdown(results)
    better = one.controls["another user's history"].model_copy(update={"p_value": 0.001})
    learned = one.model_copy(update={"own": better.f1 + 0.1, "controls": {"another user's history": better}})
    assert learned.reads_the_user is True
    assert learned.model_copy(update={"own": better.f1 - 0.1}).reads_the_user is False


def test_a_cell_of_other_data_is_refused(plan, finished, asked, tiny_data):
    out, found, _ = finished
    other = {name: one.model_copy(update={"data_fingerprint": "sha256:0"}) for name, one in found.items()}
    with pytest.raises(DataError, match=r"was measured on sha256:0, and .*; name a new folder with --out"):
        gather(plan, other, asked[1], out, tiny_data.path)


def test_the_figure_draws_ours_the_papers_and_the_rule(finished, asked, tiny_data):
    plan = make_plan(["figure2"], "smoke", tiny_data.path)
    found = {name: one for name, one in finished[1].items() if name.startswith("uem")}
    references = ask_references(plan.references, tiny_data.path, "random", asked[0], lambda line: None)
    results = gather(plan, found, references, finished[0], tiny_data.path)
    chart = ResultsView(results).figure()[0][0].chart
    lines = {series.name: (list(series.x), list(series.y)) for series in chart.series}
    assert lines["paper, base"] == ([5, 20, 30, 50, 100], [0.273, 0.275, 0.337, 0.396, 0.404])
    assert lines["ours, base"][0] == [5]
    assert lines["rule"][1][3] == references["rule", 50, 0].predictors[0].scores.liked.f1.value


def test_a_row_that_reads_nobody_is_not_drawn_as_a_level(plan, finished, asked, tiny_data):
    out, found, _ = finished
    results = gather(plan, found, asked[1], out, tiny_data.path)
    text, size = results.tables["table1"].rows[1], results.sizes[0]

    def levels(one):
        level = text.model_copy(update={"name": LEVEL, "ours": {size: one}})
        table = results.tables["table1"].model_copy(update={"beside": (level,)})
        view = ResultsView(results.model_copy(update={"tables": {"table4": table}}))
        return [
            series.name for series in view.figure()[0][0].chart.series if series.name.startswith("LongT5")
        ]

    one = text.ours[size]
    control = one.controls["another user's history"].model_copy(update={"f1": 0.0, "p_value": 0.001})
    learned = one.model_copy(update={"own": 0.5, "controls": {"another user's history": control}})
    assert (levels(one), len(levels(learned))) == ([], 1)


def test_the_command_writes_results_and_tables(reproduced):
    out, shown, command = reproduced
    assert shown.stdout.strip() == str(out / "report.html")
    content = json.loads((out / "results.json").read_text())
    assert content["tables"]["table1"]["rows"][1]["ours"]["base"]["seeds"] == [0]
    assert "## Table 1: " in (out / "results.md").read_text()
    assert "Table 1: " in (out / "report.html").read_text()
    assert command("--format", "latex").stdout.strip() == (out / "results.tex").read_text().strip()


@pytest.mark.slow
def test_two_processes_train_a_cell_as_one_does(cells, finished, tmp_path):
    """On the CPU, by gloo: each takes half of the batch of two."""
    cell = next(cell for cell in cells if cell.name == WANTED[0])
    both = run_cells([cell], tmp_path, Places(1, 2, "cpu"), lambda line: None)[cell.name]
    alone = finished[1][cell.name]
    assert (both.training.processes, alone.training.processes) == (2, 1)
    assert both.training.windows == alone.training.windows


@pytest.mark.slow
def test_all_cells_of_the_smoke_preset(tiny_data, tmp_path):
    plan = make_plan(["all"], "smoke", tiny_data.path)
    assert len(run_cells(plan.cells, tmp_path, Places(2, 1, "cpu"), lambda line: None)) == len(plan.cells)


def test_p5_stands_in_the_table_of_methods(plan, tiny_data, tmp_path):
    """Its ids read no item vectors, and it has no user prompt to average."""
    cell = next(cell for cell in plan.cells if cell.system == "p5-items-50" and cell.size == "base")
    found = run_cells([cell], tmp_path, ALONE, lambda line: None)[cell.name]
    assert found.scores.name == "run"
    assert set(found.controls) == {"another user's history", "no history", "ratings shuffled"}
    assert found.training.steps == cell.recipe.train.max_steps
    assert min(found.training.model_dump().values()) > 0
    assert min(found.answer.model_dump().values()) > 0
    lengths = tiny_data.interactions.lengths[tiny_data.users("test")]
    assert found.users == len(lengths)
    assert found.answer.input_vectors > 2 * lengths.mean()  # an id and a rating of each item
    references = ask_references(
        plan.references, tiny_data.path, plan.window_kind, tmp_path / "references", print
    )
    results = gather(plan, {cell.name: found}, references, tmp_path, tiny_data.path)
    row = next(row for row in results.tables["table1"].beside if row.name == "P5, 50")
    assert row.ours["base"].everybody.users == len(lengths)
