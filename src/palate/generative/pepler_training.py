"""Trains PEPLER by sequential tuning: the prompt first, with the backbone frozen, then both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.backbones.load import load_backbone
from palate.config.recipe import PeplerSettings, RandomCausalSettings, Recipe
from palate.config.unread import check_all_read
from palate.data.dataset import Dataset, load_dataset
from palate.errors import RecipeError
from palate.generative.newcomers import KnownHistories, new_newcomer_encoder, newcomer_histories
from palate.generative.pepler import TOKENS_A_WORD, Pairs, Pepler, PeplerLoss
from palate.generative.pepler_cases import RatedTexts, RatedTextSplit, prompt_words, split_texts
from palate.generative.pepler_files import NewcomerRecord, TrainedPepler, record_of
from palate.generative.random_causal import random_causal
from palate.generative.staged_training import Stage, StagedTraining, StageScore
from palate.items.encoder import ItemEncoder
from palate.items.table import build_item_table
from palate.model.positions import max_positions
from palate.runs.run import train_once
from palate.system.device import find_device
from palate.system.machine import reproducible
from palate.system.places import rooted

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.backbones.source import BackboneSource
    from palate.runs.run import RunFolder

_ORDERS = 2
"""Orders of epochs that are kept in memory."""
_DEV_BATCH = 256
_NEWCOMERS = 3
"""Number of the stage that trains the encoder of users who were not trained on."""


def train_pepler(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
    device: str | torch.device = "auto",
) -> Path:
    """Train the PEPLER of a recipe and return the run's folder.

    The training is deterministic on the CPU. An interrupted one resumes from its last evaluation with the same
    result; a finished one is returned unchanged.

    Args:
        recipe: A recipe with a section ``pepler``.
        out: The run's folder, new or of the same recipe.
        report: Called with a line for each stage and evaluation.
        dataset: What lies at the recipe's ``data.path``, where that is loaded already.
        device: Device of the training.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``pepler``, a setting that is not read, or nothing can be learned by it.
        DataError: The data cannot be read, or has no ratings.
        MismatchError: The backbone cannot be loaded, or the run was trained on other data.
        OutputError: The folder holds something else, or cannot be written.
        TrainingError: A loss is not finite.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.pepler
    if settings is None:
        raise RecipeError("the recipe has no section 'pepler'; add one, which may be empty: {}")
    check_all_read(recipe)
    tell, place = report or (lambda line: None), find_device(str(device))
    with reproducible(recipe.train.threads, place):
        data = dataset or load_dataset(recipe.data.path)
        check_learnable(settings, data)
        split = split_texts(data, settings, recipe.seed)

        def train(run: RunFolder) -> None:
            model, source = new_pepler(settings, data, split, recipe.seed)
            model.to(place)
            stages = pepler_stages(model, split, recipe)
            StagedTraining(model, stages, recipe.train, recipe.seed, run.checkpoints, tell).run()
            if settings.newcomer_steps:
                train_newcomers(model, recipe, data, split, run.checkpoints / "newcomers", tell)
            record = record_of(model, source, data, _newcomers(recipe, data))
            TrainedPepler(model, record).save_pretrained(run.model)

        return train_once(out, recipe, data.info, str(place), tell, train)


def _newcomers(recipe: Recipe, dataset: Dataset) -> NewcomerRecord | None:
    settings = recipe.pepler
    if settings is None or not settings.newcomer_steps:
        return None
    return NewcomerRecord(
        user_encoder=recipe.model.user_encoder,
        event_texts=recipe.model.event_texts,
        window=settings.newcomer_window,
        categories=len(dataset.categories),
    )


