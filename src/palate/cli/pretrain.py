"""``palate pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell


def pretrain(
    recipe: Annotated[
        Path, Argument(help="The recipe, a YAML file, such as recipes/pretrain.yaml of the repository.")
    ],
    out: Annotated[Path, Option(help="Folder of the model, which must not exist.")],
) -> None:
    """Make a model that knows no catalogue, such as the packaged one, from random populations and names alone."""
    from palate.pretraining.settings import Pretraining

    settings = Pretraining.load(recipe)
    from palate.pretraining.pretrain import pretrain as make

    make(settings, out, tell)
    show(str(out))
