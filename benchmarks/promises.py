"""Measures whether answers of the packaged network reach the F1 promised for them, on users of five folds.

    python benchmarks/promises.py DATA... [--shops NAME...] [--least 0.3] [--truth unseen] [--folds 5]

Every user is answered once, as in benchmarks/universal.py, with decisions calibrated on the other folds' users and
labels of the given truth. Answers whose expected liked F1 is below --least are withheld. "independent" is the expected
F1 if labels were independent; "kept" is the F1 that training users' answers with such an expectation have reached.
Differences are reached minus promised F1, with the 95% interval of a bootstrap over users.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from palate.config.recipe import TaskSettings
from palate.data.dataset import Dataset, load_dataset
from palate.data.population import summarise
from palate.data.windows import make_examples
from palate.encoders.calibration import calibrated, counts_of, read_in_batches
from palate.encoders.estimates import PopulationInputs, Seen
from palate.encoders.marks import window_marks
from palate.encoders.universal import UniversalNetwork
from palate.errors import DataError
from palate.schema import TRUTHS, Doubles, Truth
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.decisions import decide
from palate.tasks.targets import answer_f1, expected_f1
from shops import SHOPS, prepared_shops
from universal import SIZES, folds_of, network_of

RESAMPLES = 2_000


def answered(
    network: UniversalNetwork, folds: list[Dataset], task: CategoryPreference, truth: Truth
) -> dict[int, Doubles]:
    """Answer for all users: expected F1 if independent, as kept, and reached F1, [3, B] by window size."""
    found: dict[int, list[Doubles]] = {size: [] for size in SIZES}
    for dataset in folds:
        summary = calibrated(network, summarise(dataset, task), dataset, task, truth=truth)
        inputs, decisions = PopulationInputs.of([summary]), summary.usual_decisions
        for size in SIZES:
            try:
                examples = make_examples(dataset, task, "test", size, "random", 0, "partly", truth)
            except DataError:  # no history is that long
                continue
            windows = examples.windows
            counts = counts_of(windows.interactions(), dataset.category_matrix, dataset.info.rating_values)
            logits, marks = (
                read_in_batches(network, counts, inputs),
                window_marks(Seen.of(counts, inputs), inputs),
            )
            most, labels = summary.max_labels, len(dataset.categories)
            said, chances = decide(logits, marks, windows.length, decisions, most)
            named = said.membership(labels)[..., 0]
            expected = expected_f1(chances[..., 0], named, most)
            constant, factor = decisions.kept_at(windows.length).T
            reached = answer_f1(examples.truth.membership(labels)[..., 0], named)
            found[size].append(np.stack([expected, np.clip(constant + factor * expected, 0, 1), reached]))
    return {size: np.concatenate(parts, axis=1) for size, parts in found.items() if parts}


def report(name: str, found: dict[int, Doubles], least: float) -> None:
    """Print promised and reached F1."""
    for size, (*promises, reached) in found.items():
        for kind, promised in zip(("independent", "kept"), promises, strict=True):
            given = promised >= least
            if given.sum() < 2:
                continue
            surplus = (reached - promised)[given]
            drawn = np.random.default_rng(0).integers(len(surplus), size=(RESAMPLES, len(surplus)))
            low, high = np.quantile(surplus[drawn].mean(axis=1), [0.025, 0.975])
            print(
                f"| {name} | {size} | {kind} | {given.sum()} of {len(given)} | {promised[given].mean():.3f} | "
                f"{reached[given].mean():.3f} | {surplus.mean():+.3f} ({low:+.3f} to {high:+.3f}) |",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--shops", nargs="*", metavar="NAME", default=[], help=", ".join(SHOPS))
    parser.add_argument("--least", type=float, default=0.3)
    parser.add_argument("--truth", choices=TRUTHS, default="unseen")
    parser.add_argument("--folds", type=int, default=5)
    chosen = parser.parse_args()
    network = network_of(None, untrained=False)
    print("| | window | expected F1 | answered | promised | reached | reached − promised |")
    print("|---|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        places = {str(path): path for path in chosen.data}
        places |= prepared_shops(chosen.shops, Path(scratch))
        for name, place in places.items():
            dataset = load_dataset(place)
            task = load_task(TaskSettings(), dataset.info)
            folds = folds_of(dataset, chosen.folds)
            report(name, answered(network, folds, task, chosen.truth), chosen.least)


if __name__ == "__main__":
    main()
