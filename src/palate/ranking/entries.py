"""Rankers by name, with settings like ``item-knn:decay=0.8``, and the settings that tuning tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from palate.config import registry
from palate.config.section import KindSettings
from palate.errors import RecipeError, did_you_mean, fault_message


@dataclass(frozen=True)
class RankerEntry:
    """A ranker to compare: its name, its kind and the settings to choose from."""

    name: str
    kind: registry.RankerKind
    settings: tuple[KindSettings, ...]


def find_entry(text: str, trials: int) -> RankerEntry:
    """Look up a ranker.

    Args:
        text: Its kind, or its kind with settings: ``item-knn:decay=0.8,shrinkage=20``. Given settings are not tuned.
        trials: How many settings tuning may try.

    Raises:
        RecipeError: There is no such kind or setting, or a value is invalid.
    """
    name, colon, given = text.partition(":")
    kind = registry.rankers.find(name)
    if not colon:
        tried = kind.trials[:trials]
        return RankerEntry(text, kind, tuple(kind.settings.model_validate(dict(one)) for one in tried))
    return RankerEntry(text, kind, (_settings(name, kind.settings, given),))


def settings_in_words(settings: KindSettings) -> str:
    """Write settings as they are given: ``shrinkage=5, decay=0.5``."""
    return written_settings(settings.model_dump(exclude={"kind"}))


def written_settings(values: Mapping[str, Any]) -> str:
    """Write the values of settings as they are given."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _settings(name: str, settings: type[KindSettings], given: str) -> KindSettings:
    values: dict[str, Any] = {}
    known = [key for key in settings.model_fields if key != "kind"]
    for part in given.split(","):
        key, equals, value = (side.strip() for side in part.partition("="))
        if not equals or key not in known:
            there = f"the settings are {', '.join(known)}" if known else "it has no settings"
            raise RecipeError(
                f"{name}: found {part.strip()!r}, expected setting=value; {there}{did_you_mean(key, known)}"
            )
        values[key] = value
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {fault_message(one)}" for one in error.errors())
        raise RecipeError(f"{name}: {said}") from None
