"""A small in-memory dataset of users with tastes, so that a window is informative about the full history."""

import numpy as np
import polars as pl

from palate.config.recipe import TaskSettings
from palate.data.dataset import Dataset, DatasetInfo
from palate.schema import SPLITS, Interactions
from palate.tasks import load_task

CATEGORIES = ("Action", "Children's", "Comedy", "Drama", "Film-Noir", "Noir", "Sci-Fi", "War")
SIZES = {"train": 120, "dev": 20, "test": 40}


def small_dataset(items=80, seed=0):
    rng = np.random.default_rng(seed)
    users, values = sum(SIZES.values()), np.arange(0.5, 5.5, 0.5)
    of_item = np.zeros((items, len(CATEGORIES)), dtype=bool)
    for row in of_item:
        row[rng.choice(len(CATEGORIES), rng.integers(1, 4), replace=False)] = True
    lengths = rng.integers(20, 60, users)
    item_index = np.concatenate([rng.permutation(items)[:length] for length in lengths])
    taste = rng.normal(np.linspace(2.6, 4.2, len(CATEGORIES)), 0.7, (users, len(CATEGORIES)))
    owner = np.repeat(np.arange(users), lengths)
    liking = (taste[owner] * of_item[item_index]).sum(1) / of_item[item_index].sum(1)
    rating = np.clip(np.round((liking + rng.normal(0, 0.8, len(owner))) * 2), 1, 10).astype(int)
    interactions = Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        item_index=item_index.astype(np.int32),
        rating_index=(rating - 1).astype(np.uint8),
        timestamp=np.arange(len(owner)),
    )
    names = np.array(CATEGORIES)
    table = pl.DataFrame(
        {
            "item_id": [f"i{index}" for index in range(items)],
            "title": [f"Film {index}" for index in range(items)],
            "year": [None] * items,
            "categories": [names[row].tolist() for row in of_item],
            "description": [None] * items,
        }
    )
    info = DatasetInfo(
        name="small",
        source="made up",
        checksums={},
        licence="none",
        users=users,
        items=items,
        interactions=len(owner),
        rating_values=tuple(values),
        category_field="genre",
        categories=CATEGORIES,
        min_ratings=20,
        split_seed=0,
        split_sizes=SIZES,
        described_items=0,
        report={},
        fingerprint="sha256:made-up",
    )
    split = rng.permutation(np.repeat(np.arange(len(SPLITS)), [SIZES[name] for name in SPLITS]))
    return Dataset(info, interactions, [f"u{index}" for index in range(users)], table, split.astype(np.uint8))


def small_task(dataset, **settings):
    return load_task(TaskSettings(**settings), dataset.info)
