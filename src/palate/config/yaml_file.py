"""Safe YAML loading that rejects duplicate keys and what makes small files expand."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from palate.errors import RecipeError

LARGEST = 1 << 20
"""Bytes of the largest recipe that is read."""

LARGEST_INTEGER = (1 << 63) - 1


class _Loader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys, of which YAML would silently keep the last, and aliases.

    A few lines of aliases that name one another would expand to gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"aliases (*{event.anchor}) are not read; write the value itself",
                event.start_mark,
            )
        node: yaml.Node | None = super().compose_node(parent, index)
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


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_yaml(path: Path) -> dict[str, Any]:
    """Load a YAML file with a mapping at its top level; raises :class:`RecipeError` with the line of the error."""
    try:
        if path.stat().st_size > LARGEST:
            raise RecipeError(f"{path}: {path.stat().st_size:,} bytes are too many for a recipe")
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
    except (ValueError, RecursionError) as error:  # 2024-02-30 is written like a date, and is none
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise RecipeError(f"{origin}: not valid YAML: {reason}") from None
