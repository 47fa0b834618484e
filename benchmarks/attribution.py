"""Tests leave-one-out attribution: removes the items of highest influence, and as many random ones.

    python benchmarks/attribution.py RUN --data data/ml-1m [--users 60] [--window 50] [--seed 0]

Uses test users and their most recent window. For each k, the k items of highest influence are removed from the window
together, or k random ones; reported are how often the answer changes and the decrease of its log-probability.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from palate.data.dataset import load_dataset
from palate.evaluation.attribution import attribute, log_chances, log_probabilities
from palate.model.model import load_model
from palate.system.machine import describe_machine

REMOVED = (1, 3, 5, 10)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the run's dataset")
    parser.add_argument("--users", type=int, default=60, help="number of test users, sampled by the seed")
    parser.add_argument("--window", type=int, default=50, help="most recent interactions per user")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    model, dataset = load_model(arguments.run), load_dataset(arguments.data)
    test = dataset.users("test")
    drawn = rng.choice(test, min(arguments.users, len(test)), replace=False)
    changed: dict[tuple[str, int], list[bool]] = {}
    lost: dict[tuple[str, int], list[float]] = {}
    for history in dataset.histories([dataset.user_ids[index] for index in drawn]):
        window = history.latest(arguments.window)
        found = attribute(model, window)
        rankings = {"driving": np.argsort(-found.influence), "random": rng.permutation(len(window))}
        for name, order in rankings.items():
            for k in REMOVED:
                out = set(order[:k].tolist())
                left = window.take(row for row in range(len(window)) if row not in out)
                prompt = model.encode([left]).split()
                answer = model.generate_from(prompt)[0]
                scored = log_chances if found.by == "chances" else log_probabilities
                likely = scored(model, prompt, found.answer)[0]
                changed.setdefault((name, k), []).append(answer != found.answer)
                lost.setdefault((name, k), []).append(found.log_probability - likely)
    print(describe_machine())
    print(
        f"{len(drawn)} test users of {dataset.info.name}, windows of {arguments.window}, seed {arguments.seed}"
    )
    print(f"{'removed':>7}  {'items':<8} {'answer changed':>14} {'log-probability lost':>21}")
    for name, k in sorted(changed, key=lambda pair: (pair[1], pair[0])):
        share, mean = np.mean(changed[name, k]), np.mean(lost[name, k])
        print(f"{k:>7}  {name:<8} {share:>14.0%} {mean:>21.2f}")


if __name__ == "__main__":
    main()
