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
from palate.model.backbone import Backbone, load_t5, random_t5
from palate.model.personalized import PersonalizedModel, PersonalizedSettings, Table
from palate.model.streaming import StreamingEncoder
from palate.schema import Preferences

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.base import Task


def build_model(recipe: Recipe, dataset: Dataset, task: Task, table: Table) -> PersonalizedModel:
    """The recipe's model before training; its user encoder starts from the catalogue where it can."""
    torch.manual_seed(recipe.seed)
    settings = recipe.model.backbone
    if isinstance(settings, RandomT5Settings):
        backbone = random_t5(settings, _tokenizer_texts(settings, dataset, task, table))
    else:
        backbone = load_t5(settings)
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
    )
    model = PersonalizedModel(config, backbone, table)
    if isinstance(model.user_encoder, StreamingEncoder) and isinstance(table, ItemTable):
        _start_queries(model.user_encoder, dataset, table, backbone)
    return model


def build_table(recipe: Recipe, dataset: Dataset, progress: Progress | None = None) -> Table:
    """The dataset's items as the recipe's model reads them; what is cached is not encoded again."""
    settings = recipe.model.user_encoder
    if isinstance(settings, TextSettings):
        return build_block_table(dataset, settings.descriptions)
    texts = texts_for(dataset.info, recipe.items.texts)
    return build_item_table(dataset, ItemEncoder(recipe.items), progress, texts)


def _start_queries(encoder: StreamingEncoder, dataset: Dataset, table: ItemTable, backbone: Backbone) -> None:
    """Start the queries from the most frequent categories, leaving one for all items."""
    matrix = dataset.category_matrix
    room = len(encoder.query) - 1
    frequent = np.argsort(-matrix.sum(axis=0), kind="stable")[:room]
    chosen = np.sort(frequent)
    probe = category_probe(table, matrix[:, chosen])
    encoder.start_from(
        torch.from_numpy(chosen),
        torch.from_numpy(probe.weights),
        torch.from_numpy(probe.bias),
        _name_embeddings([dataset.categories[index] for index in chosen], backbone),
    )


def _name_embeddings(names: list[str], backbone: Backbone) -> torch.Tensor:
    """Mean token embedding of each name as it stands inside a sentence, [C, E]."""
    embedding = backbone.model.get_input_embeddings().weight.detach()
    tokens = backbone.tokenizer([f" {name}" for name in names], add_special_tokens=False)["input_ids"]
    return torch.stack([embedding[torch.tensor(ids)].mean(dim=0) for ids in tokens])


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
