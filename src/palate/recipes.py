"""Recipes from YAML: what a file extends, what ``--set`` changes, and errors that name the key at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from palate.config import Recipe
from palate.errors import RecipeError
from palate.yaml_file import parse_yaml, read_yaml

Layer: TypeAlias = tuple[str, dict[str, Any]]
"""Where settings come from, as an error should name it, and the settings."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: defaults, then what it extends, then the file, then overrides like ``train.steps=500``.

    A file may say ``extends: other.yaml``, relative to itself. Sections merge key by key, except that one of
    another ``kind`` replaces what was there. Raises :class:`RecipeError` for a file that cannot be read, an
    unknown key, or a value that is not allowed.
    """
    return _validated(_file_layers(Path(path)) + [_override_layer(text) for text in overrides])


def recipe_from(settings: dict[str, Any], origin: str) -> Recipe:
    """The recipe of settings that are not in a file; ``origin`` is what an error calls them."""
    return _validated([(origin, settings)])


def _validated(layers: Sequence[Layer]) -> Recipe:
    merged: dict[str, Any] = Recipe().model_dump(mode="json")
    for _, settings in layers:
        merged = merge(merged, settings)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise _recipe_error(error, merged, layers) from None


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML with every setting written out; :func:`load_recipe` reads the same recipe from it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def differing_keys(one: Recipe, other: Recipe) -> list[str]:
    """The dotted keys whose values differ, in the order of the recipe."""
    left, right = (_flatten(recipe.model_dump(mode="json")) for recipe in (one, other))
    keys = list(left) + [key for key in right if key not in left]
    return [key for key in keys if left.get(key) != right.get(key) or (key in left) != (key in right)]


def _file_layers(path: Path, above: tuple[Path, ...] = ()) -> list[Layer]:
    if path.resolve() in above:
        raise RecipeError(f"{path}: extends itself, by way of {above[-1].name}; a recipe cannot do that")
    settings = dict(read_yaml(path))
    extended = settings.pop("extends", None)
    if extended is None:
        return [(str(path), settings)]
    if not isinstance(extended, str):
        raise RecipeError(f"{path}: 'extends' is {extended!r}, expected the path of one recipe")
    return [*_file_layers(path.parent / extended, (*above, path.resolve())), (str(path), settings)]


def _override_layer(text: str) -> Layer:
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"--set {text}: expected key=value, for example train.steps=500")
    settings: Any = parse_yaml(value, f"--set {text}")
    for name in reversed(names):
        settings = {name: settings}
    return f"--set {text}", settings


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others laid over them, key by key; a section of another ``kind`` replaces what was there."""
    if "kind" in change and change["kind"] != base.get("kind"):
        return dict(change)  # the old kind's settings mean nothing to the new one
    merged = dict(base)
    for key, value in change.items():
        old = base.get(key)
        merged[key] = merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged


def _recipe_error(error: ValidationError, merged: dict[str, Any], layers: Sequence[Layer]) -> RecipeError:
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")  # a typo explains the rest
    first = problems[0]
    names = _names(first["loc"], merged)
    origin = next((origin for origin, settings in reversed(layers) if _has(settings, names)), layers[0][0])
    more = "" if len(problems) == 1 else f" (and {len(problems) - 1} more)"
    return RecipeError(f"{origin}: {_describe(first, names, merged)}{more}")


def _describe(problem: ErrorDetails, names: Sequence[str], merged: dict[str, Any]) -> str:
    key = ".".join(names)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {_suggestion(names, merged)}"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        return f"'{key}.kind' is {context['tag']!r}, expected one of {context['expected_tags']}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "expected a section with keys of its own"
    if not key:
        return message
    found = repr(problem["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    return f"'{key}' is {found}, {message.replace('Input should be', 'expected')}"


def _suggestion(names: Sequence[str], merged: dict[str, Any]) -> str:
    key = ".".join(names)
    known = dict.fromkeys(_known_keys(Recipe))
    if key in known:  # of another kind of the same section
        section = _flatten(merged).get(".".join((*names[:-1], "kind")))
        return f"kind '{section}' has no such setting"
    others = [one for one in known if not key.startswith(f"{one}.")]  # not the section that it stands in
    if close := difflib.get_close_matches(key, others, n=1):
        return f"did you mean '{close[0]}'?"
    prefix = ".".join((*names[:-1], ""))
    here = dict.fromkeys(one.removeprefix(prefix).split(".")[0] for one in known if one.startswith(prefix))
    return f"known keys here: {', '.join(here)}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that some recipe may have, over all kinds of a section."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            yield from _known_keys(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> list[type[BaseModel]]:
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]


def _names(location: tuple[int | str, ...], merged: Any) -> list[str]:
    """The key as the recipe's author wrote it: pydantic puts the kind of a section between."""
    names = []
    for part in location:
        if isinstance(merged, Mapping) and part in merged:
            merged = merged[part]
            names.append(str(part))
    return names


def _has(settings: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(settings, Mapping) or name not in settings:
            return False
        settings = settings[name]
    return bool(names)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
