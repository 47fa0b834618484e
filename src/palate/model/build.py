"""Construction of an untrained model from a recipe, a dataset and its item table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from palate.backbones.base import Backbone
from palate.backbones.load import load_backbone
from palate.backbones.source import BackboneSource
from palate.backbones.t5 import random_t5
from palate.config.recipe import RandomT5Settings, Recipe, TextSettings
from palate.config.registry import user_encoders
from palate.config.section import Section
from palate.data.population import summarise
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.equipped import EquippedEncoder
from palate.encoders.streaming import StreamingEncoder
from palate.encoders.uem import UEM
from palate.errors import RecipeError
from palate.items.blocks import build_block_table
from palate.items.categories import build_category_table
from palate.items.encoder import ItemEncoder, Progress
from palate.items.table import ItemTable, build_item_table
from palate.items.texts import dataset_items, texts_for
from palate.model.adapter import RatingScale, adapted
from palate.model.config import PersonalizedSettings, check_model
from palate.model.model import PersonalizedModel, load_model
from palate.model.start import (
    start_equipped,
    start_keys,
    start_queries,
    start_stream,
    start_task_prompt,
    start_user_encoder,
    with_latent,
)
from palate.model.tables import Table
from palate.model.wording import (
    check_room,
    longest_text,
    max_new_tokens,
    teach_names,
    tell_changed,
    tell_unread,
    user_vectors,
)
from palate.schema import Preferences
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.questions import ITEM_KINDS, YES_NO, described
from palate.tasks.wordings import wordings_of

if TYPE_CHECKING:
    from palate.config.section import KindSettings
    from palate.data.dataset import Dataset
    from palate.tasks.base import Task


@dataclass(frozen=True, eq=False)
class BuiltBackbone:
    """A backbone that has been checked against the recipe's data."""

    backbone: Backbone
    source: BackboneSource | None
    max_new_tokens: int
    """Maximum length of an answer, in tokens."""
    random_state: Tensor
    """State of torch's random generator after building the backbone, for the initialisation of the other weights."""
    start: PersonalizedModel | None = None
    """Pretrained model of ``model.start``, from which training starts; None without one."""


def build_backbone(
    recipe: Recipe, dataset: Dataset, task: Task, tell: Callable[[str], None] = lambda line: None
) -> BuiltBackbone:
    """Build or load the recipe's backbone, and check that it can read and generate the data's texts.

    Called before the encoding of the items, which may be slow, so that errors appear early.

    Args:
        recipe: The recipe.
        dataset: The dataset, with the names and titles that the backbone reads and generates.
        task: The task, with its target texts.
        tell: Called with messages about names that became new tokens, and about texts that the backbone cannot read.

    Returns:
        The checked backbone.

    Raises:
        MismatchError: The backbone cannot be loaded, or cannot generate a name.
        RecipeError: Answers would be truncated, or prompts exceed the backbone's context length.
    """
    torch.manual_seed(recipe.seed)
    if recipe.model.start is not None:
        return _started(recipe, recipe.model.start, dataset, task, tell)
    settings = recipe.model.backbone
    source: BackboneSource | None = None
    if isinstance(settings, RandomT5Settings):
        backbone = random_t5(settings, _tokenizer_texts(recipe, settings, dataset, task))
        trained, called = True, str(settings.kind)
    else:
        backbone, source = load_backbone(settings)
        trained, called = settings.train == "full", settings.name
    teach_names(backbone, task, trained, called, tell)
    most = max_new_tokens(backbone, task, recipe.task.max_labels, recipe.evaluate.max_new_tokens)
    _check_what_is_read(backbone, recipe, dataset, task, most, tell, recipe.model.user_encoder)
    return BuiltBackbone(backbone, source, most, torch.get_rng_state())


