"""Paths in settings: expansion of ``~``, and absolute paths for stored recipes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import AfterValidator

if TYPE_CHECKING:
    from palate.config.recipe import Recipe


def at_home(path: Path) -> Path:
    """Expand a leading ``~``; raises ValueError if there is no home folder."""
    try:
        return path.expanduser()
    except RuntimeError as error:  # "~nobody"
        raise ValueError(f"has no home folder to start from ({error}); write the path in full") from None


def _name_at_home(name: str) -> str:
    return str(at_home(Path(name))) if name.startswith("~") else name


PACKAGED = "packaged"
"""Name of the packaged model, in place of a run's folder."""
LocalPath: TypeAlias = Annotated[Path, AfterValidator(at_home)]
"""A local path, relative to the working directory."""
LocalName: TypeAlias = Annotated[str, AfterValidator(_name_at_home)]
"""A hub name or a local path."""


def rooted(recipe: Recipe) -> Recipe:
    """Make the paths of a recipe absolute, so that they do not depend on the working directory.

    Hub names are kept, unless a file or folder of that name exists.
    """
    return _with_places(recipe, _rooted, _rooted_name)


def shareable(recipe: Recipe, data_name: str) -> Recipe:
    """Leave out of a recipe where files lie on this machine: of the data its name stays, of a folder its last part."""
    recipe = _with_places(
        recipe,
        lambda path: Path(path.name),
        lambda name: Path(name).name if Path(name).is_absolute() else name,
    )
    items = recipe.items.model_copy(update={"cache": None})
    data = recipe.data.model_copy(update={"path": Path("data") / data_name})
    return recipe.model_copy(update={"data": data, "items": items})


def _with_places(recipe: Recipe, path: Callable[[Path], Path], name: Callable[[str], str]) -> Recipe:
    """Replace the paths of a recipe, and the names that may be paths."""
    items, model = recipe.items, recipe.model
    items = items.model_copy(
        update={"encoder": name(items.encoder), "cache": None if items.cache is None else path(items.cache)}
    )
    source, backbone = model.user_encoder_from, model.backbone
    if (named := getattr(backbone, "name", None)) is not None:
        backbone = backbone.model_copy(update={"name": name(named)})
    start = model.start
    model = model.model_copy(
        update={
            "backbone": backbone,
            "user_encoder_from": None if source is None else path(source),
            "start": start if start in (None, PACKAGED) else name(start),
        }
    )
    data, pepler = recipe.data.model_copy(update={"path": path(recipe.data.path)}), recipe.pepler
    if pepler is not None and (named := getattr(pepler.backbone, "name", None)) is not None:
        of_pepler = pepler.backbone.model_copy(update={"name": name(named)})
        pepler = pepler.model_copy(update={"backbone": of_pepler})
    return recipe.model_copy(update={"data": data, "items": items, "model": model, "pepler": pepler})


def _rooted(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, whose targets may change


def _rooted_name(name: str) -> str:
    return str(_rooted(Path(name))) if Path(name).exists() else name
