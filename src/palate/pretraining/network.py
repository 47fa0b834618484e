"""Pretrains the universal network on random populations: the same settings and seed give the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of
from palate.encoders.estimates import PopulationInputs
from palate.encoders.examples import NetworkExamples
from palate.encoders.universal import UniversalNetwork
from palate.pretraining.populations import RandomPopulation, draw_population, draw_shape
from palate.schema import Ints

if TYPE_CHECKING:
    from palate.pretraining.settings import NetworkPretraining

LONGEST_WINDOW = 300
WINDOW_SIZES = 8
"""Different window lengths for the users of a population."""
WHOLE = 0.05
"""Share of users whose whole history is shown."""
RECENT = 0.25
"""Share of the window sizes at which the newest interactions are shown instead of random ones."""
FEW = 0.2
"""Share of summaries that are computed from only 20 to 50 users."""


def pretrain_network(
    settings: NetworkPretraining, progress: Callable[[int, float], None] = lambda step, loss: None
) -> UniversalNetwork:
    """Train a network on random populations.

    Args:
        settings: Numbers of steps and of populations, the learning rate and the seed.
        progress: Called after each step with its number and its loss.

    Returns:
        The network, whose weights are an exponential moving average of those of the steps.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = UniversalNetwork(settings.network)
    averaged = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.05
    )
    for step, batch in enumerate(_batches(network, settings, rng), start=1):
        logits, _ = network.correct(batch.base, batch.features)
        loss = functional.binary_cross_entropy_with_logits(logits, batch.truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(settings.averaging, step / (step + 20))
        for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - decay)
        progress(step, float(loss.detach()))
        if step == settings.steps:
            break
    return averaged.requires_grad_(True)


def _batches(
    network: UniversalNetwork, settings: NetworkPretraining, rng: np.random.Generator
) -> Iterator[NetworkExamples]:
    """Yield batches of windows of several populations of the same shape, indefinitely."""
    while True:
        shape = draw_shape(rng)
        drawn = NetworkExamples.joined(
            [draw_examples(network, draw_population(shape, rng), rng) for _ in range(settings.populations)]
        )
        size = min(max(settings.batch_cells // shape.categories, 16), settings.batch_size, len(drawn))
        for _ in range(settings.epochs):
            order = torch.from_numpy(rng.permutation(len(drawn)))
            for start in range(0, len(order) - size + 1, max(size, 1)):
                yield drawn[order[start : start + size]]


def draw_examples(
    network: UniversalNetwork, population: RandomPopulation, rng: np.random.Generator
) -> NetworkExamples:
    """Draw windows of half of a population's users, with a summary of the other half."""
    users = rng.permutation(len(population.histories.lengths))
    half = len(users) // 2
    found = [
        _of_half(network, population, known, read, rng)
        for known, read in ((users[:half], users[half:]), (users[half:], users[:half]))
    ]
    return NetworkExamples.joined(found)


def _of_half(
    network: UniversalNetwork, population: RandomPopulation, known: Ints, read: Ints, rng: np.random.Generator
) -> NetworkExamples:
    p = population
    if rng.random() < FEW:
        known = known[: rng.integers(20, 51)]
    inputs = PopulationInputs.of([p.summary(known)])
    categories = p.category_matrix.shape[1]
    truth = p.task.labels(p.statistics(read)).membership(categories)
    parts = [NetworkExamples(*(torch.zeros(0, categories, last) for last in (2, network.features, 2)))]
    for rows in np.array_split(np.arange(len(read)), min(WINDOW_SIZES, len(read))):
        size = int(np.exp(rng.uniform(0, np.log(LONGEST_WINDOW))))
        longer = rows[(p.histories.lengths[read[rows]] > size) | (rng.random(len(rows)) < WHOLE)]
        if not len(longer):
            continue
        kind = "recent" if rng.random() < RECENT else "random"
        windows = draw_windows(p.histories, read[longer], size, kind, rng)  # type: ignore[arg-type]
        counts = counts_of(windows.interactions(), p.category_matrix, p.rating_values)
        labels = torch.from_numpy(truth[longer].astype(np.float32))
        parts.append(NetworkExamples.of(network, counts, inputs, labels))
    return NetworkExamples.joined(parts)
