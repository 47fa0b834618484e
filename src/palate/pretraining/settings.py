"""Settings of the pretraining."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from palate.config.recipe import UniversalSettings
from palate.config.section import Section
from palate.config.yaml_file import read_yaml
from palate.errors import RecipeError, faults
from palate.pretraining.language import LanguagePretraining


class NetworkPretraining(Section):
    """Pretraining of the universal network on random populations."""

    network: UniversalSettings = UniversalSettings()
    steps: int = Field(40_000, ge=1)
    """Number of optimizer steps."""
    batch_size: int = Field(256, ge=1)
    """Maximum number of windows per step, of several populations."""
    batch_cells: int = Field(2_500, ge=1)
    """Windows times categories per step, so that all steps cost alike."""
    epochs: int = Field(2, ge=1)
    """Times that a population's windows are read."""
    populations: int = Field(4, ge=1)
    """Populations of the same number of categories that are drawn at once."""
    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    averaging: float = Field(0.999, ge=0, lt=1)
    """Decay of the moving average of the weights."""
    seed: int = Field(0, ge=0)


class Pretraining(Section):
    """Contents of a recipe of ``palate pretrain``."""

    network: NetworkPretraining = NetworkPretraining()
    language: LanguagePretraining = LanguagePretraining()
    threads: int = Field(1, ge=1)
    """CPU threads: with as many on the same kind of processor, the weights are the same to the last bit."""

    @classmethod
    def load(cls, path: Path) -> Pretraining:
        """Read a recipe; raises :class:`RecipeError` if it cannot be read or a setting is unknown or invalid."""
        try:
            return cls.model_validate(read_yaml(path))
        except ValidationError as error:
            raise RecipeError(f"{path}: {faults(error)}") from None
