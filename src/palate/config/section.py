"""Base classes of a recipe's sections, and validation of sections with several registered kinds."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from palate.errors import RecipeError
from palate.system.records import Frozen

if TYPE_CHECKING:
    from palate.config.registry import Registry

UNKNOWN_KIND = "unknown_kind"
"""Pydantic error type for a kind that is not registered."""


class Section(Frozen):
    """A part of a recipe."""


class KindSettings(Section):
    """Base class of the settings of a registered kind, such as a user encoder.

    Example:
        >>> class MeanSettings(palate.KindSettings):
        ...     scale: float = 1.0
        >>> MeanSettings(kind="mean").scale
        1.0
    """

    kind: str


@dataclass(frozen=True)
class OfKind:
    """Validator, for field annotations, that selects the settings class registered for the section's ``kind``."""

    registry: Registry[Any]

    def __call__(self, value: Any) -> Any:
        """Validate a mapping; settings of a registered kind are returned as they are."""
        kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
        if kind is None:
            raise PydanticCustomError(
                UNKNOWN_KIND,
                "needs a kind; expected one of {kinds}",
                {"kinds": ", ".join(map(repr, self.registry.kinds))},
            )
        try:
            settings = self.registry.find(str(kind)).settings
        except RecipeError as error:
            raise PydanticCustomError(UNKNOWN_KIND, "{said}", {"said": str(error)}) from None
        return value if isinstance(value, settings) else settings.model_validate(value)

    @property
    def sections(self) -> list[type[BaseModel]]:
        """Settings classes of all registered kinds."""
        return [self.registry.find(kind).settings for kind in self.registry.kinds]


def sections_of(field: FieldInfo) -> list[type[BaseModel]]:
    """List the pydantic models of a section's field, one per kind; empty for a plain setting."""
    for marker in field.metadata:
        if isinstance(validate := getattr(marker, "func", None), OfKind):
            return validate.sections
    annotation = field.annotation
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
