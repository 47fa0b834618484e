"""Writes synthetic files in the layout of MovieLens 20M, of any size: for measuring, not for training."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "IMAX",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
HALF_STAR_SHARES = (
    0.014,
    0.034,
    0.014,
    0.072,
    0.044,
    0.214,
    0.11,
    0.278,
    0.077,
    0.143,
)  # as in MovieLens 20M
SHORTEST = 20
LONGEST_SHARE = 0.5  # longest history, as a share of the catalogue
MEDIAN_FACTOR, SPREAD = 0.45, 1.05  # lognormal lengths: the median is about half of the mean


def history_lengths(users: int, ratings: int, items: int, rng: np.random.Generator) -> np.ndarray:
    """Draw long-tailed history lengths, at least 20 each, that sum to ``ratings``, [U]."""
    if not SHORTEST * users <= ratings <= LONGEST_SHARE * items * users:
        raise SystemExit(f"{ratings} ratings do not fit {users} users of {items} items")
    tail = rng.lognormal(np.log(MEDIAN_FACTOR * ratings / users), SPREAD, users)
    room = LONGEST_SHARE * items - SHORTEST
    for _ in range(50):  # rescale and clip until clipping no longer changes the sum
        tail = np.minimum(tail * (ratings - SHORTEST * users) / tail.sum(), room)
    lengths = SHORTEST + tail.astype(np.int64)
    lengths[rng.choice(users, ratings - lengths.sum(), replace=False)] += 1
    return lengths


def histories(lengths: np.ndarray, items: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw user and item numbers, [N] each: items are distinct within a user, popular ones more frequent."""
    log_popularity = -0.9 * np.log(np.arange(1, items + 1) + 20)
    user = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    item = np.empty(len(user), dtype=np.int32)
    ends = np.cumsum(lengths)
    block = max(1, (1 << 22) // items)
    for first in range(0, len(lengths), block):
        # Sample by popularity without replacement: the top Gumbel-perturbed weights.
        keys = log_popularity + rng.gumbel(size=(min(block, len(lengths) - first), items))
        for row, key in enumerate(keys, start=first):
            top = np.argpartition(key, items - lengths[row])[items - lengths[row] :]
            item[ends[row] - lengths[row] : ends[row]] = np.sort(top)
    return user, item


def make_ratings(folder: Path, users: int, items: int, ratings: int, seed: int) -> None:
    """Write ``ratings.csv`` (sorted by user, then movie, like 20M's) and ``movies.csv``."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    movie_ids = np.sort(rng.choice(np.arange(1, 131_263), items, replace=False)).astype(np.int32)
    popularity_rank = rng.permutation(items)
    lengths = history_lengths(users, ratings, items, rng)
    user, item = histories(lengths, items, rng)
    start = np.repeat(rng.integers(789_652_009, 1_400_000_000, users), lengths)
    pl.DataFrame(
        {
            "userId": user + 1,
            "movieId": movie_ids[popularity_rank[item]],
            "rating": rng.choice(np.arange(1, 11) / 2, len(user), p=np.array(HALF_STAR_SHARES)).astype(
                np.float32
            ),
            "timestamp": start + rng.integers(0, 15_000_000, len(user)),
        }
    ).sort("userId", "movieId").write_csv(folder / "ratings.csv", float_precision=1)
    genres = ["|".join(sorted(rng.choice(GENRES, rng.integers(1, 5), replace=False))) for _ in range(items)]
    titles = [f"Movie {number}, The ({1930 + number % 85})" for number in movie_ids]
    pl.DataFrame({"movieId": movie_ids, "title": titles, "genres": genres}).write_csv(folder / "movies.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=127_000)
    parser.add_argument("--items", type=int, default=8_200)
    parser.add_argument("--ratings", type=int, default=14_400_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_ratings(arguments.folder, arguments.users, arguments.items, arguments.ratings, arguments.seed)


if __name__ == "__main__":
    main()
