"""Renamed keys and options, and the messages that give the new names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SIZES = {"width": "d_model", "layers": "num_layers", "heads": "num_heads", "feed_forward": "d_ff"}
_ENCODER = {**_SIZES, "head_size": "d_kv", "queries": "num_queries", "most_tokens": "max_length"}
_BACKBONE = {**_SIZES, "radius": "local_radius", "vocabulary": "vocab_size", "lora_rank": "lora_r"}
_TASK = {"least_count": "min_count", "most_labels": "max_labels"}
_TRAIN = {
    "steps": "max_steps",
    "minutes": "max_minutes",
    "batch_size": "per_device_train_batch_size",
    "accumulate": "gradient_accumulation_steps",
    "optimizer": "optim",
    "schedule": "lr_scheduler_type",
    "warmup": "warmup_ratio",
    "clip_norm": "max_grad_norm",
    "precision": "bf16",
    "auxiliary": "auxiliary_weight",
    "auxiliary_alone": "auxiliary_only_ratio",
    "evaluate_every": "eval_steps",
    "evaluate_users": "eval_users",
    "evaluate_windows": "eval_windows",
    "patience": "early_stopping_patience",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_VALUES = {"train.optim": "adamw_torch or adafactor", "train.bf16": "true or false"}


def _under(section: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{section}.{old}": f"{section}.{new}" for old, new in names.items()}


RECIPE = {
    **_under("train", _TRAIN),
    **_under("evaluate", {"most_new_tokens": "max_new_tokens"}),
    **_under("task", _TASK),
    **_under("items", {"max_tokens": "max_seq_length"}),
    **_under("model.backbone", _BACKBONE),
    **_under("model.user_encoder", _ENCODER),
}
"""Dotted keys of a recipe."""
MODEL = {
    "most_new_tokens": "max_new_tokens",
    **_under("task", _TASK),
    **_under("user_encoder", _ENCODER),
    **_under("backbone.settings", {"lora_rank": "lora_r"}),
    **_under("training", {"planned_steps": "max_steps", "minutes": "max_minutes"}),
}
"""Dotted keys of a saved model's ``config.json``."""
ITEM_TABLE = {"encoder.max_tokens": "encoder.max_seq_length"}
"""Dotted keys of an item table's ``items.json``."""
DATASET = {"least_ratings": "min_ratings"}
"""Keys of a dataset's ``dataset.json``."""
PREPARE = {"most_categories": "max_categories"}
"""Keys of the settings file of ``palate prepare``."""
OPTIONS = {"--least-ratings": "--min-ratings", "--most-categories": "--max-categories"}
"""Options of the command line."""


def renamed(old: str, names: Mapping[str, str]) -> str | None:
    """Format the message for a renamed key or option; None if it has not been renamed."""
    if (new := names.get(old)) is None:
        return None
    values = _VALUES.get(new)
    return f"{old} is now {new}" + (f" ({values})" if values else "")


def renamed_keys(error: BaseException | None, names: Mapping[str, str], tags: Sequence[str] = ()) -> str:
    """List the renamed keys among the unknown fields of a validation error.

    Args:
        error: The validation error of a file; any other error has none.
        names: The file's table of renames.
        tags: Kinds that pydantic inserts into an error's location and the file does not contain.

    Returns:
        One message per renamed key, joined by "; "; empty if there is none.
    """
    from pydantic import ValidationError  # the command line starts without it

    if not isinstance(error, ValidationError):
        return ""
    unknown = (fault["loc"] for fault in error.errors() if fault["type"] in _UNKNOWN)
    keys = (".".join(str(part) for part in place if part not in tags) for place in unknown)
    return "; ".join(filter(None, (renamed(key, names) for key in keys)))
