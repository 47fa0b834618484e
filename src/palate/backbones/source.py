"""Source of a saved model's backbone, without loading it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from palate.config.recipe import CausalSettings, PretrainedT5Settings
from palate.system.records import Frozen

FRAME = "frame.json"
"""File of the frame in a decoder-only backbone's folder."""
ELSEWHERE = "say where it lies now: --backbone FOLDER, or load_model(run, backbone=FOLDER)"


class BackboneSource(Frozen):
    """Source of a backbone that is not saved with the model, and the digest of its weights."""

    settings: Annotated[PretrainedT5Settings | CausalSettings, Field(discriminator="kind")]
    digest: str
    """sha256 of the loaded weights."""