def build_model(
    recipe: Recipe, dataset: Dataset, task: Task, table: Table, built: BuiltBackbone | None = None
) -> PersonalizedModel:
    """Build the recipe's model before training; some user encoders are initialised from the catalogue.

    Args:
        recipe: The recipe.
        dataset: The dataset.
        task: The task over the dataset.
        table: Result of :func:`build_table`.
        built: Result of :func:`build_backbone`; None to build the backbone here.

    Returns:
        The model, untrained except for parts that are loaded.
    """
    built = built or build_backbone(recipe, dataset, task)
    torch.set_rng_state(built.random_state)
    if built.start is not None:
        started = built.start.with_task(recipe.task).bind(dataset)
        if recipe.model.exchanged_backbone is None:
            started.learn_own()
        latent = recipe.model.added_latent
        return started if latent is None else with_latent(started, latent, table, dataset)
    backbone = built.backbone
    config = PersonalizedSettings(
        user_encoder=recipe.model.user_encoder,
        task_prompt=recipe.model.task_prompt,
        window=recipe.windows.longest,
        max_new_tokens=built.max_new_tokens,
        instruction=task.instruction,
        task=recipe.task,
        category_field=dataset.info.category_field,
        categories=dataset.categories,
        data_name=dataset.info.name,
        data_fingerprint=dataset.info.fingerprint,
        feedback=dataset.info.feedback,
        repeats=dataset.info.repeats,
        event_types=dataset.info.event_types,
        like_tokens=recipe.model.like_tokens,
        user_first=recipe.model.user_first,
        conditioning=recipe.model.conditioning,
        cross_attention_every=recipe.model.cross_attention_every,
        grammar=recipe.model.grammar,
        event_texts=recipe.model.event_texts,
        backbone=built.source,
    )
    summary = summarise(dataset, load_task(recipe.task, dataset.info)) if config.binds else None
    model = PersonalizedModel(config, backbone, table, summary)
    if recipe.model.task_prompt_text is not None:
        start_task_prompt(model, backbone, recipe.model.task_prompt_text)
    if isinstance(model.user_encoder, UniversalEncoder) and model.user_encoder.latent is not None:
        start_keys(model.user_encoder.latent, dataset, table)
    if isinstance(model.user_encoder, StreamingEncoder) and isinstance(table, ItemTable):
        start_queries(model, model.user_encoder, dataset, table, backbone)
    if isinstance(model.user_encoder, UEM) and isinstance(table, ItemTable):
        start_stream(model.user_encoder, dataset, table, config.event_texts)
    if isinstance(model.user_encoder, EquippedEncoder):
        start_equipped(model, model.user_encoder, dataset, table, backbone)
    if recipe.model.user_encoder_from is not None:
        start_user_encoder(model, recipe.model.user_encoder_from)
    return model


def build_table(
    recipe: Recipe,
    dataset: Dataset,
    progress: Progress | None = None,
    device: str | torch.device = "auto",
) -> Table:
    """Convert the items of a dataset to the model's input: vectors (cached), texts or categories.

    Args:
        recipe: The recipe, with the item encoder.
        dataset: The dataset.
        progress: Called with the number of encoded texts and their total.
        device: Device of the item encoder.

    Returns:
        An item table, a block table for a text history, or a category table.
    """
    settings = recipe.model.user_encoder
    if isinstance(settings, TextSettings):
        return build_block_table(dataset, settings.descriptions)
    reads = user_encoders.find(settings.kind).reads
    started = recipe.model.start is not None  # uses the user encoder of model.start
    by_category = started or "categories" in reads
    by_vector = getattr(settings, "latent", None) is not None or ("vectors" in reads and not started)
    if by_category and not by_vector:
        return build_category_table(dataset)
    texts = texts_for(dataset.info, recipe.items.texts)
    vectors = build_item_table(dataset, ItemEncoder(recipe.items, device), progress, texts)
    return build_category_table(dataset, vectors) if by_category else vectors


def _started(
    recipe: Recipe, name: str, dataset: Dataset, task: Task, tell: Callable[[str], None]
) -> BuiltBackbone:
    """Load the model of ``model.start``, with only its network trainable, or only the adapter to a new backbone."""
    settings = check_model(name)
    if not settings.binds:
        kind = settings.user_encoder.kind
        raise RecipeError(
            f"model.start: {name} has a {kind!r} user encoder, whose weights are of one catalogue; give a model with "
            "a 'universal' one, or take its user encoder with model.user_encoder_from"
        )
    if recipe.model.added_latent is not None:
        _check_added_latent(recipe.model.user_encoder, settings.user_encoder, name)
    exchanged = recipe.model.exchanged_backbone
    loaded = None if exchanged is None else load_backbone(exchanged)
    model = load_model(name, device="cpu")
    for weight in model.parameters():
        weight.requires_grad_(False)
    if loaded is None:
        for weight in model.binding.trained_on_data():
            weight.requires_grad_(True)
    else:
        model = adapted(model, *loaded, recipe.model, _rating_scale(dataset, task))
    backbone = Backbone(model.backbone, model.tokenizer, model.frame)
    teach_names(backbone, task, False, name if exchanged is None else exchanged.name, tell)
    most = max_new_tokens(backbone, task, recipe.task.max_labels, recipe.evaluate.max_new_tokens)
    if exchanged is not None:
        _check_what_is_read(backbone, recipe, dataset, task, most, tell, model.settings.user_encoder)
    return BuiltBackbone(backbone, model.settings.backbone, most, torch.get_rng_state(), model)


