"""Tables of recommendations for many users, written in resumable parts by one process or several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from palate.recommend.files import load_recommender, recommender_run
from palate.recommend.parts import TENSORS
from palate.runs.data import dataset_of
from palate.runs.run import load_run, run_elsewhere, run_folder
from palate.system.engines import ShardEngine
from palate.system.files import replacing, sha256_of
from palate.system.parted import TablePart, run_parts, write_parted_table

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.recommend.recommender import Recommendations, Recommender
    from palate.schema import History

LISTS_AT_ONCE = 256
"""Users per batch."""
LISTS_A_PART = 8_192
"""Users per part; an interruption loses at most one part per worker."""
LIST_COLUMNS = {
    "user_id": pl.String,
    "place": pl.Int32,
    "item_id": pl.String,
    "title": pl.String,
    "score": pl.Float64,
    "share": pl.Float64,
    "personal": pl.Boolean,
}


@dataclass(frozen=True)
class ListSettings:
    """Arguments of :meth:`palate.recommend.recommender.Recommender.recommend`."""

    k: int = 10
    seen: bool = False
    categories: tuple[str, ...] = ()
    since: int | None = None
    diversity: float = 0.0

    def ask(self, recommender: Recommender, histories: Sequence[History]) -> list[Recommendations]:
        """Recommend items for users."""
        return recommender.recommend(
            histories,
            self.k,
            seen=self.seen,
            categories=self.categories,
            since=self.since,
            diversity=self.diversity,
        )


@dataclass(frozen=True, kw_only=True)
class ListPart(TablePart):
    """One part of a table of recommendations."""

    run_folder: Path
    data: Path | None
    settings: ListSettings

    def run(self) -> int:
        """Write the part; return its number of users."""
        recommender, dataset = loaded_recommender(self.run_folder, self.data)
        rows: list[tuple[object, ...]] = []
        for start in range(0, len(self.user_ids), LISTS_AT_ONCE):
            histories = dataset.histories(self.user_ids[start : start + LISTS_AT_ONCE])
            for found in self.settings.ask(recommender, histories):
                rows += [
                    (found.user_id, place, one.item_id, one.title, one.score, one.share, found.personal)
                    for place, one in enumerate(found.items, start=1)
                ]
        with replacing(self.file) as partial:
            pl.DataFrame(rows, schema=LIST_COLUMNS, orient="row").write_parquet(partial)
        return len(self.user_ids)


@lru_cache(maxsize=1)
def loaded_recommender(run: Path, data: Path | None) -> tuple[Recommender, Dataset]:
    """Load a recommender and its users' dataset, cached per process."""
    return load_recommender(run), dataset_of(load_run(run) if data is None else None, data)


def write_lists(
    run: Path,
    data: Path | None,
    user_ids: Sequence[str],
    settings: ListSettings,
    out: Path,
    engine: ShardEngine,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the recommendations for many users as a table with one row per item.

    Parts are kept in a folder beside ``out`` until all are written; the same call resumes an interrupted one.

    Args:
        run: Run of the recommender.
        data: Dataset of the users; the run's dataset if None.
        user_ids: Ids of the users.
        settings: What to recommend.
        out: Output file: Parquet, CSV or JSON lines by suffix.
        engine: Runs the parts; it does not affect the result.
        progress: Callback (done, total) in users.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or another process is writing it.
        DataError: The run or the data cannot be read.
    """
    run, data = run_elsewhere(run), None if data is None else data.resolve()
    _, dataset = loaded_recommender(run, data)
    found = run_folder(recommender_run(run))
    made = {
        "run": f"{run} {sha256_of(found.manifest_file if found.there else found.model / TENSORS)}",
        "data": dataset.info.fingerprint,
        "users": hashlib.sha256("\n".join(user_ids).encode()).hexdigest(),
        "lists": asdict(settings),
    }

    def write(place: Path) -> list[Path]:
        shares = [
            tuple(user_ids[start : start + LISTS_A_PART]) for start in range(0, len(user_ids), LISTS_A_PART)
        ]
        parts = [
            ListPart(
                run_folder=run,
                data=data,
                settings=settings,
                user_ids=users,
                file=place / f"{number:06d}.parquet",
            )
            for number, users in enumerate(shares)
        ]
        run_parts(engine, parts, len(user_ids), progress)
        return [part.file for part in parts]

    return write_parted_table(out, json.dumps(made, ensure_ascii=False, indent=2) + "\n", write)
