"""All controls of a trained model, with the one that needs its user prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from palate.data.windows import draw_windows
from palate.evaluation.predictors.base import Predictor
from palate.evaluation.predictors.controls import AnotherUsersHistory, NoHistory, ShuffledRatings

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.evaluation.evaluate import Setting
    from palate.evaluation.predictors.personalized import PersonalizedPredictor
    from palate.schema import Ints, Windows

AVERAGED = 512
"""Training users whose user prompts make the population's."""
AT_ONCE = 64


class PopulationPrompt:
    """A model that reads the mean user prompt of training users in the place of everybody's own."""

    def __init__(self, predictor: PersonalizedPredictor, dataset: Dataset, setting: Setting) -> None:
        self.name = f"{predictor.name}, population prompt"
        self._model = predictor.model
        rng = np.random.default_rng(setting.seed)
        users = dataset.users("train")
        some = rng.choice(users, min(AVERAGED, len(users)), replace=False)
        self._windows = draw_windows(dataset.interactions, some, setting.window, setting.kind, rng)

    def predict(self, user_index: Ints, windows: Windows) -> list[str]:
        """The same answer B times."""
        return self._model.generate_from(self._mean_prompt()) * len(windows)

    @torch.inference_mode()
    def _mean_prompt(self) -> Tensor:
        """The mean over users of each place of the user prompt, [1, M, E]."""
        sums, users = [], []
        for start in range(0, len(self._windows), AT_ONCE):
            user = self._model.user_prompt(self._windows[start : start + AT_ONCE])
            sums.append((user.embeddings * user.mask[..., None]).sum(dim=0))  # [M, E]
            users.append(user.mask.sum(dim=0))  # [M]
        return (torch.stack(sums).sum(dim=0) / torch.stack(users).sum(dim=0)[:, None])[None]


def controls(predictor: PersonalizedPredictor, dataset: Dataset, setting: Setting) -> list[Predictor]:
    """Every control of a trained model: what it scores with one, it does not owe to the user's own ratings.

    Ratings that are all the same cannot be shuffled. The population prompt is for models with a user encoder:
    histories as text have no mean.
    """
    wrong: list[Predictor] = [AnotherUsersHistory(predictor, setting.seed), NoHistory(predictor)]
    if len(dataset.rating_values) > 1:
        wrong.append(ShuffledRatings(predictor, setting.seed))
    if not predictor.model.reads_text:
        wrong.append(PopulationPrompt(predictor, dataset, setting))
    return wrong
