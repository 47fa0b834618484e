"""Settings that P5, POD and PEPLER do not read are refused before the data is looked for."""

import pytest

from palate.config.load import Layer, recipe_from
from palate.config.unread import check_all_read
from palate.errors import RecipeError
from palate.training.start import train_recipe

P5 = {"model": {"backbone": {"kind": "random-t5"}}, "generative": {"kind": "p5"}}
POD = {"model": {"backbone": {"kind": "random-t5"}}, "generative": {"kind": "pod"}}
CATEGORIES = {**P5, "generative": {"kind": "p5", "families": {"categories": 1}}}
PEPLER = {"pepler": {"backbone": {"kind": "random-causal"}}}
NEWCOMERS = {"pepler": {"backbone": {"kind": "random-causal"}, "newcomer_steps": 3}}


def recipe(kind, key, value):
    given = value
    for name in reversed(key.split(".")):
        given = {name: given}
    return recipe_from([Layer("the kind", kind), Layer("the setting", given)])


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        (
            P5,
            "train.optim",
            "adafactor",
            "train.optim is 'adafactor', which the training of P5 does not read; leave",
        ),
        (POD, "train.max_minutes", 3, "train.max_minutes is 3.0, which the training of POD does not read"),
        (P5, "train.gradient_checkpointing", True, "leave it out, or at False"),
        (P5, "train.questions", {"pair": 1}, "train.questions is"),
        (P5, "train.window_labels", 0.5, "train.window_labels is 0.5"),
        (P5, "model.user_encoder.kind", "pooled", "model.user_encoder is 'pooled'.* or at 'uem'"),
        (P5, "windows.kind", "random", "windows.kind is 'random'"),
        (P5, "simulation.users", 5, "simulation.users is 5"),
        (CATEGORIES, "train.sampled_tokens", 9, "train.sampled_tokens is 9"),
        (CATEGORIES, "model.like_tokens", True, "model.like_tokens is True"),
        (PEPLER, "train.optim", "adafactor", "the training of PEPLER does not read"),
        (
            PEPLER,
            "train.max_steps",
            5,
            "set pepler.language_steps, pepler.prompt_steps and pepler.tuning_steps$",
        ),
        (PEPLER, "train.lr_scheduler_type", "linear", "train.lr_scheduler_type is 'linear'"),
        (PEPLER, "train.length_groups", 4, "train.length_groups is 4"),
        (PEPLER, "model.user_encoder.kind", "pooled", "model.user_encoder is 'pooled'"),
        (PEPLER, "items.batch_size", 4, "items.batch_size is 4"),
        (NEWCOMERS, "model.task_prompt", 4, "model.task_prompt is 4"),
    ],
)
def test_a_setting_that_is_not_read_is_refused(kind, key, value, said, tmp_path):
    with pytest.raises(RecipeError, match=said):
        train_recipe(recipe(kind, key, value), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *[
            (kind, f"train.{key}", value)
            for kind in (P5, POD, PEPLER)
            for key, value in {
                "bf16": True,
                "gradient_accumulation_steps": 2,
                "global_batch_size": 64,
                "backbone_learning_rate": 0.1,
                "weight_decay": 0.1,
                "max_grad_norm": 2.0,
                "threads": 1,
            }.items()
        ],
        (P5, "train.max_steps", 5),
        (P5, "train.warmup_ratio", 0.5),
        (CATEGORIES, "windows.kind", "random"),
        (CATEGORIES, "train.window_labels", 0.5),
        (CATEGORIES, "model.user_encoder.kind", "pooled"),
        (PEPLER, "train.lr_scheduler_type", "constant"),
        (NEWCOMERS, "model.event_texts", True),
        (NEWCOMERS, "model.user_encoder.kind", "pooled"),
    ],
)
def test_a_setting_that_is_read_is_not(kind, key, value):
    check_all_read(recipe(kind, key, value))


def test_other_kinds_of_runs_are_not_asked():
    check_all_read(recipe({}, "train.optim", "adafactor"))
