"""Calibrates a universal network's decisions on a population's training users, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from palate.data.population import (
    FOLDS,
    PopulationSummary,
    rating_step,
    rating_steps,
    summaries_without,
)
from palate.data.windows import draw_with_truth
from palate.encoders.counts import CategoryCounts
from palate.encoders.estimates import PopulationInputs, Reading, Seen
from palate.encoders.marks import window_marks
from palate.schema import Bools, Doubles, Interactions, Ints, Truth, WindowKind, Windows
from palate.tasks.calibration import Sample, fit_decisions
from palate.tasks.statistics import category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.encoders.universal import UniversalNetwork
    from palate.tasks.category_preference import CategoryPreference

LENGTHS = (3, 6, 12, 25, 50, 100, 200, 400)
"""Window lengths at which decisions are calibrated, if enough users have longer histories."""
FEWEST_USERS, LEAST_SHARE = 20, 0.02
"""Minimum number, and share, of users with longer histories for a window length to be used."""
MOST_USERS, MOST_CELLS = 1_500, 60_000
"""Maximum number of users per window length, and of users times categories."""
WINDOWS = 600
"""Minimum number of windows per length; several per user if there are few users."""
BATCH_CELLS = 8_000
"""Maximum batch size, in users times categories."""
WINDOWS_AT_ONCE = 256
"""Batch size of the corrections, in windows."""


def enough_users(users: int) -> int:
    """Return the minimum number of users with longer histories for a window length to be used."""
    return math.ceil(max(FEWEST_USERS, LEAST_SHARE * users))


@dataclass(frozen=True)
class Effort:
    """Effort of a calibration: window lengths, users and folds."""

    near: Sequence[int] = ()
    """Lengths of the histories to decide on; window lengths are chosen within their range. No limit if empty."""
    cells: int = MOST_CELLS
    """Maximum number of users times categories, per window length."""
    least: int = 200
    """Minimum number of users, whatever ``cells`` is, if there are as many."""
    folds: int = FOLDS
    """Number of folds of the users; each is read with a summary of the other folds."""

    @classmethod
    def quick(cls, near: Sequence[int]) -> Effort:
        """Return a reduced effort for a few histories of these lengths that are decided on only once."""
        return cls(tuple(near), cells=25_000, least=80, folds=2)

    def sizes(self, lengths: Ints) -> list[int]:
        """Choose the window lengths that are shorter than the histories of enough users [N]."""
        enough = enough_users(len(lengths))
        there = [size for size in LENGTHS if (lengths > size).sum() >= enough]
        if not self.near or not there:
            return there
        places = [int(np.searchsorted(there, one)) for one in self.near]
        return sorted({there[min(max(at, 0), len(there) - 1)] for one in places for at in (one - 1, one)})

    def most(self, categories: int) -> int:
        """Return the maximum number of users per window length."""
        return int(min(MOST_USERS, max(self.cells // categories, self.least)))


FULL = Effort()


def calibrated(
    network: UniversalNetwork,
    summary: PopulationSummary,
    dataset: Dataset,
    task: CategoryPreference,
    users: Ints | None = None,
    kind: WindowKind = "random",
    effort: Effort = FULL,
    truth: Truth = "labels",
    correction: Callable[[Windows], Tensor] | None = None,
) -> PopulationSummary:
    """Calibrate the decisions of a population's summary on training users, with summaries that exclude them.

    Args:
        network: The network whose log-odds are calibrated.
        summary: The population's summary.
        dataset: The dataset.
        task: The task, with its label rule.
        users: User indices; all training users if None.
        kind: Kind of the windows.
        effort: Numbers of users, windows and folds.
        truth: Interactions that the labels come from, see :func:`palate.data.windows.draw_with_truth`.
        correction: Computes a term [B, L, 2] to add to the log-odds of windows; none if None.

    Returns:
        The summary with decisions, or without them if too few users have histories longer than any window length.

    Raises:
        LeakageError: ``users`` contains a user outside the training split.
    """
    users = dataset.users("train") if users is None else users
    without, part = summaries_without(dataset, task, users, effort.folds)
    inputs = PopulationInputs.of(without) if without else None
    rng = np.random.default_rng(0)
    samples: dict[int, Sample] = {}
    lengths = dataset.interactions.lengths[users]
    most = effort.most(len(dataset.categories))
    for size in effort.sizes(lengths) if inputs is not None else ():
        least = size + (1 if truth == "labels" else task.settings.min_count)
        longer = np.flatnonzero(lengths >= least)
        if len(longer) > most:
            longer = rng.choice(longer, most, replace=False)
        repeats = max(1, min(WINDOWS, most) // len(longer))
        rows = np.tile(longer, repeats)
        windows, told = draw_with_truth(dataset, users[rows], size, kind, truth, rng)
        counts = counts_of(windows.interactions(), dataset.category_matrix, dataset.info.rating_values)
        assert inputs is not None
        logits = read_in_batches(network, counts, inputs, part[rows])
        if correction is not None:
            logits += _corrections(correction, windows)
        own = inputs[torch.from_numpy(part[rows])]
        marks = window_marks(Seen.of(counts, own), own)
        labels = task.labels(told).membership(len(dataset.categories))
        samples[size] = Sample(logits, marks, labels, repeats)
    decisions = fit_decisions(samples, task.settings.max_labels) if samples else None
    return summary.decided(decisions, kind)


def counts_of(
    histories: Interactions, category_matrix: Bools, rating_values: tuple[float, ...]
) -> CategoryCounts:
    """Count the interactions of users over a catalogue; ``category_matrix`` is [I, L]."""
    steps = rating_steps(rating_values)
    statistics = category_statistics(histories, category_matrix, np.asarray(rating_values, np.float32))
    squares = category_statistics(histories, category_matrix, (steps**2).astype(np.float32)).total
    return CategoryCounts.of_statistics(
        statistics, squares.round().astype(np.int64), float(rating_step(rating_values))
    )


@torch.no_grad()
def _corrections(correction: Callable[[Windows], Tensor], windows: Windows) -> Doubles:
    """Compute the corrections of B windows in batches, [B, L, 2]."""
    starts = range(0, len(windows), WINDOWS_AT_ONCE)
    parts = [correction(windows[start : start + WINDOWS_AT_ONCE].trimmed()) for start in starts]
    return torch.cat(parts).double().cpu().numpy()


@torch.no_grad()
def read_in_batches(
    network: UniversalNetwork, counts: CategoryCounts, population: PopulationInputs, place: Ints | None = None
) -> Doubles:
    """Compute the log-odds [B, L, 2] of B users.

    Args:
        network: The network.
        counts: Their counts.
        population: Their populations.
        place: Index of each user's population, [B]; the first if None.

    Returns:
        The log-odds.
    """
    size = max(1, BATCH_CELLS // max(counts.count.shape[1], 1))
    found = [np.zeros((0, counts.count.shape[1], 2))]
    for start in range(0, len(counts), size):
        rows = slice(start, start + size)
        own = population if place is None else population[torch.from_numpy(place[rows])]
        found.append(network(Reading.of(counts[rows], own))[0].double().cpu().numpy())
    return np.concatenate(found)
