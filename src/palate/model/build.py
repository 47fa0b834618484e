"""A new model from a recipe, a dataset and its item table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.config import RandomT5Settings, Recipe, TextSettings
from palate.items.blocks import BlockTable, build_block_table
from palate.items.encoder import ItemEncoder, Progress
from palate.items.probe import category_probe
from palate.items.table import ItemTable, build_item_table
from palate.items.texts import dataset_items, texts_for
from palate.model.backbone import Backbone
from palate.model.events import Catalogue
from palate.model.loading import BackboneSource, load_backbone
from palate.model.personalized import PersonalizedModel, Table
from palate.model.settings import PersonalizedSettings
from palate.model.streaming import StreamingEncoder
from palate.model.t5 import random_t5
from palate.model.user_encoder import UEM
from palate.schema import Ints, Preferences

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.base import Task


def build_model(recipe: Recipe, dataset: Dataset, task: Task, table: Table) -> PersonalizedModel:
    """The recipe's model before training; its user encoder starts from the catalogue where it can."""
    torch.manual_seed(recipe.seed)
    settings = recipe.model.backbone
    source: BackboneSource | None = None
    if isinstance(settings, RandomT5Settings):
        backbone = random_t5(settings, _tokenizer_texts(settings, dataset, task, table))
    else:
        backbone, source = load_backbone(settings)
    config = PersonalizedSettings(
        user_encoder=recipe.model.user_encoder,
        task_prompt=recipe.model.task_prompt,
        window=recipe.windows.longest,
        most_new_tokens=recipe.evaluate.most_new_tokens,
        instruction=task.instruction,
        task=recipe.task,
        category_field=dataset.info.category_field,
        categories=dataset.categories,
        data_name=dataset.info.name,
        data_fingerprint=dataset.info.fingerprint,
        like_tokens=recipe.model.like_tokens,
        backbone=source,
    )
    model = PersonalizedModel(config, backbone, table)
    if isinstance(model.user_encoder, StreamingEncoder) and isinstance(table, ItemTable):
        _start_queries(model.user_encoder, dataset, table, backbone)
    if isinstance(model.user_encoder, UEM) and isinstance(table, ItemTable):
        _start_stream(model.user_encoder, dataset, table)
    return model


def build_table(recipe: Recipe, dataset: Dataset, progress: Progress | None = None) -> Table:
    """The dataset's items as the recipe's model reads them; what is cached is not encoded again."""
    settings = recipe.model.user_encoder
    if isinstance(settings, TextSettings):
        return build_block_table(dataset, settings.descriptions)
    texts = texts_for(dataset.info, recipe.items.texts)
    return build_item_table(dataset, ItemEncoder(recipe.items), progress, texts)


def _start_stream(encoder: UEM, dataset: Dataset, table: ItemTable) -> None:
    """Start a narrowed stream from the most frequent categories, which take half of its channels at most."""
    if encoder.narrow is None:
        return
    chosen = _frequent(dataset, encoder.narrow.out_features // 2)
    probe = category_probe(table, dataset.category_matrix[:, chosen])
    encoder.start_from(Catalogue(table), torch.from_numpy(probe.weights))


def _frequent(dataset: Dataset, most: int) -> Ints:
    """The most frequent categories of the catalogue, by index, ascending."""
    frequency = dataset.category_matrix.sum(axis=0)
    return np.sort(np.argsort(-frequency, kind="stable")[:most])


def _start_queries(encoder: StreamingEncoder, dataset: Dataset, table: ItemTable, backbone: Backbone) -> None:
    """Start the queries from the most frequent categories, leaving one for all items."""
    chosen = _frequent(dataset, len(encoder.query) - 1)
    probe = category_probe(table, dataset.category_matrix[:, chosen])
    encoder.start_from(
        torch.from_numpy(chosen),
        torch.from_numpy(probe.weights),
        torch.from_numpy(probe.bias),
        backbone.mean_embeddings([f" {dataset.categories[index]}" for index in chosen]),
    )


def _tokenizer_texts(settings: RandomT5Settings, dataset: Dataset, task: Task, table: Table) -> Iterator[str]:
    """What a tokenizer of our own must spell well: instruction and targets, and the items' texts if asked for."""
    labels = len(dataset.categories)
    nothing = np.full((labels, 1), -1)
    each = np.arange(labels)[:, None]
    for preferences in (Preferences(each, each), Preferences(each, nothing), Preferences(nothing, each)):
        yield from task.target_texts(preferences)
    yield from [task.instruction] * labels
    if isinstance(table, BlockTable):
        yield from (table.block(item, item % len(table.ratings)) for item in range(len(table)))
    elif settings.item_texts:
        for item in dataset_items(dataset):
            yield from filter(None, (table.texts.title(item), table.texts.description(item)))
