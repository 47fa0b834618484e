"""Saving and loading of weights: of the whole model, or without the frozen weights of the backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file

from palate.errors import DataError, TrainingError
from palate.system.files import check_readable, replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from palate.model.model import PersonalizedModel

OF_THE_BACKBONE = "backbone."


def save_weights(model: PersonalizedModel, path: Path) -> None:
    """Save a model's weights as safetensors, tied weights once; of a backbone only the trained ones.

    Raises:
        TrainingError: A weight is not finite; nothing is written.
    """
    if model.settings.backbone is None:
        save_whole(model, path)
    else:
        _write(_own(model), path)


def save_whole(model: nn.Module, path: Path) -> None:
    """Save all weights of any module as :func:`save_weights` does."""
    _write(_each_once(model.state_dict()), path)


def load_weights(model: PersonalizedModel, path: Path) -> None:
    """Load a file of :func:`save_weights`.

    Raises:
        DataError: The file is of another model, corrupt, or has values that are not finite.
    """
    if model.settings.backbone is None:
        load_whole(model, path)
        return
    with _converting_errors(path):
        _load_own(model, load_file(path))
    _check_finite(_own(model), path)


def load_whole(model: nn.Module, path: Path) -> None:
    """Load a file of :func:`save_whole`; errors as in :func:`load_weights`."""
    with _converting_errors(path):
        load_model(model, str(path))
    _check_finite(model.state_dict(), path)


@contextmanager
def _converting_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading weights to :class:`DataError`."""
    check_readable(path, "the weights are missing; copy the model again")
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"not the weights of this model ({reason}); copy the model again", path) from error


def _check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    if broken := not_finite(weights):
        raise DataError(
            f"the weights {broken} hold numbers that are not finite, so that the model is unusable; train it again, "
            "with a lower train.learning_rate",
            path,
        )


def _write(weights: Mapping[str, Tensor], path: Path) -> None:
    if broken := not_finite(weights):
        raise TrainingError(f"the weights {broken} hold numbers that are not finite; {path} is not written")
    with replacing(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, partial)


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a value that is not finite, or None."""
    return next((name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())), None)


def _each_once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep only the first name of tied weights.

    safetensors' own ``save_model`` records the other names in an order that differs between files.
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
