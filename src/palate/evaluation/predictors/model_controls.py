"""Controls of a trained model, including one that uses its user prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from palate.data.windows import draw_windows
from palate.evaluation.predictors.base import Predictor
from palate.evaluation.predictors.controls import AnotherUsersHistory, NoHistory, ShuffledRatings
from palate.evaluation.predictors.personalized import PersonalizedPredictor

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.evaluation.evaluate import Setting
    from palate.schema import Ints, Windows

AVERAGED = 512
"""Maximum number of training users in the mean user prompt."""
AT_ONCE = 64


class PopulationPrompt:
    """A model given the training users' mean user prompt, for all users."""

    def __init__(self, predictor: PersonalizedPredictor, dataset: Dataset, setting: Setting) -> None:
        self.name = f"{predictor.name}, population prompt"
        self._model = predictor.model
        rng = np.random.default_rng(setting.seed)
        users = dataset.users("train")
        some = rng.choice(users, min(AVERAGED, len(users)), replace=False)
        self._windows = draw_windows(dataset.interactions, some, setting.window, setting.kind, rng)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """Return the same answer B times."""
        return self._model.generate_from(self._mean_prompt()) * len(windows)

    @torch.inference_mode()
    def _mean_prompt(self) -> Tensor:
        """Compute the mean user prompt over users, [1, M, E]."""
        sums, users = [], []
        for start in range(0, len(self._windows), AT_ONCE):
            user = self._model.user_prompt(self._windows[start : start + AT_ONCE])
            sums.append((user.embeddings * user.mask[..., None]).sum(dim=0))  # [M, E]
            users.append(user.mask.sum(dim=0))  # [M]
        return (torch.stack(sums).sum(dim=0) / torch.stack(users).sum(dim=0)[:, None])[None]


def controls(predictor: Predictor, dataset: Dataset, setting: Setting) -> list[Predictor]:
    """Build all controls of a trained model, whose scores are not due to the user's own ratings.

    Shuffled ratings are left out if the data has a single rating value, and the mean user prompt for
    models that read text, which have no mean.
    """
    wrong: list[Predictor] = [AnotherUsersHistory(predictor, setting.seed), NoHistory(predictor)]
    if len(dataset.rating_values) > 1:
        wrong.append(ShuffledRatings(predictor, setting.seed))
    if isinstance(predictor, PersonalizedPredictor) and not predictor.model.reads_text:
        wrong.append(PopulationPrompt(predictor, dataset, setting))
    return wrong
