"""The ``palate encode-items`` command: fills the cache of item vectors before a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, watched
from palate.cli.options import DeviceOption, EngineOption, WorkersOption


def encode_items(
    recipe: Annotated[
        Path, Argument(metavar="RECIPE", help="Recipe whose dataset and item encoder are used.")
    ],
    override: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.")
    ] = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
) -> None:
    """Encode a recipe's item texts into the cache that its training reads, with one or several processes."""
    from palate.config.load import load_recipe
    from palate.data.dataset import load_dataset
    from palate.items.shards import encode_by_shards
    from palate.items.table import item_texts_of
    from palate.items.texts import texts_for
    from palate.system.engines import shard_engine
    from palate.system.places import rooted
    from palate.system.progress import counting_bar
    from palate.words import counted

    settings = rooted(load_recipe(recipe, override or ()))
    dataset = load_dataset(settings.data.path)
    texts = item_texts_of(dataset, texts_for(dataset.info, settings.items.texts))
    with counting_bar("encoding item texts", watched()) as progress, shard_engine(engine, workers) as others:
        new = encode_by_shards(settings.items, texts, others, device, progress)
    show(f"{counted(len(texts), 'text')} in the cache, {new:,} of them newly encoded")
