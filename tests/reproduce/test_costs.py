"""Estimated and actual costs of cells."""

import re
from functools import partial
from statistics import mean

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.config.recipe import ItemSettings
from palate.data.windows import draw_windows
from palate.model.build import build_model, build_table
from palate.reproduce.cost import answer_cost, step_multiply_adds
from palate.reproduce.estimate import estimate, item_vector_size
from palate.reproduce.plan import make_plan
from palate.tasks import load_task
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from tiny_causal import causal_model, save_causal

WINDOW = {"unique", "item", "rating", "mask", "time"}


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


def test_a_dry_run_on_a_decoder_tells_steps_without_an_estimate(tiny_data):
    arguments = ["reproduce", "rivals", "--preset", "gemma", "--data", str(tiny_data.path), "--dry-run"]
    shown = CliRunner().invoke(app, [*arguments, "--seeds", "1"])
    assert shown.exit_code == 0, shown.output
    assert re.search(
        r"^streaming-items-50-270m-seed0: [\d,]+ steps of 64; the cost of a causal backbone is not estimated$",
        shown.output,
        re.MULTILINE,
    )


@pytest.mark.parametrize(
    ("table", "says"), [("table2", "trains no row of table2"), ("p5", "p5 has no such preset; choose from")]
)
def test_a_preset_without_the_rows_of_a_table_is_refused(table, says):
    shown = CliRunner().invoke(app, ["reproduce", table, "--preset", "gemma", "--dry-run"])
    assert shown.exit_code != 0
    assert says in str(shown.exception) + shown.output


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


def batch_loss(model, batch):
    rest = {"liked", "disliked", "kinds"}
    return model(**{name: one for name, one in batch.items() if name not in rest})["loss"]


@pytest.mark.parametrize("name", ["text-items-5-base-seed0", "text-longt5-items-50-base-seed0"])
def test_an_estimate_is_near_what_is_counted(tiny_data, name):
    """Only by numbers of operations: time depends on the machine."""
    cell = next(cell for cell in make_plan(["table1"], "mini", tiny_data.path).cells if cell.name == name)
    task = load_task(cell.recipe.task, tiny_data.info)
    model = build_model(cell.recipe, tiny_data, task, build_table(cell.recipe, tiny_data))
    batches = TrainingBatches(cell.recipe, tiny_data, task, model, Clock(cell.recipe.train))
    about, steps = estimate(cell.recipe, tiny_data), cell.recipe.train.max_steps
    counted = (
        sum(step_multiply_adds(model, partial(batch_loss, model, batches[index])) for index in range(3)) / 3
    )
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
