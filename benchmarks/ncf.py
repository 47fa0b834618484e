"""Converts NCF's protocol on MovieLens 1M to a sequence file and a candidate file for `palate rank --candidates FILE`.

python benchmarks/ncf.py pairs.parquet ml-1m.test.rating ml-1m.test.negative.gz data/ncf

The pairs are the users and movies of ratings.dat in its order. NCF numbers both by first appearance. Its test item,
the true last one, is put last; the other items keep the file's order, which is not chronological.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import polars as pl


def numbered(column: pl.Series) -> pl.Series:
    """Number values from 0 by first appearance."""
    distinct = column.unique(maintain_order=True)
    return column.replace_strict(distinct.to_list(), range(len(distinct)), return_dtype=pl.Int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("pairs", "test", "negatives", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    pairs = pl.read_parquet(given.pairs)
    pairs = pl.DataFrame({"user": numbered(pairs.to_series(0)), "item": numbered(pairs.to_series(1))})
    columns = ["user", "item", "rating", "time"]
    test = pl.read_csv(given.test, separator="\t", has_header=False, new_columns=columns).select(
        "user", "item"
    )
    order = pl.concat([pairs.join(test, on=["user", "item"], how="anti", maintain_order="left"), test])
    lines = order.group_by("user", maintain_order=True).agg("item").sort("user")
    given.out.mkdir(parents=True)
    with (given.out / "sequences.txt").open("w") as file:
        file.writelines(f"{user} {' '.join(map(str, items))}\n" for user, items in lines.iter_rows())
    with gzip.open(given.negatives, "rt") as source, (given.out / "candidates.txt").open("w") as file:
        for line in source:
            case, *items = line.split()
            file.write(f"{case.strip('()').split(',')[0]} {' '.join(items)}\n")


if __name__ == "__main__":
    main()