def _rating_scale(dataset: Dataset, task: Task) -> RatingScale | None:
    """Return the scale of a dataset's ratings and the task's threshold on it; None without ratings."""
    values = dataset.info.rating_values
    if dataset.info.feedback == "implicit" or len(values) < 2 or not isinstance(task, CategoryPreference):
        return None
    return RatingScale(values, task.like_above)


def _check_added_latent(given: Section, start: Section, name: str) -> None:
    """Check that a recipe which adds latent queries to a model's user encoder changes none of its other settings."""
    other = [
        f"{key}={value!r} (there {getattr(start, key)!r})"
        for key, value in given
        if key not in ("latent", "own")
        and value not in (getattr(start, key), type(given).model_fields[key].default)
    ]
    if other:
        raise RecipeError(
            f"model.user_encoder: {', '.join(other)} differs from that of {name} in more than latent; give only latent"
        )


def _tokenizer_texts(
    recipe: Recipe, settings: RandomT5Settings, dataset: Dataset, task: Task
) -> Iterator[str]:
    """Yield the training texts of a new tokenizer: instruction, targets and, if requested, item texts."""
    labels = len(dataset.categories)
    nothing = np.full((labels, 1), -1)
    each = np.arange(labels)[:, None]
    for preferences in (Preferences(each, each), Preferences(each, nothing), Preferences(nothing, each)):
        yield from task.target_texts(preferences)
    yield from [task.instruction] * labels
    if recipe.train.questions:
        yield from (wording for kind in recipe.train.questions for wording in wordings_of(kind).all)
        yield from [*YES_NO, *(f"{value:g}" for value in dataset.info.rating_values)] * labels
    if isinstance(recipe.model.user_encoder, TextSettings):
        table = build_block_table(dataset, recipe.model.user_encoder.descriptions)
        yield from (table.block(item, item % len(table.ratings)) for item in range(len(table)))
    elif settings.item_texts:
        texts = texts_for(dataset.info, recipe.items.texts)
        for item in dataset_items(dataset):
            yield from filter(None, (texts.title(item), texts.description(item)))


def _check_what_is_read(
    backbone: Backbone,
    recipe: Recipe,
    dataset: Dataset,
    task: Task,
    answer: int,
    tell: Callable[[str], None],
    encoder: KindSettings,
) -> None:
    """Check that prompts fit the backbone's context, and report texts that it cannot read."""
    tokenizer = backbone.tokenizer
    kinds = list(recipe.train.questions)
    wordings = [wording for kind in kinds for wording in wordings_of(kind).all] or [task.instruction]
    tell_changed(tokenizer, [task.instruction], "the instruction", tell)
    asked = longest_text(tokenizer, wordings)
    if any(kind in ITEM_KINDS for kind in kinds):
        rows = dataset.items.select("title", "year", "categories").rows()
        items = [described(*row) for row in rows]
        tell_unread(tokenizer, items, "items that are named in questions", tell)
        asked += longest_text(tokenizer, items)
    history = user_vectors(encoder, recipe.windows.longest)
    if isinstance(encoder, TextSettings):
        table = build_block_table(dataset, encoder.descriptions)
        tell_unread(tokenizer, table.before, "items' texts", tell)
        blocks = [table.block(item, 0) for item in range(len(table))]
        longest = longest_text(tokenizer, blocks)
        if longest > encoder.max_length:
            tell(
                f"the longest text of an item has {longest:,} tokens, and a history at most {encoder.max_length:,}: "
                "if such an item is the newest, the history is this item only, truncated"
            )
        history = min(encoder.max_length, recipe.windows.longest * longest)
    frame = 0 if backbone.frame is None else len(backbone.frame.opening) + len(backbone.frame.closing)
    check_room(
        backbone,
        {
            "the task prompt": recipe.model.task_prompt,
            "the history": history,
            "the question": asked + frame,
            "the answer": answer,
        },
    )
