"""Fits the constants of uncalibrated decisions (palate.tasks.decisions) to random populations.

    python benchmarks/bare_decisions.py [POPULATIONS]

Uses only the estimates without a network, and no labels: cutoffs are set by the probabilities themselves.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
import torch

from palate.config.recipe import UniversalSettings
from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of, read_in_batches
from palate.encoders.estimates import PopulationInputs
from palate.encoders.universal import UniversalNetwork
from palate.pretraining.populations import draw_population, draw_shape
from palate.tasks.calibration import fit_cutoffs
from palate.tasks.decisions import BARE_LENGTHS

WINDOWS, FEWEST = 300, 40
EXPECTED = 3.0
"""Minimum number of labels of a category in the windows, for it to be included."""


def main() -> None:
    """Print the constants."""
    populations = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    torch.manual_seed(0)
    rng, network = np.random.default_rng(77), UniversalNetwork(UniversalSettings())
    rows = defaultdict(list)
    for _ in range(populations):
        shape = draw_shape(rng)
        p = draw_population(shape, rng)
        users = np.arange(len(p.histories.lengths))
        known, read = users[: len(users) // 2], users[len(users) // 2 :]
        summary = p.summary(known)
        inputs, usual = PopulationInputs.of([summary]), np.log(np.median(summary.lengths))
        for length in rng.choice(BARE_LENGTHS[:-1], 4, replace=False).astype(int):
            longer = read[p.histories.lengths[read] > length][:WINDOWS]
            if len(longer) < FEWEST:
                continue
            windows = draw_windows(p.histories, longer, int(length), "random", rng).interactions()
            logits = read_in_batches(network, counts_of(windows, p.category_matrix, p.rating_values), inputs)
            chances = 1 / (1 + np.exp(-logits))
            cutoff, worth = fit_cutoffs(chances, shape.max_labels)
            for half, share in enumerate((summary.liked, summary.disliked)):
                for label in np.flatnonzero(chances[..., half].sum(axis=0) > EXPECTED):
                    size = np.log(length)
                    terms = (1, np.log(share[label]), size, usual, size**2, np.log(shape.categories))
                    weight = np.sqrt(chances[:, label, half].sum())
                    rows[half].append((*terms, cutoff[label, half] * 2, worth[label, half], weight))
    for half, found in sorted(rows.items()):
        table = np.array(found)
        terms, weight = table[:, :6], table[:, 8:]
        for name, value in (("REACHED", table[:, 6]), ("PAYS", table[:, 7])):
            value = np.clip(value, 0.02, 0.98)
            fitted = np.linalg.lstsq(terms * weight, np.log(value / (1 - value)) * weight[:, 0], rcond=None)[
                0
            ]
            print(name, ("liked", "disliked")[half], np.round(fitted, 3).tolist())


if __name__ == "__main__":
    main()
