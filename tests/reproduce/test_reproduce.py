"""The paper's tables: which cells they need, how cells are trained once, and what is written of them."""

import json
import os
import re
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from holding import held_elsewhere
from palate.cli.app import app
from palate.config.load import differing_keys, load_recipe
from palate.config.recipe import ItemSettings, TextSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.errors import DataError, OutputError, PalateError, RecipeError
from palate.model.build import build_model, build_table
from palate.reproduce.cell import RESULT, read_result
from palate.reproduce.cost import answer_cost, step_multiply_adds
from palate.reproduce.engine import run_cells
from palate.reproduce.estimate import estimate, item_vector_size
from palate.reproduce.markdown import as_latex, as_markdown
from palate.reproduce.page import LEVEL, ResultsView, write_results_page
from palate.reproduce.places import Places
from palate.reproduce.plan import TABLES, Preset, make_plan
from palate.reproduce.references import ask_references
from palate.reproduce.results import gather, read_results, write_results
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from tiny_causal import causal_model, save_causal

WINDOW = {"unique", "item", "rating", "mask", "time"}
ALONE = Places(1, 1, "cpu")
WANTED = ("uem-items-5-base-seed0", "text-items-5-base-seed0")


@pytest.fixture(scope="module")
def plan(tiny_data):
    return make_plan(["table1"], "smoke", tiny_data.path)


@pytest.fixture(scope="module")
def cells(plan):
    return [cell for cell in plan.cells if cell.name in WANTED]


@pytest.fixture(scope="module")
def finished(cells, tmp_path_factory):
    """The folder of two finished cells, their results, and what was told."""
    out, lines = tmp_path_factory.mktemp("cells"), []
    return out, run_cells(cells, out, Places(2, 1, "cpu"), lines.append), lines


@pytest.mark.parametrize("preset", get_args(Preset))
def test_every_row_that_a_preset_can_train_has_a_cell_in_every_size(preset):
    plan = make_plan(["all"], preset)
    assert list(plan.tables) == list(TABLES)
    names = {cell.name for cell in plan.cells}
    assert len(names) == len(plan.cells)
    for row in plan.rows():
        if row.changes and not (preset == "mini" and {"t5-v1.1", "t5-lm"} & set(row.changes)):
            assert {f"{'-'.join(row.changes)}-{size}-seed0" for size in plan.sizes} <= names


def test_cells_say_what_the_papers_rows_are():
    cells = {cell.name: cell.recipe for cell in make_plan(["all"], "paper").cells}
    text = cells["text-items-5-large-seed0"]
    assert isinstance(text.model.user_encoder, TextSettings)
    assert (text.model.backbone.name, text.evaluate.window) == ("google/flan-t5-large", 5)
    assert (text.train.learning_rate, text.train.global_batch_size) == (1e-2, 128)
    assert (text.train.optim, text.train.scale_parameter) == ("adafactor", True)
    long = cells["text-longt5-items-50-base-seed0"]
    assert (long.model.backbone.name, long.model.user_encoder.max_length) == (
        "google/long-t5-local-base",
        16_000,
    )
    one = cells["uem-layers-1-items-50-base-seed0"].model.user_encoder
    whole = cells["uem-items-50-base-seed0"]
    assert isinstance(one, UEMSettings)
    assert (one.num_layers, whole.model.user_encoder.num_layers) == (1, 3)
    assert (whole.train.max_steps, whole.train.windows_per_step, whole.train.learning_rate) == (
        10_000,
        128,
        5e-3,
    )
    keys = differing_keys(whole, cells["uem-items-100-base-seed0"])
    assert keys == ["name", "windows.shortest", "windows.longest", "evaluate.window"]


def test_the_papers_figures_are_told_apart_from_ours():
    rows = {row.name: row.paper for row in make_plan(["table1"], "mini").tables["table1"].rows}
    assert rows["Embedding history, 50"]["base"] == (0.407, 0.405, 0.396)
    assert rows["Counting"] == {"base": (0.330, 0.273, 0.192)}
    four = make_plan(["figure2"], "mini")
    assert list(four.tables) == ["table4"]
    lengths = [cell.recipe.evaluate.window for cell in four.cells if cell.name.startswith("uem")]
    assert lengths == [5, 20, 30, 50, 100]


def test_seeds_are_for_the_first_table():
    cells = make_plan(["table1", "table4"], "mini", seeds=3).cells
    assert sum(cell.system == "uem-items-50" for cell in cells) == 3
    assert sum(cell.system == "uem-items-20" for cell in cells) == 1
    assert sum(cell.system == "streaming-items-50" for cell in cells) == 1  # beside the table
    assert {cell.recipe.seed for cell in cells} == {0, 1, 2}


