"""Registers palate's own user encoders. Their modules are imported when one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palate.config import ResamplerSettings, StreamingSettings, TextSettings, UEMSettings
from palate.registry import UserEncoderKind, user_encoders

if TYPE_CHECKING:
    from torch import nn

    from palate.model.user_encoder import EncoderSizes


def _uem(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.model.user_encoder import UEM

    return UEM(settings, sizes)


def _resampler(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.model.resampler import ResamplerEncoder

    return ResamplerEncoder(settings, sizes)


def _streaming(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.model.streaming import StreamingEncoder

    return StreamingEncoder(settings, sizes)


user_encoders.register("uem", UserEncoderKind(UEMSettings, _uem))
user_encoders.register("resampler", UserEncoderKind(ResamplerSettings, _resampler))
user_encoders.register("streaming", UserEncoderKind(StreamingSettings, _streaming))
user_encoders.register("text", UserEncoderKind(TextSettings, None))
