"""Loads recipes from YAML files with inheritance (``extends``) and overrides (``--set``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from palate.config.recipe import Recipe
from palate.config.renames import RECIPE, renamed
from palate.config.section import UNKNOWN_KIND, sections_of
from palate.config.yaml_file import parse_yaml, read_yaml
from palate.errors import OldKeyError, RecipeError, fault_message


class Layer(NamedTuple):
    """A mapping of settings that overrides the layers before it."""

    origin: str
    """The source of the settings, as named in errors."""
    settings: Mapping[str, Any]


Names: TypeAlias = tuple[str, ...]
"""A dotted key, split at the dots."""


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe from a YAML file.

    Settings are merged in this order, later ones taking precedence: defaults, the recipes that the file ``extends``,
    the file, the overrides. Sections are merged key by key, except that a section of another ``kind`` replaces the
    previous one. The order of the overrides does not matter.

    Args:
        path: The YAML file. ``extends: other.yaml`` in it is relative to the file.
        overrides: Dotted keys with YAML values, such as ``train.max_steps=500``.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: The file cannot be read, keys are unknown, values are invalid (all are named), or overrides
            contradict each other.
        OldKeyError: A key has been renamed; the message has the new name.

    Example:
        >>> recipe = palate.load_recipe("recipe.yaml", ["train.max_steps=500"])
        >>> recipe.train.max_steps
        500
    """
    return recipe_from(_file_layers(Path(path)), [_override(text) for text in overrides])


def recipe_from(layers: Sequence[Layer], overrides: Sequence[Layer] = ()) -> Recipe:
    """Merge settings into the defaults and validate the result.

    Args:
        layers: Settings; later ones override earlier ones.
        overrides: Settings that override the layers; their order does not matter.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: Keys are unknown, values are invalid (all are named), or overrides contradict each other.
        OldKeyError: A key has been renamed; the message has the new name.
    """
    merged: dict[str, Any] = Recipe().model_dump(mode="json")
    for settings in (*(layer.settings for layer in layers), _joined(overrides)):
        merged = _merge(merged, settings, Recipe)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise _recipe_error(error, merged, [*layers, *overrides]) from None


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML with every setting; :func:`load_recipe` restores an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def differing_keys(one: Recipe, other: Recipe) -> list[str]:
    """List the dotted keys whose values differ, in recipe order."""
    left, right = (_flatten(recipe.model_dump(mode="json")) for recipe in (one, other))
    keys = list(left) + [key for key in right if key not in left]
    return [key for key in keys if left.get(key) != right.get(key) or (key in left) != (key in right)]


def _file_layers(path: Path, above: tuple[Path, ...] = ()) -> list[Layer]:
    settings = dict(read_yaml(path))  # first: resolve() would loop on a symlink to itself
    if path.resolve() in above:
        raise RecipeError(f"{path}: extends itself, through {above[-1].name}; remove one 'extends'")
    extended = settings.pop("extends", None)
    if extended is None:
        return [Layer(str(path), settings)]
    if not isinstance(extended, str):
        raise RecipeError(f"{path}: 'extends' is {extended!r}, expected the path of one recipe")
    return [*_file_layers(path.parent / extended, (*above, path.resolve())), Layer(str(path), settings)]


def _override(text: str) -> Layer:
    key, equals, value = text.partition("=")
    names = tuple(key.strip().split("."))
    if not equals or not all(names):
        raise RecipeError(f"--set {text}: expected key=value, for example train.max_steps=500")
    return Layer(f"--set {text}", _nested([(names, parse_yaml(value, f"--set {text}"))]))


def _joined(overrides: Sequence[Layer]) -> dict[str, Any]:
    """Merge the overrides, independently of their order; raises :class:`RecipeError` if two contradict each other."""
    said: dict[Names, tuple[Any, str]] = {}
    for origin, settings in overrides:
        for names, value in _leaves(settings):
            for known, (other, whose) in said.items():
                shared = min(len(known), len(names))
                if known[:shared] == names[:shared] and (known != names or other != value):
                    raise RecipeError(f"{whose} and {origin} contradict each other; give one of them")
            said[names] = value, origin
    return _nested([(names, value) for names, (value, _) in said.items()])


