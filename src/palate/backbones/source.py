"""Where a saved model's backbone comes from, without loading it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from palate.config.recipe import CausalSettings, PretrainedT5Settings

FRAME = "frame.json"
"""In a decoder-only backbone's folder."""
ELSEWHERE = "say where it lies now: --backbone FOLDER, or load_model(run, backbone=FOLDER)"


class BackboneSource(BaseModel):
    """Where the backbone of a model that saves only its own weights is had from, and what it must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Annotated[PretrainedT5Settings | CausalSettings, Field(discriminator="kind")]
    digest: str
    """sha256 of its weights as they were loaded."""
