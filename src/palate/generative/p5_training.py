"""Trains P5 or POD by a recipe; an interrupted training resumes with the same result."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import get_scheduler

from palate.backbones.load import load_backbone
from palate.backbones.t5 import random_t5
from palate.config.recipe import RandomT5Settings, Recipe
from palate.config.unread import check_all_read
from palate.data.dataset import load_dataset
from palate.data.protocols import RankingCases, make_split
from palate.errors import RecipeError
from palate.evaluation.dev import DevUsers
from palate.generative.categories import CategoryAnswers, LabelledWindows
from palate.generative.corpus import Corpus, Example
from palate.generative.ids import NUMBER_PIECES, ItemIds, known_users, make_item_ids, user_names
from palate.generative.number_runs import NumberRuns
from palate.generative.p5 import IdLanguageModel
from palate.generative.parts import GenerativeFacts, GenerativeTraining
from palate.generative.pod import family_at
from palate.generative.recommender import GenerativeRecommender, known_flags
from palate.generative.staged_training import Stage, StagedTraining, StageProgress, StageScore
from palate.recommend.tuning import DEPTH, mean_ndcg
from palate.runs.run import train_once
from palate.system.device import find_device
from palate.system.hub import is_hub_name
from palate.system.machine import reproducible
from palate.system.places import rooted
from palate.tasks import load_task

if TYPE_CHECKING:
    from torch import Tensor

    from palate.backbones.base import Backbone
    from palate.config.generative import AnyGenerativeSettings, Family
    from palate.config.recipe import TrainSettings
    from palate.data.dataset import Dataset
    from palate.generative.wording import Wording
    from palate.runs.run import RunFolder

_SAMPLED = 2_000
"""Examples of each family that a tokenizer is trained on."""
_NUMBERS = re.compile(r"\d+|<[a-z]\d+>")


def train_generative(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
    device: str | torch.device = "auto",
) -> Path:
    """Train the generative recommender of a recipe and return the run's folder.

    Training interactions are those of ``data.protocol``, or of the training users. The weights with the best dev
    score are kept: NDCG@50 where ``sequential`` or ``direct`` is the first family that has a score, liked F1 where
    ``categories`` is; the last weights without either. A batch is a function of the seed and its number, so that an
    interrupted training resumes from its checkpoint with the same result on the CPU.

    Args:
        recipe: A recipe with a section ``generative``.
        out: The run's folder, new or of the same recipe.
        report: Called with progress messages, one line each.
        dataset: What lies at the recipe's ``data.path``, where that is loaded already.
        device: Device of the training.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``generative``, or a setting that is not read.
        DataError: The data cannot be read, or lacks what a family needs.
        MismatchError: The backbone cannot be loaded, or the run was trained on other data.
        OutputError: The folder holds something else, or cannot be written.
        TrainingError: A loss is not finite.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.generative
    if settings is None:
        raise RecipeError("the recipe has no section 'generative'; add one, such as {kind: p5}")
    check_all_read(recipe)
    tell = report or (lambda line: None)
    place = find_device(device)
    with reproducible(recipe.train.threads, place):
        dataset = dataset or load_dataset(recipe.data.path)
        split = make_split(dataset, recipe.data.protocol or "new-users", seed=recipe.seed)
        training = split.training
        ids = make_item_ids(training, settings, recipe.seed)
        facts = _facts(training, ids)
        corpus = _corpus(recipe, training, facts.wording)
        corpus.check()

        def train(run: RunFolder) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                backbone = _backbone(recipe, corpus, ids)
                model = IdLanguageModel(backbone, settings, facts.item_names).to(place)
                recommender = GenerativeRecommender(model, facts)
                tell(
                    f"{sum(weight.numel() for weight in model.parameters()):,} weights, {len(model.trie):,} prefixes "
                    f"of {len(facts.item_names):,} ids"
                )
                families = _Families(recipe, settings, recommender, corpus, dataset, split.dev)
                stage = families.stage()
                progress = StagedTraining(
                    model, [families.counting(), stage], recipe.train, recipe.seed, run.checkpoints, tell
                ).run()
            training = _training(recipe, dataset.info.name, stage, progress)
            replace(recommender, training=training).save_pretrained(run.model)

        return train_once(out, recipe, dataset.info, str(place), tell, train)


def _training(recipe: Recipe, data_name: str, stage: Stage, progress: StageProgress) -> GenerativeTraining:
    named = getattr(recipe.model.backbone, "name", None)
    return GenerativeTraining(
        steps=progress.steps,
        data_name=data_name,
        backbone=named if named is not None and is_hub_name(named) else None,
        score=None if stage.dev is None else stage.dev.name,
        dev=max((score for name, _, score in progress.history if name == stage.name), default=None),
    )


def first_loss(recipe: Recipe, dataset: Dataset, recommender: GenerativeRecommender) -> Tensor:
    """Compute the loss of a training's first batch."""
    assert recipe.generative is not None
    split = make_split(dataset, recipe.data.protocol or "new-users", seed=recipe.seed)
    corpus = _corpus(recipe, split.training, recommender.facts.wording)
    return _Families(recipe, recipe.generative, recommender, corpus, dataset, split.dev).loss(0)