def _leaves(settings: Mapping[str, Any], above: Names = ()) -> Iterator[tuple[Names, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(name)))
        else:
            yield (*above, str(name)), value


def _nested(leaves: Iterable[tuple[Names, Any]]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for (*sections, name), value in leaves:
        section = settings
        for above in sections:
            section = section.setdefault(above, {})
        section[name] = value
    return settings


def _merge(
    base: Mapping[str, Any], change: Mapping[str, Any], model: type[BaseModel] | None
) -> dict[str, Any]:
    """Merge settings key by key; a section with another ``kind`` replaces the existing one.

    ``model`` describes the section. Only a section with one model per kind is replaced: a ``kind`` among other
    settings, as in ``windows``, is a plain setting.
    """
    merged = dict(base)
    for key, value in change.items():
        old = base.get(key)
        field = None if model is None else model.model_fields.get(key)
        kinds = [] if field is None else sections_of(field)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            merged[key] = value
        elif len(kinds) > 1 and value.get("kind", old.get("kind")) != old.get("kind"):
            merged[key] = dict(value)  # the old kind's settings do not apply to the new one
        else:
            merged[key] = _merge(old, value, _of_kind(kinds, old.get("kind")))
    return merged


def _of_kind(kinds: Sequence[type[BaseModel]], kind: object) -> type[BaseModel] | None:
    """Return the pydantic model of a section, selected by kind if there are several; None if there is none."""
    if len(kinds) == 1:
        return kinds[0]
    named = (one for one in kinds if "kind" in one.model_fields and one.model_fields["kind"].default == kind)
    return next(named, None)


def _recipe_error(error: ValidationError, merged: dict[str, Any], layers: Sequence[Layer]) -> RecipeError:
    """Format all validation errors, grouped by source, unknown keys first: a typo may explain the others."""
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    by_origin: dict[str, list[str]] = {}
    for problem in problems:
        names = _names(problem["loc"], merged)
        origin = next((origin for origin, settings in reversed(layers) if _has(settings, names)), None)
        described = _describe(problem, names, merged)
        by_origin.setdefault(origin or layers[0].origin, []).append(described)
    message = "; ".join(f"{origin}: {'; '.join(found)}" for origin, found in by_origin.items())
    old = any(renamed(".".join(_names(problem["loc"], merged)), RECIPE) for problem in problems)
    return OldKeyError(message) if old else RecipeError(message)


def _describe(problem: ErrorDetails, names: Sequence[str], merged: dict[str, Any]) -> str:
    key = ".".join(names)
    if problem["type"] == "extra_forbidden":
        if said := renamed(key, RECIPE):
            return said
        return f"unknown key '{key}'; {_suggestion(names, merged)}"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        return f"'{key}.kind' is {context['tag']!r}, expected one of {context['expected_tags']}"
    if problem["type"] == UNKNOWN_KIND:
        return f"'{key}.kind': {problem['msg']}"
    message = fault_message(problem)
    if not key:
        return message
    found = repr(problem["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    return f"'{key}' is {found}, {message}"


def _suggestion(names: Sequence[str], merged: dict[str, Any]) -> str:
    key = ".".join(names)
    known = dict.fromkeys(_known_keys(Recipe))
    if key in known:  # a setting of another kind of the section
        section = _flatten(merged).get(".".join((*names[:-1], "kind")))
        return f"kind '{section}' has no such setting"
    others = [one for one in known if not key.startswith(f"{one}.")]  # not its own section
    if close := difflib.get_close_matches(key, others, n=1):
        return f"did you mean '{close[0]}'?"
    prefix = ".".join((*names[:-1], ""))
    here = dict.fromkeys(one.removeprefix(prefix).split(".")[0] for one in known if one.startswith(prefix))
    return f"known keys here: {', '.join(here)}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """List every valid dotted key, over all kinds of each section."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in sections_of(field):
            yield from _known_keys(section, f"{prefix}{name}.")


def _names(location: tuple[int | str, ...], merged: Any) -> list[str]:
    """Map pydantic's error location to the recipe's key, without the kinds that pydantic inserts."""
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
