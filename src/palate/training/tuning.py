"""Training batches of a catalogue-free network, precomputed except for what depends on its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset as TorchDataset

from palate.data.population import summaries_without
from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of, enough_users
from palate.encoders.estimates import PopulationInputs
from palate.encoders.examples import NetworkExamples
from palate.errors import RecipeError
from palate.tasks.wordings import NAMING

if TYPE_CHECKING:
    from palate.config.recipe import Recipe
    from palate.data.dataset import Dataset
    from palate.encoders.universal import UniversalNetwork
    from palate.schema import Ints
    from palate.tasks import CategoryPreference

BATCHES_A_GROUP = 16
"""Batches whose windows are prepared together."""
EPOCHS = 2
"""Times that a group of windows is trained on."""
CELLS = 2_500
"""Maximum of windows times categories in a batch, so that all steps cost about the same."""
FEWEST_WINDOWS = 16
"""Minimum number of windows per batch for any number of categories, unless the recipe has fewer."""


class TuningBatches(TorchDataset[dict[str, Any]]):
    """Dataset whose item i is training batch i, a function of the seed and i only.

    Each training user is read with a population summary of other users, as new users are later. Windows show a part of
    a history: a full history leaves nothing to predict.

    A batch holds ``prepared``, the argument of :meth:`PersonalizedModel.forward`, and, as other batches, ``liked`` and
    ``disliked`` [B, L], and ``kinds``.

    Args:
        recipe: The recipe.
        dataset: The dataset.
        task: The task, with its label rule.
        network: The network, of which only the parts without weights are used.

    Raises:
        RecipeError: The recipe has settings that do not apply to this training, or no training user has a longer
            history than its shortest window.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, task: CategoryPreference, network: UniversalNetwork
    ) -> None:
        _check_settings(recipe)
        self.recipe, self.dataset, self.network = recipe, dataset, network
        self.users = dataset.users("train")
        self.lengths = dataset.interactions.lengths[self.users]
        summaries, self.part = summaries_without(dataset, task, self.users)
        labels = len(dataset.categories)
        self.truth = task.labels(dataset.statistics[self.users]).membership(labels)
        self.longest = self._longest_window()
        self.inputs = PopulationInputs.of(summaries)
        most = max(CELLS // labels, FEWEST_WINDOWS)
        self.size = min(recipe.train.per_device_train_batch_size, most)
        self.batches_a_step: int = recipe.train.gradient_accumulation_steps * PartialState().num_processes
        self._group: tuple[int, NetworkExamples] | None = None

    def __len__(self) -> int:
        return self.recipe.train.max_steps * self.batches_a_step

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, place = divmod(index, BATCHES_A_GROUP * EPOCHS)
        if self._group is None or self._group[0] != number:
            self._group = number, self._drawn(number)
        drawn = self._group[1]
        epoch, at = divmod(place, BATCHES_A_GROUP)
        order = np.random.default_rng([self.recipe.seed, 5, number, epoch]).permutation(len(drawn))
        batch = drawn[torch.from_numpy(order[at * self.size : (at + 1) * self.size])]
        liked, disliked = batch.truth.bool().unbind(dim=-1)
        prepared = {"base": batch.base, "features": batch.features}
        return {"prepared": prepared, "liked": liked, "disliked": disliked, "kinds": [NAMING[0]]}

    def _drawn(self, number: int) -> NetworkExamples:
        """Draw and prepare the windows of a group of batches, of one size for each batch."""
        rng = np.random.default_rng([self.recipe.seed, 4, number])
        return NetworkExamples.joined([self._of_one_length(rng) for _ in range(BATCHES_A_GROUP)])

    def _of_one_length(self, rng: np.random.Generator) -> NetworkExamples:
        data, windows = self.dataset, self.recipe.windows
        shortest = min(windows.shortest, self.longest)
        size = round(math.exp(rng.uniform(math.log(shortest), math.log(self.longest))))
        longer = np.flatnonzero(self.lengths > size)
        rows: Ints = rng.choice(longer, self.size, replace=len(longer) < self.size)
        drawn = draw_windows(data.interactions, self.users[rows], size, windows.kind, rng)
        counts = counts_of(drawn.interactions(), data.category_matrix, data.info.rating_values)
        truth = torch.from_numpy(self.truth[rows].astype(np.float32))
        return NetworkExamples.of(self.network, counts, self.inputs[torch.from_numpy(self.part[rows])], truth)

    def _longest_window(self) -> int:
        """Return the largest window size that enough users' histories exceed."""
        windows = self.recipe.windows
        enough = min(enough_users(len(self.users)), len(self.users))
        if not enough or (longest := int(np.sort(self.lengths)[-enough]) - 1) < 1:
            raise RecipeError(
                f"model.start is trained on parts of the training users' histories, and {self.dataset.info.name} has "
                f"{len(self.users)} training users, too few of them with 2 interactions; take it as it is, by "
                "palate summarise"
            )
        return min(windows.longest, longest)


def _check_settings(recipe: Recipe) -> None:
    """Raise :class:`RecipeError` for settings that do not apply to this training."""
    train = recipe.train
    others: dict[str, tuple[bool, str]] = {
        "simulation.users": (recipe.simulation.users > 0, "0"),
        "train.window_labels": (train.window_labels > 0, "0"),
        "train.questions": (bool(train.questions), "null"),
        "train.answers": (train.answers != "truth", "truth"),
        "train.auxiliary_weight": (train.auxiliary_weight == 0, "1"),
    }
    for name, (given, value) in others.items():
        if given:
            raise RecipeError(
                f"{name}: a training from model.start is of the user encoder alone, by the labels of real users' full "
                f"histories; set {name}={value}"
            )