def _corpus(recipe: Recipe, training: Dataset, wording: Wording) -> Corpus:
    assert recipe.generative is not None
    labelled = None
    if "categories" in recipe.generative.families:
        labelled = LabelledWindows(training, load_task(recipe.task, training.info), recipe.windows)
    return Corpus(training, wording, recipe.generative, labelled)


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
    dataset: Dataset
    dev: RankingCases
    drawn: dict[Family, tuple[int, list[Example]]] = field(default_factory=dict)
    """The newest draw of each family, by its number: examples of several batches, short prompts first."""

    def stage(self) -> Stage:
        """Return the only stage of the training, which trains all weights."""
        train, model = self.train, self.recommender.model
        scores = (self._score(family) for family in self.settings.families)
        dev = next((one for one in scores if one is not None), None)
        return Stage(
            self.settings.kind,
            [*model.parameters()],
            train.max_steps,
            self.loss,
            dev,
            _schedule(train, train.max_steps),
            backbone="model.",
        )

    @property
    def numbers(self) -> NumberRuns:
        """The counting examples, in the format of this data's ids."""
        wording = self.recommender.facts.wording
        return NumberRuns(wording, len(self.dataset.items), self.settings.max_history)

    def counting_loss(self, step: int) -> Tensor:
        """Compute the loss of a batch of counting examples."""
        rng = np.random.default_rng([self.recipe.seed, 4, step])
        examples = self.numbers.batch(self.train.per_device_train_batch_size, rng)
        prompts, answers = [one.prompt for one in examples], [one.answer for one in examples]
        return self.recommender.model.loss(prompts, answers, "sequential")

    def counting(self) -> Stage:
        """Return the stage that precedes it, a pretraining on counting; without steps unless they are set."""
        train, model, seed = self.train, self.recommender.model, self.recipe.seed
        schedule = _schedule(train, self.settings.number_steps)
        rate = (self.settings.number_learning_rate or train.learning_rate) / train.learning_rate
        return Stage(
            "counting",
            [*model.parameters()],
            self.settings.number_steps,
            self.counting_loss,
            StageScore(lambda: self.numbers.accuracy(self.recommender, seed), "accuracy", maximised=True),
            lambda step: rate * schedule(step),
            backbone="model.",
        )

    def _score(self, family: Family) -> StageScore | None:
        if family in ("sequential", "direct"):
            return StageScore(self._dev_ndcg, f"NDCG@{DEPTH}", maximised=True)
        if family == "categories":
            assert self.corpus.labelled is not None
            users = DevUsers(self.recipe, self.dataset, self.corpus.labelled.task)
            return StageScore(partial(self._dev_f1, users), "liked F1", maximised=True)
        return None

    @property
    def train(self) -> TrainSettings:
        """Settings of the training, which runs in one process."""
        return self.recipe.train.shared_by(1)

    def loss(self, step: int) -> Tensor:
        """Compute the loss of a batch."""
        if np.random.default_rng([self.recipe.seed, 6, step]).random() < self.settings.number_share:
            return self.counting_loss(step)
        family = family_at(self.settings, step, np.random.default_rng([self.recipe.seed, 1, step]))
        examples = self._examples(family, step)
        return self.recommender.model.loss(
            [one.prompt for one in examples], [one.answer for one in examples], family
        )

    def _examples(self, family: Family, step: int) -> list[Example]:
        """Draw the examples of several batches, and take those of similar lengths, which reduces padding."""
        train = self.train
        size, groups = train.per_device_train_batch_size, train.length_groups
        draw = step // groups
        rng = np.random.default_rng([self.recipe.seed, 3, draw, *family.encode()])
        order = rng.permutation(groups)
        if self.drawn.get(family, (None,))[0] != draw:
            batches = train.max_steps * train.gradient_accumulation_steps
            early = draw * groups < train.window_labels * batches
            examples = self.corpus.batch(family, size * groups, rng, window_labels=early)
            self.drawn[family] = draw, sorted(examples, key=lambda one: len(one.prompt))
        at = int(order[step % groups]) * size
        return self.drawn[family][1][at : at + size]

    def _dev_f1(self, users: DevUsers) -> float:
        recipe, task = self.recipe, users.task
        field, constrained = self.dataset.info.category_field, recipe.model.grammar
        return users.score(CategoryAnswers(self.recommender, recipe.name, task, field, constrained)).f1

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


def _schedule(train: TrainSettings, steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate at each of a stage's steps, at least 0.001."""
    schedule: Any = get_scheduler(
        "constant_with_warmup" if train.lr_scheduler_type == "constant" else train.lr_scheduler_type,
        torch.optim.SGD([torch.zeros(1)]),
        num_warmup_steps=round(train.warmup_ratio * steps),
        num_training_steps=steps,
    )
    rate: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: max(rate(step), 1e-3)
