"""Cells and references that the paper's tables need."""

from typing import get_args

import pytest

from palate.cli import reproduce as cli
from palate.config.load import differing_keys
from palate.config.recipe import TextSettings, UEMSettings
from palate.errors import RecipeError
from palate.reproduce.plan import TABLES, Preset, make_plan


@pytest.mark.parametrize("preset", sorted({*get_args(Preset)} - {"gemma", "gemma-cpu"}))
def test_every_row_that_a_preset_can_train_has_a_cell_in_every_size(preset):
    plan = make_plan(["all"], preset)
    assert list(plan.tables) == list(TABLES)
    names = {cell.name for cell in plan.cells}
    assert len(names) == len(plan.cells)
    for row in plan.rows():
        if row.changes and not (preset == "mini" and {"t5-v1.1", "t5-lm"} & set(row.changes)):
            assert {f"{'-'.join(row.changes)}-{size}-seed0" for size in plan.sizes} <= names


def test_the_rivals_on_a_pretrained_decoder_leave_it_frozen_but_for_the_text():
    cells = {cell.system: cell.recipe for cell in make_plan(["rivals"], "gemma").cells}
    trained = {system: recipe.model.backbone.train for system, recipe in cells.items()}
    assert trained.pop("compact-text-items-50") == "lora"
    assert {"streaming-items-50", "uem-plain-items-50", "resampler-equipped-items-50"} <= trained.keys()
    assert set(trained.values()) == {"frozen"}
    assert {recipe.train.windows_per_step for recipe in cells.values()} == {64}


def test_a_pretrained_decoder_on_a_cpu_core_trains_four_of_the_rivals_in_the_same_way():
    cells, on_gpu = (
        {cell.system: cell.recipe for cell in make_plan(["rivals"], preset).cells}
        for preset in ("gemma-cpu", "gemma")
    )
    assert set(cells) == {
        f"{name}-items-50" for name in ("compact-text", "uem-plain", "resampler-equipped", "streaming")
    }
    for system, recipe in cells.items():
        assert recipe.train.rounds == 6
        same = recipe.model == on_gpu[system].model and recipe.simulation == on_gpu[system].simulation
        assert same, differing_keys(recipe, on_gpu[system])


def test_the_command_knows_the_plans_presets():
    assert get_args(cli.PresetName) == get_args(Preset)


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


def test_windows_are_recent_or_random_as_asked():
    for kind in ("recent", "random"):
        plan = make_plan(["table1"], "mini", window_kind=kind)
        assert {cell.recipe.windows.kind for cell in plan.cells} == {plan.window_kind} == {kind}
