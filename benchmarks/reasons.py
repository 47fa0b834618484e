"""Tests the reasons of recommendations: does removing the named items lower the score more than removing others?

    python benchmarks/reasons.py RUN [RUN ...] --users 100 --seed 0

Each test user's first recommendation is explained, and its expected rating, too, if the data has ratings. The named
items are removed from the state, and, ten times, as many random others with the same ratings. Two controls: another
user's explanation, of which this user has no items; and another user's reasons for the same item, restricted to items
that this user has. Users with too few other items of the same ratings are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from palate.answers.reasons import alternatives, explain, scorer_without
from palate.recommend.files import load_recommender
from palate.recommend.recommender import Recommender
from palate.recommend.state import TasteState
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Bools, Doubles

ALTERNATIVES = 10
LEAST = 8
"""Minimum number of events of a user."""


def main() -> None:
    """Evaluate runs and print a row per score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(
        "| run | score | cases | above all 10 | not in the history | another's explanation | another's for this item |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for run in given.runs:
        for by in ("next item", "ratings"):
            if row := measured(run, by, given.users, given.seed):
                print("| " + " | ".join(row) + " |", flush=True)


def measured(run: Path, by: str, most: int, seed: int) -> list[str]:
    """Evaluate the reasons of one score."""
    recommender = load_recommender(run)
    if by == "ratings" and recommender.ratings is None:
        return []
    dataset = dataset_of(load_run(run))
    rng = np.random.default_rng(seed)
    users = rng.permutation(dataset.users("test"))
    names = [dataset.user_ids[at] for at in users if dataset.interactions.lengths[at] >= LEAST][:most]
    states = [recommender.state(one) for one in dataset.histories(names)]
    whole, swapped, foreign, strangers, before = [], [], [], 0, None
    for at, state in enumerate(states):
        item_id = recommender.recommend([state], 1)[0].items[0].item_id
        index = int(recommender.index_of([item_id])[0])
        reasons = explain(recommender, state, item_id, by)
        score = scorer_without(recommender, state, index, by)
        chosen = _places(recommender, state, [one.item_id for one in reasons.items])
        strangers += len(chosen) < len(reasons.items)
        if not (found := _beaten(score, state, chosen, rng)):
            continue
        whole.append(all(found))
        if before is not None:
            known = _places(recommender, state, before)
            swapped.append(len(known) == len(before) and all(_beaten(score, state, known, rng) or [False]))
        before = [one.item_id for one in reasons.items]
        other = explain(recommender, states[at - 1], item_id, by)
        theirs = _places(recommender, state, [one.item_id for one in other.items])
        if found := _beaten(score, state, theirs, rng):
            foreign.append(all(found))
    return [
        run.name,
        by,
        str(len(whole)),
        f"{np.mean(whole):.1%}",
        str(strangers),
        f"{np.mean(swapped):.1%}",
        f"{np.mean(foreign):.1%} of {len(foreign)}" if foreign else "–",
    ]


def _places(recommender: Recommender, state: TasteState, item_ids: list[str]) -> list[int]:
    """Return the newest event of each item in a state."""
    index = recommender.index_of(item_ids)
    rows = (np.flatnonzero(state.item_index == one) for one in index)
    return [int(row[-1]) for row in rows if len(row)]


def _beaten(
    score: Callable[[Bools], Doubles], state: TasteState, chosen: list[int], rng: np.random.Generator
) -> list[bool]:
    """Compare each alternative: is the score lower without the chosen events?"""
    if not chosen:
        return []
    others = alternatives(state, chosen, np.ones(len(state.item_index), dtype=np.bool_), ALTERNATIVES, rng)
    if others is None:
        return []
    own = np.zeros((1, len(state.item_index)), dtype=np.bool_)
    own[0, chosen] = True
    left = score(np.concatenate([own, others]))
    return (left[0] < left[1:]).tolist()


if __name__ == "__main__":
    main()
