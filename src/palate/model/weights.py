"""A model's weights on disk: all of them, or only its own beside a backbone that it does not change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file

from palate.errors import DataError, TrainingError
from palate.system.files import check_readable, replacing

if TYPE_CHECKING:
    from torch import Tensor

    from palate.model.model import PersonalizedModel

OF_THE_BACKBONE = "backbone."


def save_weights(model: PersonalizedModel, path: Path) -> None:
    """Write safetensors, tied weights once; of a backbone that was not trained whole no more than was trained.

    Raises:
        TrainingError: A weight is not a finite number; nothing is written.
    """
    kept = _each_once(model.state_dict()) if model.settings.backbone is None else _own(model)
    if broken := not_finite(kept):
        raise TrainingError(f"the weights {broken} hold numbers that are not finite; {path} is not written")
    with replacing(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in kept.items()}, partial)


def load_weights(model: PersonalizedModel, path: Path) -> None:
    """Read what :func:`save_weights` wrote.

    Raises:
        DataError: The file is another model's or damaged, or holds numbers that are not finite.
    """
    check_readable(path, "the weights are missing; copy the model again")
    try:
        if model.settings.backbone is None:
            load_model(model, str(path))
        else:
            _load_own(model, load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"not the weights of this model ({reason}); copy the model again", path) from error
    if broken := not_finite(_own(model)):
        raise DataError(
            f"the weights {broken} hold numbers that are not finite, so that it can answer nothing; train it again, "
            "with a lower train.learning_rate",
            path,
        )


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is not finite, if there is one."""
    return next((name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())), None)


def _each_once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights by their first name alone.

    safetensors' own ``save_model`` notes the other names in an order that changes from file to file.
    """
    first: dict[tuple[int, torch.Size], str] = {}
    for name in sorted(state):
        tensor = state[name]
        if tensor.numel():
            first.setdefault((tensor.data_ptr(), tensor.shape), name)
    return {name: state[name] for name in state if not state[name].numel() or name in first.values()}


def _own(model: PersonalizedModel) -> dict[str, Tensor]:
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in trained or not name.startswith(OF_THE_BACKBONE)
    }


def _load_own(model: PersonalizedModel, weights: dict[str, Tensor]) -> None:
    wrong = sorted(_own(model).keys() ^ weights.keys())
    if wrong:
        raise RuntimeError(f"{len(wrong)} weights are missing or unknown, the first {wrong[0]}")
    model.load_state_dict(weights, strict=False)
