"""Lookup of a model by its run, with the dataset that a model without its own catalogue is bound to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palate.data.dataset import Dataset, load_dataset
from palate.errors import MismatchError
from palate.model.config import PersonalizedSettings, check_model

if TYPE_CHECKING:
    import torch

    from palate.model.model import PersonalizedModel


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model that has been checked, but not loaded."""

    run: Path | str
    settings: PersonalizedSettings
    """Configuration of the model, bound to ``dataset``."""
    dataset: Dataset | None
    """The dataset to bind the model to; None for a model that is already bound or has its own catalogue."""
    backbone: str | None

    def load(self, device: str | torch.device = "auto", constrained: bool | None = None) -> PersonalizedModel:
        """Load the model and bind it to the dataset; raises the errors of :func:`palate.load_model`."""
        from palate.model.model import load_model

        return load_model(self.run, self.backbone, data=self.dataset, device=device, constrained=constrained)


def find_model(
    run: Path | str, backbone: str | None = None, data: Dataset | Path | str | None = None
) -> NamedModel:
    """Find a model without loading its weights.

    Args:
        run: A run's folder, one of ``save_pretrained``, or ``packaged``.
        backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.
        data: Dataset or its folder, for a model without its own catalogue; ignored for others.

    Returns:
        The model.

    Raises:
        DataError: The model or the dataset is missing or incomplete.
        MismatchError: The model is not bound and ``data`` is None, or the backbone's folder is missing.
    """
    settings = check_model(run, backbone)
    if not settings.binds or (data is None and not settings.unbound):
        return NamedModel(run, settings, None, backbone)
    if data is None:
        raise MismatchError(f"the model {str(run)!r} has no catalogue of its own; name a dataset with --data")
    dataset = data if isinstance(data, Dataset) else load_dataset(Path(data).expanduser())
    if settings.data_fingerprint == dataset.info.fingerprint:
        return NamedModel(run, settings, None, backbone)
    return NamedModel(run, settings.over(dataset.info), dataset, backbone)
