"""Compares the universal network with tuned shrinkage on datasets that it was not trained on.

    python benchmarks/universal.py DATA... [--shops [NAME...]] [--network FOLDER] [--folds 5] [--seeds 3]
        [--rule own-mean] [--training-users N] [--window-kind recent]

DATA are folders written by `palate prepare`. Every user is scored once per seed: the users of a fold with summaries,
calibration and shrinkage from the other folds' users; the network's weights never change. Windows are random, of users
with more interactions than the window. "bare" is the network with the population's summary only, "calibrated" also
with decisions fitted to the training users, as shrinkage's strengths are. Differences are calibrated minus shrinkage,
with the 95% interval of a paired bootstrap over users, averaged over the seeds. --shops adds shops of
benchmarks/shops.py, all by default; --network loads a saved model instead of the packaged one, --estimates uses no
network; --training-users limits each fold's training users.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from palate.config.recipe import TaskSettings, UniversalSettings
from palate.data.dataset import Dataset, load_dataset
from palate.data.population import PopulationSummary, summarise
from palate.data.windows import draw_windows
from palate.encoders.calibration import calibrated, counts_of, read_in_batches
from palate.encoders.estimates import PopulationInputs, Seen
from palate.encoders.marks import window_marks
from palate.encoders.universal import UniversalNetwork
from palate.evaluation.metrics import paired_difference, weighted_f1
from palate.evaluation.predictors.rule import Rule
from palate.evaluation.predictors.shrinkage import Shrinkage
from palate.schema import RULES, SPLITS, Bools, Doubles, Preferences, WindowKind, Windows
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.decisions import decide
from palate.tasks.statistics import category_statistics
from shops import SHOPS, prepared_shops

SIZES = (5, 20, 50, 100, 200)
FEWEST = 10
"""Minimum number of users in a fold for a window size."""
BINS = 10
"""Bins of the expected calibration error."""
HALVES = ("liked", "disliked")


def folds_of(dataset: Dataset, folds: int, most: int | None = None) -> list[Dataset]:
    """Split all users at random: each fold is the test users of one dataset, with the other users for training.

    At most ``most`` training users are kept.
    """
    order = np.random.default_rng(0).permutation(len(dataset.user_ids))
    train, dev, test = (SPLITS.index(name) for name in ("train", "dev", "test"))
    found = []
    for one in range(folds):
        split = np.where(order % folds == one, test, train).astype(np.uint8)
        split[np.flatnonzero(split == train)[most:] if most else []] = dev
        found.append(replace(dataset, split_of_user=split))
    return found


def _said(
    network: UniversalNetwork,
    dataset: Dataset,
    task: CategoryPreference,
    summary: PopulationSummary,
    windows: Windows,
) -> tuple[Preferences, Doubles]:
    """Predict the labels of B windows and their probabilities, [B, L, 2]."""
    counts = counts_of(windows.interactions(), dataset.category_matrix, dataset.info.rating_values)
    inputs = PopulationInputs.of([summary])
    logits, marks = read_in_batches(network, counts, inputs), window_marks(Seen.of(counts, inputs), inputs)
    return decide(logits, marks, windows.length, summary.usual_decisions, task.settings.max_labels)


def answers(
    network: UniversalNetwork,
    folds: Sequence[Dataset],
    task: CategoryPreference,
    seeds: int,
    kind: WindowKind = "random",
) -> dict:
    """Predict for the test users of all folds: label sets [B, L, 2] by window size and seed, and the truth."""
    whole = folds[0]
    labels = len(whole.categories)
    found: dict = defaultdict(lambda: defaultdict(list))
    full = category_statistics(whole.interactions, whole.category_matrix, whole.rating_values)
    truth = task.labels(full).membership(labels)
    seconds = 0.0
    for dataset in folds:
        summary = summarise(dataset, task)
        start = time.perf_counter()
        fitted = calibrated(network, summary, dataset, task, kind=kind)
        seconds += time.perf_counter() - start
        references = {"rule": Rule(dataset, task), "shrinkage": Shrinkage(dataset, task, kind)}
        users = dataset.users("test")
        for size in SIZES:
            longer = users[dataset.interactions.lengths[users] > size]
            if len(longer) < FEWEST:
                continue
            for seed in range(seeds):
                windows = draw_windows(dataset.interactions, longer, size, kind, np.random.default_rng(seed))
                into = found[size, seed]
                for name, reference in references.items():
                    said = task.parse(reference.predict(longer, windows))
                    into[name].append(said.membership(labels))
                for name, one in (("bare", summary), ("calibrated", fitted)):
                    said, chances = _said(network, dataset, task, one, windows)
                    into[name].append(said.membership(labels))
                    into[f"chances, {name}"].append(chances)
                into["truth"].append(truth[longer])
                base = truth[dataset.users("train")].mean(axis=0)
                into["population"].append(np.broadcast_to(base, chances.shape))
    print(f"calibration: {seconds / len(folds):.1f} s", flush=True)
    return {key: {name: np.concatenate(parts) for name, parts in one.items()} for key, one in found.items()}


def _f1(one: dict, who: str, half: int) -> float:
    return weighted_f1(one["truth"][..., half], one[who][..., half])


def calibration_error(truth: Bools, chances: Doubles) -> float:
    """Compute the expected calibration error of probabilities in ten bins."""
    place = np.minimum((chances * BINS).astype(int), BINS - 1)
    parts = [place == one for one in range(BINS)]
    return float(sum(abs(chances[at].mean() - truth[at].mean()) * at.mean() for at in parts if at.any()))


def report(name: str, found: dict, seeds: int) -> None:
    """Print the tables of a dataset."""
    sizes = [size for size in SIZES if (size, 0) in found]
    print(f"\n### {name}\n\n| | " + " | ".join(map(str, sizes)) + " |\n|---|" + "---:|" * len(sizes))
    print("| users | " + " | ".join(str(len(found[size, 0]["truth"])) for size in sizes) + " |")
    for half, title in enumerate(HALVES):
        for who in ("rule", "shrinkage", "bare", "calibrated"):
            row = [np.mean([_f1(found[size, seed], who, half) for seed in range(seeds)]) for size in sizes]
            print(f"| {title} F1, {who} | " + " | ".join(f"{value:.3f}".lstrip("0") for value in row) + " |")
        cells = []
        for size in sizes:
            both = [
                paired_difference(
                    *(found[size, seed][who][..., half] for who in ("truth", "calibrated", "shrinkage"))
                )
                for seed in range(seeds)
            ]
            value, low, high = (
                np.mean([getattr(one, part) for one in both]) for part in ("value", "low", "high")
            )
            cells.append(f"{value:+.3f} ({low:+.3f} to {high:+.3f})")
        print(f"| {title}, calibrated − shrinkage | " + " | ".join(cells) + " |")
        errors, skills = [], []
        for size in sizes:
            one = found[size, 0]
            truth, chances, base = (
                one[part][..., half] for part in ("truth", "chances, calibrated", "population")
            )
            errors.append(calibration_error(truth, chances))
            skills.append(1 - ((chances - truth) ** 2).mean() / max(((base - truth) ** 2).mean(), 1e-12))
        print(f"| {title}, calibration error | " + " | ".join(f"{value:.3f}" for value in errors) + " |")
        print(
            f"| {title}, Brier skill | " + " | ".join(f"{value:.3f}" for value in skills) + " |", flush=True
        )


def network_of(folder: str | None, untrained: bool) -> UniversalNetwork:
    """Load the network of a saved model, by default the packaged one, or build an untrained one."""
    if untrained:
        torch.manual_seed(0)
        return UniversalNetwork(UniversalSettings()).eval()
    from palate.model.model import load_model

    return load_model(folder or "packaged", device="cpu").user_encoder.network.eval()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--shops", nargs="*", metavar="NAME", help=", ".join(SHOPS))
    parser.add_argument("--network")
    parser.add_argument("--estimates", action="store_true")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rule", choices=RULES)
    parser.add_argument("--training-users", type=int)
    parser.add_argument("--window-kind", choices=("random", "recent"), default="random")
    chosen = parser.parse_args()
    network = network_of(chosen.network, chosen.estimates)
    with tempfile.TemporaryDirectory() as scratch:
        places = {str(path): path for path in chosen.data}
        places |= prepared_shops((chosen.shops or SHOPS) if chosen.shops is not None else (), Path(scratch))
        for name, place in places.items():
            dataset = load_dataset(place)
            task = load_task(TaskSettings(rule=chosen.rule), dataset.info)
            folds = folds_of(dataset, chosen.folds, chosen.training_users)
            report(name, answers(network, folds, task, chosen.seeds, chosen.window_kind), chosen.seeds)


if __name__ == "__main__":
    main()
