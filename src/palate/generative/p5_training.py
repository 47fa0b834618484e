"""Trains P5 or POD by a recipe, into a run's folder; an interrupted training goes on with the same result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import get_scheduler

from palate.backbones.load import load_backbone
from palate.backbones.t5 import random_t5
from palate.config.recipe import RandomT5Settings, Recipe
from palate.data.dataset import load_dataset
from palate.data.protocols import RankingCases, make_split
from palate.errors import RecipeError
from palate.generative.corpus import Corpus, Example
from palate.generative.files import save_generative
from palate.generative.ids import NUMBER_PIECES, ItemIds, known_users, make_item_ids, user_names
from palate.generative.p5 import IdLanguageModel
from palate.generative.pod import family_at
from palate.generative.recommender import GenerativeFacts, GenerativeRecommender, known_flags
from palate.generative.staged_training import Stage, StagedTraining, StageScore
from palate.recommend.tuning import mean_ndcg
from palate.runs.run import train_once
from palate.system.machine import reproducible
from palate.system.places import rooted

if TYPE_CHECKING:
    from torch import Tensor

    from palate.backbones.base import Backbone
    from palate.config.generative import AnyGenerativeSettings, Family
    from palate.config.recipe import TrainSettings
    from palate.data.dataset import Dataset
    from palate.runs.run import RunFolder

_SAMPLED = 2_000
"""Examples of each family that a tokenizer is trained on."""
_NUMBERS = re.compile(r"\d+|<[a-z]\d+>")


def train_generative(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train the generative recommender of a recipe and return the run's folder.

    It learns from what ``data.protocol`` lets be learned from, or from the training users. Where the families rank
    items, the weights of the highest dev NDCG@10 are kept; otherwise the last. A batch is a function of the seed and
    its number, so that a training that was interrupted goes on from its checkpoint with the same result.

    Args:
        recipe: A recipe with a section ``generative``.
        out: The run's folder, new or of the same recipe.
        report: Called with progress messages, one line each.
        dataset: What lies at the recipe's ``data.path``, where that is loaded already.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``generative``.
        DataError: The data cannot be read, or lacks what a family needs.
        MismatchError: The backbone cannot be loaded, or the run was trained on other data.
        OutputError: The folder holds something else, or cannot be written.
        TrainingError: A loss is not finite.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.generative
    if settings is None:
        raise RecipeError("the recipe has no section 'generative'; add one, such as {kind: p5}")
    tell = report or (lambda line: None)
    with reproducible(recipe.train.threads, torch.device("cpu")):
        dataset = dataset or load_dataset(recipe.data.path)
        split = make_split(dataset, recipe.data.protocol or "new-users", seed=recipe.seed)
        training = split.training
        ids = make_item_ids(training, settings, recipe.seed)
        facts = _facts(training, ids)
        corpus = Corpus(training, facts.wording, settings)
        corpus.check()

        def train(run: RunFolder) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                backbone = _backbone(recipe, corpus, ids)
                model = IdLanguageModel(backbone, settings, facts.item_names)
                recommender = GenerativeRecommender(model, facts)
                tell(
                    f"{sum(weight.numel() for weight in model.parameters()):,} weights, {len(model.trie):,} prefixes "
                    f"of {len(facts.item_names):,} ids"
                )
                stage = _Families(recipe, settings, recommender, corpus, split.dev).stage()
                StagedTraining(model, [stage], recipe.train, recipe.seed, run.checkpoints, tell).run()
            save_generative(recommender, run.model)

        return train_once(out, recipe, dataset.info, "cpu", tell, train)


def _facts(training: Dataset, ids: ItemIds) -> GenerativeFacts:
    info = training.info
    return GenerativeFacts(
        item_names=ids.names,
        user_names=tuple(user_names(len(training.user_ids))),
        known=known_flags(known_users(training)),
        noun=info.item_noun,
        rating_values=info.rating_values,
        event_weights=training.event_weights,
        like_above=info.like_above,
    )


def _backbone(recipe: Recipe, corpus: Corpus, ids: ItemIds) -> Backbone:
    """Load or make the T5, whose tokenizer has the pieces of ids as tokens."""
    settings = recipe.model.backbone
    pieces = ids.pieces
    if isinstance(settings, RandomT5Settings):
        rng = np.random.default_rng([recipe.seed, 0])
        texts = [
            _NUMBERS.sub(" ", text)
            for family in corpus.settings.families
            for one in corpus.batch(family, _SAMPLED, rng)
            for text in (one.prompt, one.answer)
        ]
        backbone = random_t5(settings, texts)
        pieces = (*pieces, *NUMBER_PIECES)
    else:
        backbone, _ = load_backbone(settings)
    if pieces:
        backbone.tokenizer.add_tokens(list(pieces))
        rows = max(len(backbone.tokenizer), int(backbone.model.get_input_embeddings().weight.shape[0]))
        backbone.model.resize_token_embeddings(rows, mean_resizing=False)
    return backbone


@dataclass(frozen=True)
class _Families:
    """Batches of the families, and the score on dev users."""

    recipe: Recipe
    settings: AnyGenerativeSettings
    recommender: GenerativeRecommender
    corpus: Corpus
    dev: RankingCases

    def stage(self) -> Stage:
        """Return the only stage of the training, which trains all weights."""
        train, model = self.recipe.train, self.recommender.model
        dev = StageScore(self._dev_ndcg, "NDCG@10", maximised=True) if ranks_items(self.settings) else None
        return Stage(
            self.settings.kind, [*model.parameters()], train.max_steps, self._loss, dev, _schedule(train)
        )

    def _loss(self, step: int) -> Tensor:
        family = family_at(self.settings, step, np.random.default_rng([self.recipe.seed, 1, step]))
        examples = self._examples(family, step)
        return self.recommender.model.loss(
            [one.prompt for one in examples], [one.answer for one in examples], family
        )

    def _examples(self, family: Family, step: int) -> list[Example]:
        """Draw the examples of several batches, and take those of similar lengths, which reduces padding."""
        size, groups = self.recipe.train.per_device_train_batch_size, self.recipe.train.length_groups
        rng = np.random.default_rng([self.recipe.seed, 3, step // groups, *family.encode()])
        drawn = sorted(self.corpus.batch(family, size * groups, rng), key=lambda one: len(one.prompt))
        at = int(rng.permutation(groups)[step % groups]) * size
        return drawn[at : at + size]

    def _dev_ndcg(self) -> float:
        number = min(self.recipe.train.eval_users, len(self.dev))
        rows = np.random.default_rng([self.recipe.seed, 2]).permutation(len(self.dev))[:number]
        cases = self.dev[np.sort(rows)]
        windows = cases.windows.trimmed()
        scores = self.recommender.item_scores(windows, cases.user_index)
        target = cases.targets[:, 0]
        own = scores[np.arange(len(scores)), target]
        row, column = np.nonzero(windows.mask)
        scores[row, windows.item_index[row, column]] = -np.inf
        scores[np.arange(len(scores)), target] = own
        return mean_ndcg(scores, target)


def _schedule(train: TrainSettings) -> Callable[[int], float]:
    """Return the factor of the learning rate at a step, at least 0.001."""
    schedule: Any = get_scheduler(
        "constant_with_warmup" if train.lr_scheduler_type == "constant" else train.lr_scheduler_type,
        torch.optim.SGD([torch.zeros(1)]),
        num_warmup_steps=round(train.warmup_ratio * train.max_steps),
        num_training_steps=train.max_steps,
    )
    rate: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: max(rate(step), 1e-3)


def ranks_items(settings: AnyGenerativeSettings) -> bool:
    """Tell whether a family is trained by which items are ranked."""
    return bool({"sequential", "direct"} & set(settings.families))
