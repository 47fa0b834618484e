"""The family ``categories``: prompts and answers about the categories that a user likes and dislikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.data.windows import draw_windows, window_size
from palate.errors import MismatchError, RecipeError
from palate.generative.files import load_generative
from palate.generative.prompts import form_of
from palate.model.grammar import Grammar, GrammarProcessor
from palate.model.wording import max_new_tokens
from palate.tasks.statistics import category_statistics
from palate.words import plural

if TYPE_CHECKING:
    from torch import nn

    from palate.config.recipe import WindowSettings
    from palate.config.registry import AnswerOptions
    from palate.data.dataset import Dataset
    from palate.generative.p5 import IdLanguageModel
    from palate.generative.recommender import GenerativeRecommender
    from palate.model.generation import TokenStreamer
    from palate.model.prompt import Prompt
    from palate.runs.run import RunFolder
    from palate.schema import Ints, Preferences, Windows
    from palate.tasks import CategoryPreference

_AT_ONCE = 64
"""Batch size, in users."""


@dataclass(frozen=True, eq=False)
class LabelledWindows:
    """Windows of the users of a training view, and the answers about them."""

    training: Dataset
    """The dataset with training interactions only; users without any are never drawn."""
    task: CategoryPreference
    windows: WindowSettings

    @property
    def fields(self) -> str:
        """Plural noun for the categories."""
        return plural(self.training.info.category_field)

    def draw(
        self, size: int, rng: np.random.Generator, window_labels: bool = False
    ) -> tuple[Ints, Windows, list[str]]:
        """Draw users, one window of each, and the answers by the labels of the full history or of the window.

        Args:
            size: Number of users, B.
            rng: Random number generator.
            window_labels: Compute the labels from the window instead of the full history.

        Returns:
            Users [B], windows [B, P] of one size, and B answers.
        """
        users = rng.choice(self._users, size)
        interactions = self.training.interactions
        windows = draw_windows(interactions, users, window_size(self.windows, rng), self.windows.kind, rng)
        labels = self._labels[users]
        if window_labels:
            data = self.training
            labels = self.task.labels(
                category_statistics(windows.interactions(), data.category_matrix, data.rating_values)
            )
        return users, windows, self.task.target_texts(labels)

    @cached_property
    def _users(self) -> Ints:
        return np.flatnonzero(self.training.interactions.lengths)

    @cached_property
    def _labels(self) -> Preferences:
        return self.task.labels(self.training.statistics)


class CategoryAnswers:
    """A generative recommender as a predictor of :mod:`palate.evaluation`.

    Prompts contain windows instead of user ids, because evaluated users are not trained on. They use held-out wording.

    Args:
        recommender: A recommender that was trained on the family ``categories``.
        name: Name in tables and files.
        task: The task, whose verbalizer reads the answers.
        field: Singular noun for a category.
        constrained: Whether answers are constrained to the task's grammar.
    """

    def __init__(
        self,
        recommender: GenerativeRecommender,
        name: str,
        task: CategoryPreference,
        field: str,
        constrained: bool,
    ) -> None:
        self.recommender, self.name, self.constrained = recommender, name, constrained
        self._wording, self._fields = recommender.facts.wording, plural(field)
        most = task.settings.max_labels
        self._most = max_new_tokens(self.model.backbone, task, most, None)
        tokenizer = self.model.tokenizer
        self._grammar = Grammar(tokenizer, tokenizer.eos_token_id, task.label_names, field, most)

    @property
    def model(self) -> IdLanguageModel:
        """The language model."""
        return self.recommender.model

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Predict an answer per window; ``user_index`` [B] is ignored, so that unseen users are treated alike."""
        answers = [""] * len(windows)
        for rows in self._batches(windows):
            for row, answer in zip(rows.tolist(), self.answer(windows[rows].trimmed()), strict=True):
                answers[row] = answer
        return answers

    def prompt(self, windows: Windows) -> Prompt:
        """Embed the prompts of B windows."""
        return self.model.prompts(self._texts(windows), "categories")

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the model's weights."""
        return self.model.parameters()

    @torch.inference_mode()
    def answer(self, windows: Windows, *, streamer: TokenStreamer | None = None) -> list[str]:
        """Generate an answer for each of B windows, in one batch."""
        constraint = None
        if self.constrained:
            constraint = GrammarProcessor(self._grammar, [self._grammar.start("preference")] * len(windows))
        return self.model.write(
            self._texts(windows), "categories", self._most, streamer=streamer, constraint=constraint
        )

    def _texts(self, windows: Windows) -> list[str]:
        text = form_of("categories", "labels").held_out
        return [
            text.format(who=self._wording.of_window(windows, row), fields=self._fields)
            for row in range(len(windows))
        ]

    @staticmethod
    def _batches(windows: Windows) -> Iterator[Ints]:
        """Group windows of similar length."""
        order = np.argsort(windows.length, kind="stable")
        yield from (order[start : start + _AT_ONCE] for start in range(0, len(order), _AT_ONCE))


def category_answers(
    run: RunFolder, name: str, dataset: Dataset, task: CategoryPreference, options: AnswerOptions
) -> CategoryAnswers:
    """Load a run as a predictor of answers about categories.

    Args:
        run: The run.
        name: Its name in tables.
        dataset: Its data.
        task: The task.
        options: Device and constraint.

    Returns:
        The predictor.

    Raises:
        RecipeError: It was not trained on the family ``categories``.
        MismatchError: The run's item ids are those of other data.
    """
    recipe = run.recipe
    assert recipe.generative is not None
    if "categories" not in recipe.generative.families:
        raise RecipeError(
            f"{run.path} was trained on {', '.join(recipe.generative.families)}, and answers nothing about "
            "categories; train one with the family categories, or rank its items with palate rank"
        )
    if run.manifest.data_fingerprint != dataset.info.fingerprint:
        raise MismatchError(
            f"{run.path} names items by the numbers of {run.manifest.data_name}, and {dataset.info.name} is other "
            "data; evaluate it without --transfer, or train one on this data"
        )
    constrained = recipe.model.grammar if options.constrained is None else options.constrained
    recommender = load_generative(run.path, device=options.device)
    return CategoryAnswers(recommender, name, task, dataset.info.category_field, constrained)
