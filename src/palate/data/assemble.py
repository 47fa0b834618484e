"""Assembles a dataset's tables from raw ratings and items: filtering, sorting and splitting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.storage import ITEM_COLUMNS, Tables
from palate.errors import DataError, PalateError
from palate.schema import SPLITS, Indices, Interactions, Ints, Item, RatingIndices, Split

UNDESCRIBED = "items_without_description"
"""Report key: number of items left out because they have no description."""
Ids = npt.NDArray[np.uint32]
LEAST_LABELLED = 20
"""Default minimum number of ratings of a user if items have categories, as in the paper."""


@dataclass(frozen=True)
class Rules:
    """Rules for filtering and splitting users."""

    min_ratings: int | None = None  # None: the default of :meth:`least`
    dev_share: float = 0.1
    test_share: float = 0.1
    max_held_out: int = 5000  # users, for dev and for test each
    seed: int = 0
    hold_out: bool = True  # False: all users are training users
    keep_repeats: bool = False  # False: keep only a user's last rating of an item
    described_only: bool = False  # True: keep only items with a description, and their ratings

    def __post_init__(self) -> None:
        if self.min_ratings is not None and self.min_ratings < 1:
            raise PalateError(f"min_ratings is {self.min_ratings}; expected at least 1")
        if self.max_held_out < 1:
            raise PalateError(f"max_held_out is {self.max_held_out}; expected at least 1 user")
        if self.seed < 0:
            raise PalateError(f"seed is {self.seed}; expected at least 0")
        shares = (self.dev_share, self.test_share)
        if not (all(share > 0 for share in shares) and sum(shares) < 1):
            raise PalateError(
                f"dev_share is {self.dev_share} and test_share {self.test_share}; expected each above 0 and "
                "their sum below 1"
            )

    def catalogue(self, items: list[Item]) -> list[Item]:
        """Return the items to keep; raises :class:`DataError` if there are none."""
        if not self.described_only:
            return items
        described = [item for item in items if item.description]
        if not described:
            raise DataError(
                "no item has a description, and only items with one are kept; give --descriptions, or items "
                "with a description"
            )
        return described

    def left_out(self, items: Sequence[Item], kept: Sequence[Item]) -> dict[str, int]:
        """Return the report entry with the number of items left out by :meth:`catalogue`; empty if it keeps all."""
        return {UNDESCRIBED: len(items) - len(kept)} if self.described_only else {}

    def least(self, items: Iterable[Item]) -> int:
        """Return the minimum number of ratings of a user: by default 20 if items have categories, otherwise 1."""
        if self.min_ratings is not None:
            return self.min_ratings
        return LEAST_LABELLED if any(item.categories for item in items) else 1


@dataclass(frozen=True)
class Dropped:
    """Numbers of dropped ratings and users."""

    ratings_of_unknown_items: int
    duplicate_ratings: int
    users_with_too_few_ratings: int
    ratings_of_left_out_users: int


@dataclass(frozen=True, eq=False)
class Columns:
    """Ratings as columns [N] of indices into sorted users and into items, in file order."""

    user_index: Indices
    item_index: Indices
    rating_index: RatingIndices
    timestamp: Ints


def assemble(ratings: pl.DataFrame, items: list[Item], rules: Rules) -> tuple[Tables, Dropped]:
    """Index, sort, clean and split ratings.

    Args:
        ratings: Columns of :func:`palate.data.movielens.rating_files.read_ratings`, in file order.
        items: Items, ascending by numeric id.
        rules: Filtering and splitting.

    Returns:
        The tables, grouped by user in order of numeric id, each oldest first (stable), and what was dropped.
    """
    catalogue = np.asarray([int(item.item_id) for item in items], dtype=np.uint32)
    item_index, known = _index_into(catalogue, ratings["item_id"].to_numpy())
    unknown = len(known) - int(known.sum())
    if unknown:
        ratings, item_index = ratings.filter(pl.Series(known)), item_index[known]
    user_ids = ratings["user_id"].unique().sort().to_numpy()
    user_index, _ = _index_into(user_ids, ratings["user_id"].to_numpy())
    columns = Columns(
        user_index, item_index, ratings["rating_index"].to_numpy(), ratings["timestamp"].to_numpy()
    )
    tables, dropped, _ = assemble_columns(columns, user_ids.astype(str).tolist(), items, rules)
    return tables, replace(dropped, ratings_of_unknown_items=unknown)


def assemble_columns(
    columns: Columns, user_ids: Sequence[str], items: list[Item], rules: Rules
) -> tuple[Tables, Dropped, Ints]:
    """Sort, clean and split ratings of known items; ``user_index`` refers to ``user_ids`` [U].

    Returns:
        The tables, what was dropped, and the row of each kept rating in ``columns``, in the order of the tables.
    """
    order = np.lexsort((columns.timestamp, columns.user_index))
    user_index, item_index = columns.user_index[order], columns.item_index[order]
    last = (
        np.ones(len(order), dtype=np.bool_)
        if rules.keep_repeats
        else _last_of_each_pair(user_index, item_index, len(items))
    )
    lengths = np.bincount(user_index[last], minlength=len(user_ids))
    least = rules.least(items)
    keeps = lengths >= least
    kept = last & keeps[user_index]
    order = order[kept]
    users = list(compress(user_ids, keeps))
    interactions = Interactions(
        offsets=np.concatenate([[0], np.cumsum(lengths[keeps])]).astype(np.int64),
        item_index=item_index[kept],
        rating_index=columns.rating_index[order],
        timestamp=columns.timestamp[order],
    )
    dropped = Dropped(
        ratings_of_unknown_items=0,
        duplicate_ratings=len(last) - int(last.sum()),
        users_with_too_few_ratings=int((~keeps).sum()),
        ratings_of_left_out_users=int(lengths[~keeps].sum()),
    )
    tables = Tables(interactions, users, split_users(len(users), rules, least), items_table(items))
    return tables, dropped, order


def split_users(users: int, rules: Rules, least: int = LEAST_LABELLED) -> RatingIndices:
    """Draw the split of each user, as indices [U] into SPLITS; no split is empty if any user is held out."""
    if not rules.hold_out:
        return np.full(users, SPLITS.index("train"), dtype=np.uint8)
    shares: dict[Split, float] = {"dev": rules.dev_share, "test": rules.test_share}
    held_out = {
        split: min(max(1, round(users * share)), rules.max_held_out) for split, share in shares.items()
    }
    if sum(held_out.values()) >= users:
        raise DataError(
            f"{users} users with at least {least} ratings are too few for the splits "
            f"{', '.join(SPLITS)}; take a lower min_ratings, lower shares, or more data"
        )
    order = np.random.default_rng(rules.seed).permutation(users)
    split_of_user = np.full(users, SPLITS.index("train"), dtype=np.uint8)
    start = 0
    for split, size in held_out.items():
        split_of_user[order[start : start + size]] = SPLITS.index(split)
        start += size
    return split_of_user


def items_table(items: list[Item]) -> pl.DataFrame:
    """Convert items to the columns of :data:`palate.data.storage.ITEM_COLUMNS`."""
    rows = [(item.item_id, item.title, item.year, list(item.categories), item.description) for item in items]
    return pl.DataFrame(rows, schema=ITEM_COLUMNS, orient="row")


def _index_into(ascending: Ids, ids: Ids) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Return the position of each id in ``ascending``, and whether it was found."""
    index = np.searchsorted(ascending, ids).astype(np.int32)
    np.minimum(index, max(len(ascending) - 1, 0), out=index)
    return index, ascending[index] == ids


def _last_of_each_pair(user_index: Indices, item_index: Indices, items: int) -> npt.NDArray[np.bool_]:
    """Mark the last row of each (user, item)."""
    pair = user_index.astype(np.int64) * items + item_index
    in_order = np.sort(pair)
    if not (in_order[1:] == in_order[:-1]).any():  # usual in MovieLens, and far cheaper to check
        return np.ones(len(pair), dtype=np.bool_)
    return pl.Series(pair).is_last_distinct().to_numpy()
