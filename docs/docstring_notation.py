"""Reads docstrings for the site: "Example:" as doctests, and Sphinx's roles as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([\w.]+)`")


class DocstringNotation(griffe.Extension):
    """Changes what griffe reads, which knows "Examples:" alone and no roles; the files stay as they are."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the notation of one docstring."""
        if obj.docstring is not None:
            text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
            obj.docstring.value = _ROLE.sub(r"`\1`", text)
