"""Refuses settings that the training of P5, POD or PEPLER does not read, before any work starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from palate.config.recipe import Recipe
from palate.errors import RecipeError

if TYPE_CHECKING:
    from palate.config.generative import AnyGenerativeSettings

_SECTIONS = ("task", "items", "windows", "model", "simulation", "train", "evaluate")
_STAGED = frozenset(
    f"train.{name}"
    for name in (
        "threads",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "global_batch_size",
        "learning_rate",
        "backbone_learning_rate",
        "weight_decay",
        "max_grad_norm",
        "bf16",
        "eval_steps",
        "early_stopping_patience",
    )
)
"""What the training loop of both reads."""
_OF_IDS = frozenset(
    f"train.{name}"
    for name in ("max_steps", "length_groups", "lr_scheduler_type", "warmup_ratio", "eval_users")
) | {"model.backbone"}
_OF_CATEGORIES = frozenset(
    {"model.grammar", "train.window_labels", "train.eval_windows", "train.eval_draws"}
    # parts of the models that stand beside it in a table, whose recipe it shares
    | {"items", "model.user_encoder", "model.task_prompt"}
    | {"task", "windows", "evaluate"}
)
_OF_NEWCOMERS = frozenset({"items", "model.user_encoder", "model.event_texts"})
_CONSTANT = {"train.lr_scheduler_type": "constant", "train.warmup_ratio": 0.0}
"""PEPLER's schedule, which may be written out."""
_INSTEAD = {"train.max_steps": "set pepler.language_steps, pepler.prompt_steps and pepler.tuning_steps"}


def check_all_read(recipe: Recipe) -> None:
    """Check that the training of a recipe's P5, POD or PEPLER reads every setting that differs from its default.

    Raises:
        RecipeError: It does not read one.
    """
    if recipe.generative is not None:
        name, read = recipe.generative.kind.upper(), _read_by_ids(recipe.generative)
    elif recipe.pepler is not None:
        name = "PEPLER"
        read = _STAGED | (_OF_NEWCOMERS if recipe.pepler.newcomer_steps else frozenset())
    else:
        return
    for key, value, default in _differing(recipe):
        if key in read or key.partition(".")[0] in read:
            continue
        if recipe.pepler is not None and _CONSTANT.get(key) == value:
            continue
        instead = _INSTEAD.get(key) if recipe.pepler is not None else None
        raise RecipeError(
            f"{key} is {_shown(value)}, which the training of {name} does not read; "
            f"{instead or 'leave it out'}" + (f", or at {_shown(default)}" if instead is None else "")
        )


def _read_by_ids(settings: AnyGenerativeSettings) -> frozenset[str]:
    return _STAGED | _OF_IDS | (_OF_CATEGORIES if "categories" in settings.families else frozenset())


def _differing(recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ from their defaults, each with both values."""
    plain = Recipe()
    for section in _SECTIONS:
        own, default = getattr(recipe, section), getattr(plain, section)
        for field in type(own).model_fields:
            value, usual = getattr(own, field), getattr(default, field, None)
            if value != usual:
                yield f"{section}.{field}", value, usual


def _shown(value: Any) -> str:
    return repr(getattr(value, "kind", value))
