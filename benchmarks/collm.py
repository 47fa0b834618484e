"""Converts CoLLM's split of MovieLens 1M by time to files for `palate prepare` and `palate rank --task ratings`.

python benchmarks/collm.py interactions.parquet items.csv movies.dat data/collm
palate prepare data/collm/events.csv --items data/collm/items.csv --min-ratings 1 --out data/collm/data
palate rank item-mean --data data/collm/data --task ratings --protocol future --periods 2002-04-01,2002-09-01

Ratings are CoLLM's labels: 1 above three stars, else 0. CoLLM's validation period starts on 2002-04-01, its test
period on 2002-09-01. Genres are those of the movies with the same title in movies.dat.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("interactions", "items", "movies", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    events = pl.read_parquet(given.interactions)
    lines = given.movies.read_text(encoding="latin-1").splitlines()
    films = pl.DataFrame([line.split("::")[1:] for line in lines], schema=["title", "genres"], orient="row")
    items = pl.read_csv(given.items).join(
        films.unique("title"), on="title", how="left", maintain_order="left"
    )
    given.out.mkdir(parents=True)
    events.select("user", "item", rating="label", time="timestamp").write_csv(given.out / "events.csv")
    year = pl.col("title").str.extract(r"\((\d{4})\)$").cast(pl.Int32)
    items.with_columns(year=year).write_csv(given.out / "items.csv")


if __name__ == "__main__":
    main()
