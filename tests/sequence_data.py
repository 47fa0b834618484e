"""In-memory datasets from item sequences, with or without times."""

import numpy as np
import polars as pl

from palate.data.assemble import items_table
from palate.data.dataset import Dataset, DatasetInfo
from palate.schema import SPLITS, Interactions, Item


def sequence_dataset(sequences, items=None, times=None, splits=None):
    """Build a dataset from a list of item indices per user; ``times`` and ``splits`` are given per user, too."""
    count = items or 1 + max(max(one) for one in sequences if one)
    flat = [item for one in sequences for item in one]
    when = [time for one in times for time in one] if times else range(len(flat))
    split = np.array([SPLITS.index(one) for one in splits or ["train"] * len(sequences)], dtype=np.uint8)
    info = DatasetInfo(
        name="made-up",
        source="made up",
        checksums={},
        licence="none",
        users=len(sequences),
        items=count,
        interactions=len(flat),
        rating_values=(1.0,),
        feedback="implicit",
        has_times=times is not None,
        category_field="category",
        categories=(),
        min_ratings=1,
        split_seed=0,
        split_sizes={name: int((split == place).sum()) for place, name in enumerate(SPLITS)},
        described_items=0,
        report={},
        fingerprint="sha256:made-up",
    )
    interactions = Interactions(
        offsets=np.concatenate([[0], np.cumsum([len(one) for one in sequences])]).astype(np.int64),
        item_index=np.array(flat, dtype=np.int32),
        rating_index=np.zeros(len(flat), dtype=np.uint8),
        timestamp=np.array(list(when), dtype=np.int64),
    )
    table: pl.DataFrame = items_table([Item(str(index), str(index)) for index in range(count)])
    return Dataset(info, interactions, [f"u{user}" for user in range(len(sequences))], table, split)