def train_newcomers(
    model: Pepler,
    recipe: Recipe,
    dataset: Dataset,
    split: RatedTextSplit,
    folder: Path,
    tell: Callable[[str], None],
) -> KnownHistories:
    """Train the recipe's user encoder to replace user vectors, with all other weights frozen.

    Args:
        model: A trained PEPLER, which gets the encoder.
        recipe: ``model.user_encoder``, ``model.event_texts`` and ``pepler.newcomer_steps``.
        dataset: The dataset.
        split: The split, with training and known interactions.
        folder: Folder of the checkpoint.
        tell: Called with a message for each evaluation.

    Returns:
        The known events of each user.
    """
    settings, given = recipe.pepler, recipe.model
    assert settings is not None
    table = build_item_table(dataset, ItemEncoder(recipe.items, model.device))
    histories = newcomer_histories(recipe, dataset, split)
    torch.manual_seed(recipe.seed)
    encoder = new_newcomer_encoder(
        given.user_encoder,
        table,
        given.event_texts,
        len(dataset.categories),
        model.users.weight[model.trained],
    )
    model.newcomers, model.newcomer_table = encoder, table
    size, training, dev = recipe.train.shared_by(1).per_device_train_batch_size, split.training, split.dev
    order = _epochs(len(training), recipe.seed, _NEWCOMERS)

    def loss(step: int) -> torch.Tensor:
        epoch, place = divmod(step, -(-len(training) // size))
        batch = training.of(order(epoch)[place * size : (place + 1) * size])
        found = batch_loss(model, batch, vectors=encoder(histories.windows(batch)))
        return found.with_rating_weight(settings.newcomer_rating_weight)

    def read(part: RatedTexts) -> torch.Tensor:
        vectors: torch.Tensor = encoder(histories.windows(part))
        return vectors

    stage = Stage(
        "newcomers",
        model.parts("newcomers"),
        settings.newcomer_steps,
        loss,
        StageScore(lambda: dev_loss(model, dev, False, read, settings.newcomer_rating_weight)),
    )
    StagedTraining(model, [stage], recipe.train, recipe.seed, folder, tell).run()
    return histories


def check_learnable(settings: PeplerSettings, dataset: Dataset) -> None:
    """Raise :class:`RecipeError` for settings that leave nothing to train on a dataset."""
    reviewed = dataset.review_texts is not None
    if settings.prompt == "discrete" and settings.rating != "none":
        raise RecipeError(
            f"pepler.rating is {settings.rating!r}, and a discrete prompt has no vectors to predict ratings from; set "
            "pepler.rating=none or pepler.prompt=continuous"
        )
    if settings.prompt == "discrete" and settings.newcomer_steps:
        raise RecipeError(
            "pepler.newcomer_steps trains vectors of users, which a discrete prompt does not have; set it to 0"
        )
    if not reviewed and settings.rating == "none":
        raise RecipeError(
            f"{dataset.info.name} has no review texts, so that there is nothing to explain; set pepler.rating=mf or "
            "mlp to predict ratings alone, or prepare the data with a column of texts (--review-col)"
        )


def new_pepler(
    settings: PeplerSettings, dataset: Dataset, split: RatedTextSplit, seed: int
) -> tuple[Pepler, BackboneSource | None]:
    """Create an untrained PEPLER for a dataset's users and items, with random weights drawn by the seed."""
    words = prompt_words(dataset, split, settings.prompt_words) if settings.prompt == "discrete" else None
    texts = [*(split.training.texts or ["nothing is written"])]
    if words is not None:
        texts += [*words.users, *words.items]
    torch.manual_seed(seed)
    backbone, source = _backbone(settings, texts)
    _check_room(settings, backbone)
    mean = float(split.training.rating.mean())
    model = Pepler(settings, backbone, len(dataset.user_ids), len(dataset.items), mean)
    model.words = words
    model.trained[:] = False
    model.trained[torch.from_numpy(split.training.user)] = True
    return model, source


def _check_room(settings: PeplerSettings, backbone: Backbone) -> None:
    """Raise :class:`RecipeError` if the longest prompt and text are too long for a backbone."""
    most, frame = max_positions(backbone.model.config), backbone.frame
    edges = 0 if frame is None else len(frame.opening) + len(frame.closing)
    words = settings.max_words + (2 * settings.prompt_words if settings.prompt == "discrete" else 0)
    needed = TOKENS_A_WORD * words + edges + 2
    if most is not None and needed > most:
        raise RecipeError(
            f"a prompt and its text may have {needed:,} tokens, {TOKENS_A_WORD} a word, and the backbone reads "
            f"{most:,}; lower pepler.max_words or pepler.prompt_words"
        )


def _backbone(settings: PeplerSettings, texts: list[str]) -> tuple[Backbone, BackboneSource | None]:
    if isinstance(settings.backbone, RandomCausalSettings):
        return random_causal(settings.backbone, texts), None
    return load_backbone(settings.backbone)


def pepler_stages(model: Pepler, split: RatedTextSplit, recipe: Recipe) -> list[Stage]:
    """List the stages of a recipe: the texts alone, the prompt, and both."""
    settings = recipe.pepler
    assert settings is not None
    size = recipe.train.shared_by(1).per_device_train_batch_size
    training, dev = split.training, split.dev

    def stage(number: int, name: str, steps: int, alone: bool = False) -> Stage:
        order = _epochs(len(training), recipe.seed, number)

        def batch(step: int) -> RatedTexts:
            epoch, place = divmod(step, max(-(-len(training) // size), 1))
            return training.of(order(epoch)[place * size : (place + 1) * size])

        return Stage(
            name,
            model.parts(name),
            steps,
            lambda step: batch_loss(model, batch(step), alone).whole,
            StageScore(lambda: dev_loss(model, dev, alone)),
        )

    texts = training.texts is not None
    return [
        stage(0, "language", settings.language_steps if texts else 0, alone=True),
        stage(1, "prompt", settings.prompt_steps),
        stage(2, "both", settings.tuning_steps if texts else 0),
    ]


def _epochs(rows: int, seed: int, stage: int) -> Callable[[int], np.ndarray]:
    """Return the function from an epoch to its order of the rows."""

    @lru_cache(_ORDERS)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, stage, epoch]).permutation(rows)

    return order


def pairs_of(cases: RatedTexts, device: torch.device) -> Pairs:
    """Convert interactions to users and items on a device."""
    return Pairs(torch.from_numpy(cases.user).to(device), torch.from_numpy(cases.item).to(device))


def batch_loss(
    model: Pepler, batch: RatedTexts, alone: bool = False, vectors: torch.Tensor | None = None
) -> PeplerLoss:
    """Compute the losses of interactions: ``alone`` of texts without users and items, or with other user vectors."""
    if alone:
        return model.loss(None, batch.texts, None)
    rating = torch.from_numpy(batch.rating).float().to(model.device)
    return model.loss(replace(pairs_of(batch, model.device), vectors=vectors), batch.texts, rating)


def dev_loss(
    model: Pepler,
    dev: RatedTexts,
    alone: bool = False,
    read: Callable[[RatedTexts], torch.Tensor] | None = None,
    rating_weight: float | None = None,
) -> float:
    """Average the loss over interactions, a batch at a time."""
    losses, numbers = [], []
    for start in range(0, len(dev), _DEV_BATCH):
        part = dev.of(np.arange(start, min(start + _DEV_BATCH, len(dev))))
        vectors = None if read is None else read(part)
        found = batch_loss(model, part, alone, vectors)
        losses.append(
            float(found.whole if rating_weight is None else found.with_rating_weight(rating_weight))
        )
        numbers.append(len(part))
    return float(np.average(losses, weights=numbers))
