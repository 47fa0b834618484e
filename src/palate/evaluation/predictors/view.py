"""The view in a template: a user encoder's decisions, put into words without a language model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from palate.evaluation.metrics import label_frequencies
from palate.schema import Bools, Doubles, Ints, Preferences
from palate.tasks.targets import best_answers

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.encoders.base import UserPrompt
    from palate.evaluation.predictors.personalized import PersonalizedPredictor
    from palate.schema import Truth, Windows
    from palate.tasks.category_preference import CategoryPreference


class ViewInTemplate:
    """A model's user encoder without its language model: the decided labels, written by the task's template.

    The difference to the model's score is what the language model adds or loses. Uses the user encoder's own choice
    of labels if it makes one; otherwise the answer with the highest expected F1 under its probabilities.

    Args:
        predictor: Predictor of the model.
        dataset: Dataset that provides label frequencies of training users.
        task: Task whose template is used.
    """

    def __init__(self, predictor: PersonalizedPredictor, dataset: Dataset, task: CategoryPreference) -> None:
        self.name = f"{predictor.name}, view in a template"
        self._predictor, self._dataset, self._task = predictor, dataset, task

    def with_truth(self, truth: Truth) -> ViewInTemplate:
        """Return the view of the model calibrated on labels of this truth."""
        return ViewInTemplate(self._predictor.with_truth(truth), self._dataset, self._task)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Write an answer per window [B]; ``user_index`` is ignored."""
        answers = [""] * len(windows)
        for rows, user in self._predictor.encoded(windows):
            for row, answer in zip(rows, self._task.target_texts(self._decided(user)), strict=True):
                answers[row] = answer
        return answers

    def probabilities(self, user_index: Ints, windows: Windows) -> Doubles | None:
        """Return the model's probabilities of the labels, [B, L, 2]."""
        return self._predictor.probabilities(user_index, windows)

    def expected_f1(self, windows: Windows, named: Bools, most: int) -> Doubles | None:
        """Estimate the F1 of answers as the model's predictor does, [B]."""
        return self._predictor.expected_f1(windows, named, most)

    def _decided(self, user: UserPrompt) -> Preferences:
        most = self._task.settings.max_labels
        if (decided := user.decided) is not None:
            return Preferences(decided.liked[:, :most], decided.disliked[:, :most])
        chances = self._predictor.model.category_logits(user).double().sigmoid().cpu().numpy()
        return best_answers(chances, self._frequency, most)

    @cached_property
    def _frequency(self) -> Doubles:
        """Shares of training users who like and dislike each label, [2, L]."""
        training = self._dataset.statistics[self._dataset.users("train")]
        return np.asarray(label_frequencies(self._task.labels(training), len(self._task.label_names)).T)


def has_view(predictor: PersonalizedPredictor, windows: Windows) -> bool:
    """Return whether a model's user encoder has category logits, by encoding the first window."""
    _, user = next(predictor.encoded(windows[:1]))
    return user.category_logits is not None
