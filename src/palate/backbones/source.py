"""Where a saved model's backbone comes from, without loading it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from palate.config.recipe import CausalSettings, PretrainedT5Settings
from palate.system.records import Frozen

FRAME = "frame.json"
"""In a decoder-only backbone's folder."""
ELSEWHERE = "say where it lies now: --backbone FOLDER, or load_model(run, backbone=FOLDER)"


class BackboneSource(Frozen):
    """Where the backbone of a model that saves only its own weights is had from, and what it must be."""

    settings: Annotated[PretrainedT5Settings | CausalSettings, Field(discriminator="kind")]
    digest: str
    """sha256 of its weights as they were loaded."""
