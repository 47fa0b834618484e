"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from typer import Option

BackboneOption: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="FOLDER", help="Where the backbone of a run that did not save it lies now, if it has moved."
    ),
]
