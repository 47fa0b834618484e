"""Measures how often the bands of a taste hold what they say: mean ratings by category, of ratings that were not seen.

    python benchmarks/bands.py data/ml-100k [--windows 5 20 50 100] [--least 5] [--users 300] [--seed 0]

A recommender is fitted to the training users. Of each test user a random window of events is seen, and the others are
held out. For every category with at least --least held-out ratings, the share of their means that lie within the 90%
band of POST /tastes is counted. The mean of few ratings varies by itself: "with own spread" widens the band by the
standard error of the held-out mean. The band of the chance of a like, of the packaged model, is compared with the
chance from the whole history. In brackets: 95% intervals of a bootstrap over users.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit

from palate.answers.tastes import CategoryTastes
from palate.config.recipe import ItemSettings, RecommendSettings
from palate.data.dataset import load_dataset
from palate.model.model import PersonalizedModel, load_model
from palate.recommend.fit import fit_recommender
from palate.schema import Doubles, History
from palate.serve.tasting import HALVES, WIDTH, error_by_halves, halves_of
from palate.system.machine import describe_machine

RESAMPLES = 2_000


def rating_bands(
    tastes: CategoryTastes, history: History, seen: Sequence[int], least: int
) -> list[tuple[bool, bool]]:
    """Ask of each category whether its held-out mean lies in the band, and in the one that is widened, of a user."""
    rest = sorted({*range(len(history))} - {*seen})
    held_out = history.take(rest)
    members = tastes.membership[tastes.recommender.index_of(held_out.item_ids)].toarray() > 0  # [P, L]
    values = np.asarray(held_out.ratings)
    found = []
    for at, one in enumerate(tastes.ratings(tastes.recommender.state(history.take(seen)))):
        own = values[members[:, at]]
        if len(own) < least:
            continue
        off = abs(own.mean() - one.mean)
        varies = own.var(ddof=1) / len(own)
        found.append((off <= WIDTH * one.sd, off <= WIDTH * np.sqrt(one.sd**2 + varies)))
    return found


def chance_bands(model: PersonalizedModel, history: History, seen: Sequence[int]) -> list[tuple[bool, float]]:
    """Ask of each category whether the whole history's chance lies in the band of the window's; with its width."""
    window = history.take(seen)
    prompts = model.encode([history, window, *halves_of(window)])
    assert prompts.category_logits is not None
    logits: Doubles = prompts.category_logits.double().numpy()[..., 0]  # [B, L]
    whole, mine, error = logits[0], logits[1], error_by_halves(logits[1], logits[2:])
    inside = abs(whole - mine) <= WIDTH * error
    width = expit(mine + WIDTH * error) - expit(mine - WIDTH * error)
    return list(zip(inside.tolist(), width.tolist(), strict=True))


def share(by_user: Sequence[Sequence[float]], rng: np.random.Generator) -> str:
    """Write a mean over all categories of all users, with the 95% interval of a bootstrap over users."""
    sums = np.array([(sum(one), len(one)) for one in by_user if len(one)], dtype=np.float64)
    draws = sums[rng.integers(len(sums), size=(RESAMPLES, len(sums)))].sum(axis=1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], (0.025, 0.975))
    return f"{sums[:, 0].sum() / sums[:, 1].sum():.3f} ({low:.3f}–{high:.3f})"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--windows", type=int, nargs="+", default=[5, 20, 50, 100])
    parser.add_argument("--least", type=int, default=5, help="held-out ratings of a category")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data)
    settings = RecommendSettings(texts=False, rounds=1, network_size=0)
    recommender = fit_recommender(dataset, dataset.users("train"), settings, ItemSettings())
    tastes = CategoryTastes(recommender)
    model = load_model("packaged", data=dataset, device="cpu")
    rng = np.random.default_rng(arguments.seed)
    tested = [dataset.user_ids[index] for index in dataset.users("test")][: arguments.users]
    print(describe_machine())
    print(
        "| events seen | users | held-out means | in the band | with own spread | chances in the band | width |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for size in arguments.windows:
        asked: dict[str, list[list[float]]] = defaultdict(list)
        for history in dataset.histories(tested):
            history = history.latest(repeats=dataset.info.repeats)
            if len(history) < size + arguments.least:
                continue
            seen = sorted(rng.choice(len(history), size, replace=False).tolist())
            rated = rating_bands(tastes, history, seen, arguments.least)
            chances = chance_bands(model, history, seen)
            asked["in"].append([float(inside) for inside, _ in rated])
            asked["wide"].append([float(inside) for _, inside in rated])
            asked["chance"].append([float(inside) for inside, _ in chances])
            asked["width"].append([width for _, width in chances])
        means = sum(map(len, asked["in"]))
        cells = (share(asked[name], rng) for name in ("in", "wide", "chance", "width"))
        print(f"| {size} | {len(asked['in'])} | {means:,} | {' | '.join(cells)} |", flush=True)
    print(f"halves: {HALVES}, categories: {len(dataset.categories)}")


if __name__ == "__main__":
    main()
