"""A synthetic bookshop: readers with tastes, books with authors and subjects, ratings from 1 to 10 or purchases."""

import gzip
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl

SUBJECTS = ("Cooking", "Crime", "Fantasy", "History", "Poetry", "Romance", "Travel")
START = datetime(2020, 1, 1, tzinfo=timezone.utc)


def books(number: int = 80, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    made = []
    for book in range(number):
        subjects = rng.choice(SUBJECTS, rng.integers(1, 3), replace=False).tolist()
        made.append(
            {
                "isbn": f"978-{book:05}",
                "name": f"{subjects[0]} Stories {book}",
                "author": f"Author {book % 17}",
                "subjects": subjects,
                "blurb": f"A book about {' and '.join(subjects).lower()}." if book % 4 else None,
                "publication_year": 1950 + book % 70,
            }
        )
    return made


def ratings(catalogue: list[dict], readers: int = 60, seed: int = 1) -> list[dict]:
    """Generate ratings: each reader rates 20 to 40 books from 1 to 10, by a taste for some subjects."""
    rng = np.random.default_rng(seed)
    events = []
    for reader in range(readers):
        taste = dict(zip(SUBJECTS, rng.choice([-3.0, 0.0, 3.0], len(SUBJECTS)), strict=True))
        for book in rng.choice(len(catalogue), rng.integers(20, 41), replace=False):
            subjects = catalogue[book]["subjects"]
            liking = 6 + np.mean([taste[one] for one in subjects]) + rng.normal(0, 1)
            when = START + timedelta(minutes=int(rng.integers(10**6)))
            events.append(
                {
                    "reader": f"reader-{reader}",
                    "isbn": catalogue[book]["isbn"],
                    "stars": int(np.clip(round(liking), 1, 10)),
                    "rated_at": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )
    return events


def purchases(catalogue: list[dict], readers: int = 60, seed: int = 1) -> list[dict]:
    """Generate purchases: 30 per reader, some of the same book, and more often of favourite subjects."""
    rng = np.random.default_rng(seed)
    events = []
    for reader in range(readers):
        taste = dict(zip(SUBJECTS, rng.choice([0.3, 1.0, 4.0], len(SUBJECTS)), strict=True))
        appeal = np.array([np.mean([taste[one] for one in book["subjects"]]) for book in catalogue])
        for book in rng.choice(len(catalogue), 45, p=appeal / appeal.sum()):
            milliseconds = 1_600_000_000_000 + int(rng.integers(10**10))
            events.append({"customer_id": reader, "isbn": catalogue[book]["isbn"], "ts": milliseconds})
    return events


def write_rows(rows: list[dict], path: Path) -> Path:
    """Write CSV, JSON lines or Parquet by suffix; lists are joined by ``;`` in formats without lists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
        return path
    if plain.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        flat = [{k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        text = pl.DataFrame(flat).write_csv()
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
