"""Registers palate's user encoders and builds one of any kind; their modules are imported when one is built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palate.config.recipe import (
    EquippedSettings,
    MLPSettings,
    PooledSettings,
    ResamplerSettings,
    StreamingSettings,
    TextSettings,
    UEMSettings,
    UniversalSettings,
)
from palate.config.registry import UserEncoderKind, user_encoders

if TYPE_CHECKING:
    from torch import nn

    from palate.encoders.base import EncoderSizes


def _uem(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.uem import UEM

    return UEM(settings, sizes)


def _resampler(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.resampler import ResamplerEncoder

    return ResamplerEncoder(settings, sizes)


def _mlp(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.adapters import MLPAdapter

    return MLPAdapter(settings, sizes)


def _pooled(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.adapters import PooledEncoder

    return PooledEncoder(settings, sizes)


def _equipped(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.equipped import EquippedEncoder

    narrow = replace(sizes, fields=1, vector=settings.d_model)
    return EquippedEncoder(settings, sizes, build_user_encoder(settings.encoder, narrow))


def _streaming(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.streaming import StreamingEncoder

    return StreamingEncoder(settings, sizes)


def _universal(settings: Any, sizes: EncoderSizes) -> nn.Module:
    from palate.encoders.catalogue_free import UniversalEncoder

    return UniversalEncoder(settings, sizes)


user_encoders.register("uem", UserEncoderKind(UEMSettings, _uem))
user_encoders.register("resampler", UserEncoderKind(ResamplerSettings, _resampler))
user_encoders.register("mlp", UserEncoderKind(MLPSettings, _mlp))
user_encoders.register("pooled", UserEncoderKind(PooledSettings, _pooled))
user_encoders.register("equipped", UserEncoderKind(EquippedSettings, _equipped, "vectors and categories"))
user_encoders.register("streaming", UserEncoderKind(StreamingSettings, _streaming))
user_encoders.register("universal", UserEncoderKind(UniversalSettings, _universal, "categories"))
user_encoders.register("text", UserEncoderKind(TextSettings, None, "texts"))


def build_user_encoder(settings: Any, sizes: EncoderSizes) -> nn.Module:
    """Build a randomly initialised user encoder of a registered kind."""
    build = user_encoders.find(settings.kind).build
    assert build is not None, "a text history has no user encoder"
    return build(settings, sizes)