def test_rivals_are_a_table_of_their_own_each_plain_and_equipped():
    plan = make_plan(["rivals"], "mini", seeds=2)
    assert list(plan.tables) == ["rivals"]
    cells = {cell.system: cell.recipe for cell in plan.cells}
    for name in ("uem", "mlp", "resampler", "cross-attention", "pooled"):
        plain, equipped = (cells[f"{name}-{form}-items-50"] for form in ("plain", "equipped"))
        inner = equipped.model.user_encoder.encoder
        assert inner == plain.model.user_encoder
        assert equipped.model.conditioning == plain.model.conditioning
        assert (plain.simulation.users, plain.train.auxiliary_weight) == (0, 0.0)
        assert (equipped.simulation.users > 0, equipped.train.auxiliary_weight) == (True, 1.0)
        assert equipped.train.max_steps == plain.train.max_steps
    assert cells["cross-attention-plain-items-50"].model.conditioning == "cross-attention"
    assert {cell.recipe.seed for cell in plan.cells} == {0, 1}
    assert "rivals" not in make_plan(["all"], "mini").tables


def test_an_unknown_table_is_named():
    with pytest.raises(RecipeError, match="no 'table9' in the paper; choose from table1"):
        make_plan(["table9"], "mini")


def test_a_cell_holds_its_scores_and_what_they_cost(finished):
    out, results, lines = finished
    assert set(results) == set(WANTED)
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
    assert lines == ["2 of 2 cells are finished already"]


