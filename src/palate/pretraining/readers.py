"""Users of random populations, encoded by a network, for questions about categories and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of
from palate.encoders.estimates import PopulationInputs, Reading, on_scale
from palate.pretraining.language import Readers
from palate.pretraining.populations import Shape, draw_population
from palate.tasks.questions import without

if TYPE_CHECKING:
    from palate.encoders.universal import UniversalNetwork

CATEGORIES = (3, 40)
"""Minimum and maximum number of categories of a population."""
LONGEST_WINDOW = 200
MOST_READ = 256
"""Maximum number of users of a population that are encoded."""


class NetworkReaders:
    """Draws users of a fixed number of random populations, encoded by a network from random windows.

    Args:
        network: The network, whose weights are not changed.
        populations: Number of populations.
        seed: Seed of the populations and windows.
    """

    def __init__(self, network: UniversalNetwork, populations: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 4])
        self.width = int(network.norm.weight.shape[0])
        self._read = [_population(network, rng) for _ in range(populations)]

    def draw(self, rng: np.random.Generator, users: int) -> Readers:
        """Draw users of one population."""
        read = self._read[int(rng.integers(len(self._read)))]
        return read[rng.integers(len(read.rated), size=users)]


@torch.no_grad()
def _population(network: UniversalNetwork, rng: np.random.Generator) -> Readers:
    """Draw a population, summarise half of its users, and encode windows of the other half."""
    labels = int(np.exp(rng.uniform(*np.log(CATEGORIES))))
    p = draw_population(Shape(labels, 3, "ratings"), rng)
    users = rng.permutation(len(p.histories.lengths))
    known, read = users[: len(users) // 2], users[len(users) // 2 :][:MOST_READ]
    size = int(np.exp(rng.uniform(0, np.log(LONGEST_WINDOW))))
    asked = p.histories.offsets[read] + rng.integers(p.histories.lengths[read])
    items = p.histories.item_index[asked].astype(np.int64)
    windows = without(draw_windows(p.histories, read, size, "random", rng), items)
    counts = counts_of(windows.interactions(), p.category_matrix, p.rating_values)
    inputs = PopulationInputs.of([p.summary(known)])
    reading = Reading.of(counts, inputs)
    logits, hidden = network(reading)
    full = p.statistics(read)
    return Readers(
        hidden=hidden,
        logits=logits,
        rated=on_scale(reading.ratings, p.rating_values),
        scores=p.task.scores(full),
        known=full.count >= p.task.settings.min_count,
        like_above=p.task.like_above,
        rating_values=np.asarray(p.rating_values, np.float32),
        item_categories=[np.flatnonzero(p.category_matrix[item]).tolist() for item in items],
    )
