"""Safe YAML loading that rejects duplicate keys and alias bombs."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from palate.errors import RecipeError

LARGEST = 1 << 20
"""Maximum size of a recipe file in bytes."""

MOST_NODES = 100_000
"""Maximum number of values, keys and sections of a recipe, after expanding aliases."""
LARGEST_INTEGER = (1 << 63) - 1


class _Loader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys, of which YAML silently keeps the last, and alias bombs.

    A few lines of nested aliases can expand to gigabytes.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded(node, {}) > MOST_NODES:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "its aliases (*name) expand to too many values; write the values themselves",
                node.start_mark,
            )
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value: int = super().construct_yaml_int(node)
        if abs(value) > LARGEST_INTEGER:
            raise yaml.constructor.ConstructorError(
                None, None, "an integer has at most 64 bits", node.start_mark
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' occurs twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _expanded(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    """Count the nodes in a node, with aliases expanded; more than :data:`MOST_NODES` for a recursive one."""
    if node not in counted:
        counted[node] = MOST_NODES + 1  # the value found by a recursive alias, before the count is known
        inner: list[Any] = [] if isinstance(node, yaml.ScalarNode) else list(node.value)
        parts = (part for one in inner for part in (one if isinstance(one, tuple) else (one,)))
        counted[node] = 1 + sum(_expanded(part, counted) for part in parts)
    return counted[node]


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_yaml(path: Path) -> dict[str, Any]:
    """Load a YAML file with a mapping at its top level; raises :class:`RecipeError` with the line of the error."""
    try:
        if path.stat().st_size > LARGEST:
            raise RecipeError(
                f"{path}: {path.stat().st_size:,} bytes, expected a recipe of at most {LARGEST:,}"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: expected UTF-8 text") from None
    settings = parse_yaml(text, str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise RecipeError(f"{path}: found {type(settings).__name__}, expected settings like 'seed: 0'")
    return settings


def parse_yaml(text: str, origin: str) -> Any:
    """Parse YAML; raises :class:`RecipeError`, whose message starts with ``origin`` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise RecipeError(f"{origin}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not valid YAML: {error}") from None
    except (ValueError, RecursionError) as error:  # 2024-02-30 looks like a date but is invalid
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise RecipeError(f"{origin}: not valid YAML: {reason}") from None