def test_an_interrupted_cell_goes_on(cells, finished, tmp_path):
    """A cell that was trained and not yet measured keeps its training."""
    import shutil

    out, results, _ = finished
    shutil.copytree(out / WANTED[0], tmp_path / WANTED[0])
    (tmp_path / WANTED[0] / RESULT).unlink()
    ended = (tmp_path / WANTED[0] / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    again = run_cells([cell for cell in cells if cell.name == WANTED[0]], tmp_path, ALONE, lambda line: None)
    assert again[WANTED[0]].scores.scores == results[WANTED[0]].scores.scores
    assert (tmp_path / WANTED[0] / "run" / "model" / "model.safetensors").stat().st_mtime_ns == ended


def test_a_folder_of_another_recipe_is_refused(cells, finished):
    from dataclasses import replace

    out, _, _ = finished
    changed = replace(cells[0], recipe=cells[0].recipe.model_copy(update={"seed": 9}))
    with pytest.raises(OutputError, match=r"another recipe \(differs in seed\)"):
        run_cells([changed], out, ALONE, lambda line: None)


def test_a_cell_that_fails_is_named_and_the_others_are_trained(cells, tmp_path):
    from dataclasses import replace
    from pathlib import Path

    data = cells[0].recipe.data.model_copy(update={"path": Path("gone")})
    broken = replace(cells[0], name="broken", recipe=cells[0].recipe.model_copy(update={"data": data}))
    lines = []
    with pytest.raises(PalateError, match=r"1 of 2 cells failed, the first broken; see .*log\.txt"):
        run_cells([broken, cells[1]], tmp_path, ALONE, lines.append)
    assert read_result(tmp_path / cells[1].name) is not None
    assert any(line.startswith(f"broken FAILED: {Path('gone').absolute()}") for line in lines), lines


def test_a_damaged_result_is_named(finished, tmp_path):
    (tmp_path / RESULT).write_text("{}")
    with pytest.raises(DataError, match=r"result\.json.*remove it"):
        read_result(tmp_path)


@pytest.fixture(scope="module")
def asked(plan, tiny_data, tmp_path_factory):
    """The folder of the references' results, and the results."""
    folder = tmp_path_factory.mktemp("references")
    return folder, ask_references(plan.references, tiny_data.path, "random", folder, lambda line: None)


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


def test_a_dry_run_estimates_and_trains_nothing(tiny_data, tmp_path):
    arguments = ["reproduce", "table4", "--preset", "mini", "--data", str(tiny_data.path), "--jobs", "2"]
    shown = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    line = next(line for line in shown.output.splitlines() if line.startswith("uem-items-20-base-seed0"))
    assert re.search(
        r"700 steps of 32, \d.*M parameters, \d+ input vectors, \d.*e\+\d+ operations, about .* and \d.*GiB$",
        line,
    )
    assert re.search(r"^6 cells, about .* of training and up to .* GiB", shown.output, re.MULTILINE)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_the_papers_models_names_what_is_missing_and_tells_gpu_hours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("palate.reproduce.ready._in_cache", lambda name: name == "google/flan-t5-large")
    shown = CliRunner().invoke(
        app, ["reproduce", "table1", "--preset", "paper", "--dry-run", "--device", "cpu"]
    )
    assert shown.exit_code == 0, shown.output
    assert (
        "missing: data/ml-20m; make it with  palate prepare ml-20m --descriptions DESCRIPTIONS.csv --described-only "
        "--min-ratings 20 --out data/ml-20m"
    ) in shown.output
    assert "missing: google/flan-t5-base; get it with  hf download google/flan-t5-base" in shown.output
    assert "missing: google/flan-t5-large" not in shown.output
    assert re.search(
        r"H100 SXM \(989 TFLOP/s, 80 GiB\): [\d,]+ to [\d,]+ hours; every cell fits", shown.output
    )
    assert "of training and up to" not in shown.output  # hours of this CPU say nothing of them
    assert not list(tmp_path.iterdir())


def test_the_papers_step_is_estimated_as_it_was_measured_on_an_h100():
    """docs/results-gpu.json: the UEM of 50 items on Flan-T5 base, 128 windows in mixed precision, Adafactor."""
    cells = {cell.name: cell.recipe for cell in make_plan(["table1"], "paper").cells}
    about = estimate(cells["uem-items-50-base-seed0"], None)
    assert about.operations / 10_000 == pytest.approx(10.34e12, rel=0.15)
    assert about.memory_gib == pytest.approx(17.6, rel=0.25)
    assert about.parameters == pytest.approx(248e6 + 65.5e6, rel=0.05)


def test_item_vectors_have_their_encoders_size(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 40}')
    known = {
        "packaged:all-MiniLM-L6-v2": 384,
        "sentence-transformers/sentence-t5-base": 768,
        str(tmp_path): 40,
    }
    assert {name: item_vector_size(ItemSettings(encoder=name)) for name in known} == known


def test_windows_are_recent_or_random_as_asked():
    for kind in ("recent", "random"):
        plan = make_plan(["table1"], "mini", window_kind=kind)
        assert {cell.recipe.windows.kind for cell in plan.cells} == {plan.window_kind} == {kind}


@pytest.mark.parametrize("name", ["text-items-5-base-seed0", "text-longt5-items-50-base-seed0"])
def test_an_estimate_is_near_what_is_counted(tiny_data, name):
    """Only by numbers of operations: time depends on the machine."""
    cell = next(cell for cell in make_plan(["table1"], "mini", tiny_data.path).cells if cell.name == name)
    task = load_task(cell.recipe.task, tiny_data.info)
    model = build_model(cell.recipe, tiny_data, task, build_table(cell.recipe, tiny_data))
    batches = TrainingBatches(cell.recipe, tiny_data, task, model, Clock(cell.recipe.train))
    about, steps = estimate(cell.recipe, tiny_data), cell.recipe.train.max_steps
    counted = sum(step_multiply_adds(model, [batches[index]]) for index in range(3)) / 3
    assert about.multiply_adds / steps == pytest.approx(counted, rel=0.6)
    read = model.user_encoder(
        model.catalogue(**{k: v for k, v in batches[0].items() if k in WINDOW})
    ).mask.sum(1)
    assert about.input_vectors == pytest.approx(float(read.float().mean()), rel=0.6)


def test_what_an_answer_costs_is_counted_beside_a_frozen_backbone(tiny_data, tmp_path):
    model = causal_model(
        tiny_data, save_causal(tmp_path / "backbone"), train="frozen", like_tokens=True
    ).eval()
    learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
    windows = draw_windows(tiny_data.interactions, np.arange(3), 8, "random", np.random.default_rng(0))
    cost = answer_cost(model, windows)
    assert cost.input_vectors == mean(model.prompt(windows).lengths.tolist())
    matrices = sum(weight.numel() for weight in model.backbone.model.layers.parameters() if weight.ndim == 2)
    assert cost.multiply_adds > cost.input_vectors * matrices
    assert learning == [name for name, weight in model.named_parameters() if weight.requires_grad]


def test_longer_and_larger_takes_more(tiny_data):
    cells = {cell.name: cell.recipe for cell in make_plan(["all"], "paper", tiny_data.path).cells}
    about = {name: estimate(recipe, tiny_data) for name, recipe in cells.items()}
    short, long = about["uem-items-5-base-seed0"], about["uem-items-50-base-seed0"]
    large, text = about["uem-items-50-large-seed0"], about["text-longt5-items-50-base-seed0"]
    assert short.multiply_adds < long.multiply_adds < large.multiply_adds
    assert long.multiply_adds < text.multiply_adds
    assert long.parameters == pytest.approx(248e6 + 65.5e6, rel=0.25)  # Flan-T5 base, and the UEM


def test_the_command_writes_results_and_tables(tiny_data, tmp_path):
    out = tmp_path / "out"
    arguments = ["reproduce", "table3", "--preset", "smoke", "--data", str(tiny_data.path), "--out", str(out)]
    shown = CliRunner().invoke(app, [*arguments, "--only", "layers-1-items-50-base"])
    assert shown.exit_code == 0, shown.output
    content = json.loads((out / "results.json").read_text())
    assert content["tables"]["table3"]["rows"][0]["ours"]["base"]["seeds"] == [0]
    assert "## Table 3: Depth of the UEM" in (out / "results.md").read_text()
    assert "Table 3: Depth of the UEM" in (out / "report.html").read_text()
    latex = CliRunner().invoke(app, [*arguments, "--only", "layers-1-items-50-base", "--format", "latex"])
    assert latex.stdout.strip() == (out / "results.tex").read_text().strip()


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
