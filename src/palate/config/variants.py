"""Variants of a recipe: seeds, and a grid of settings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.errors import RecipeError


@dataclass(frozen=True)
class Variant:
    """A recipe of a grid, with one seed."""

    name: str
    """Name of its run's folder: ``small-learning_rate=0.001-seed1``."""
    group: str
    """Its grid settings, shared by all seeds, ``learning_rate=0.001``; empty without a grid."""
    recipe: Recipe


def recipe_variants(
    path: Path | str, overrides: Sequence[str] = (), seeds: str | None = None, grid: Sequence[str] = ()
) -> list[Variant]:
    """Load a recipe for every combination of the grid's settings and every seed.

    Args:
        path: The recipe's file.
        overrides: Settings of all variants, as for :func:`palate.config.load.load_recipe`.
        seeds: Seeds, as in ``0,1,2``; the recipe's own if None.
        grid: Settings with their values, as in ``train.learning_rate=1e-3,3e-3``.

    Returns:
        The variants, grouped by combination.

    Raises:
        RecipeError: Seeds or grid cannot be parsed, two values are equal, or a variant is invalid.
    """
    axes = [_axis(text) for text in grid]
    keys = [key for key, _ in axes]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise RecipeError(f"--grid {repeated[0]} is given twice; give all its values at once")
    last = [key.split(".")[-1] for key in keys]
    short = [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]
    variants = []
    for values in product(*(values for _, values in axes)):
        given = [f"{key}={json.dumps(value)}" for key, value in zip(keys, values, strict=True)]
        group = "-".join(f"{name}={_written(value)}" for name, value in zip(short, values, strict=True))
        for seed in [None] if seeds is None else _seeds(seeds):
            chosen = given if seed is None else [*given, f"seed={seed}"]
            recipe = load_recipe(path, [*overrides, *chosen])
            parts = [recipe.name, group, f"seed{recipe.seed}"]
            variants.append(Variant("-".join(filter(None, parts)), group, recipe))
    return variants


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    key = key.strip()
    expected = "expected key=value,value, for example train.learning_rate=1e-3,3e-3"
    if not equals or not all(key.split(".")):
        raise RecipeError(f"--grid {text}: {expected}")
    if key == "seed":
        raise RecipeError("--grid seed: give seeds by --seeds")
    try:
        read = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        raise RecipeError(f"--grid {text}: {expected}") from None
    written = [json.dumps(value) for value in read]
    if len(read) < 2 or len(set(written)) < len(written):
        raise RecipeError(f"--grid {text}: found {len(set(written))} different values; {expected}")
    return key, read


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]+", part) for part in parts) or len(set(parts)) < len(parts):
        raise RecipeError(f"--seeds {text}: expected different whole numbers, for example 0,1,2")
    return [int(part) for part in parts]


def _written(value: Any) -> str:
    """Format a value as part of a folder name."""
    return re.sub(r"[^\w.+-]+", "_", value if isinstance(value, str) else json.dumps(value)).strip("_")
