"""The ``palate pretrain`` command: makes a model without its own catalogue, such as the packaged one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell


def pretrain(
    recipe: Annotated[
        Path, Argument(help="Recipe, a YAML file such as recipes/pretrain.yaml of the repository.")
    ],
    out: Annotated[Path, Option(help="New folder for the model.")],
) -> None:
    """Make a model without its own catalogue, such as the packaged one, from simulated populations and names."""
    from palate.pretraining.settings import Pretraining

    settings = Pretraining.load(recipe)
    from palate.pretraining.pretrain import pretrain as make

    make(settings, out, tell)
    show(str(out))
