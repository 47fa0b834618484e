"""``palate prepare``: from a MovieLens release to a dataset folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from palate import files
from palate.data import movielens
from palate.data.assemble import Dropped, Rules, assemble
from palate.data.dataset import INFO_FILE, Dataset, DatasetInfo
from palate.data.descriptions import describe, read_descriptions
from palate.data.fetch import RELEASES, default_cache, fetch
from palate.data.rating_files import read_ratings
from palate.data.sources import Source, open_source
from palate.data.storage import Tables, fingerprint, write_tables
from palate.errors import DataError
from palate.schema import SPLITS, Item

CATEGORY_FIELD = "genre"

Report = Callable[[str], None]


def prepare(
    source: str | Path,
    out: Path,
    *,
    descriptions: Path | None = None,
    least_ratings: int = 20,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    most_held_out: int = 5000,
    seed: int = 0,
    cache: Path | None = None,
    report: Report | None = None,
    progress: bool = False,
) -> Dataset:
    """Write a dataset folder from a MovieLens release and return the dataset.

    ``source`` is the name of a release (``ml-100k`` … ``ml-32m``), fetched and kept in ``cache``, or a folder
    or zip. ``descriptions`` is a CSV file of movie descriptions, or a folder with one. Users with fewer than
    ``least_ratings`` are left out; the others are split by ``seed``, with at most ``most_held_out`` users in
    dev and in test each. ``report`` is told what happens, a line at a time; ``progress`` shows a bar.

    Raises :class:`DataError` for input that cannot be read and :class:`OutputError` when ``out`` cannot be
    written; neither leaves anything behind.
    """
    rules = Rules(least_ratings, dev_share, test_share, most_held_out, seed)
    say = report or (lambda line: None)
    with files.fresh_folder(out) as folder:
        origin = _find_source(source, cache or default_cache(), say, progress)
        scratch = folder / "unpacked"
        raw = _read(origin, descriptions, scratch, rules)
        shutil.rmtree(scratch, ignore_errors=True)
        _tell(raw, say)
        dataset = _as_dataset(raw, rules, origin)
        write_tables(folder, raw.tables)
        files.write_text(folder / INFO_FILE, dataset.info.model_dump_json(indent=2) + "\n")
    say(f"written: {out} ({dataset.info.fingerprint[:19]}…)")
    return replace(dataset, path=Path(out))


@dataclass(frozen=True)
class _Origin:
    """Where the files come from."""

    name: str
    source: str  # as dataset.json says it
    files: Source
    layout: movielens.Layout


@dataclass(frozen=True)
class _Raw:
    """What was read and assembled."""

    tables: Tables
    items: list[Item]
    rating_values: tuple[float, ...]
    checksums: dict[str, str]
    dropped: Dropped
    descriptions_left_over: int


def _find_source(source: str | Path, cache: Path, say: Report, progress: bool) -> _Origin:
    """A path that exists is taken first, then the name of a release."""
    path, text = Path(source), str(source)
    if not path.exists() and text in RELEASES:
        path, text = fetch(text, cache, say, progress)
        name = str(source)
    elif path.exists() or len(path.parts) > 1 or path.suffix:
        name = ""
    else:
        close = get_close_matches(text, RELEASES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known releases: {', '.join(RELEASES)}"
        raise DataError(f"{text!r} is neither a release nor a folder nor a zip; {hint}")
    opened = open_source(path)
    layout = movielens.find_layout(opened)
    say(f"reading {path} as {layout.name}")
    return _Origin(name or opened.name, text, opened, layout)


def _read(origin: _Origin, descriptions: Path | None, scratch: Path, rules: Rules) -> _Raw:
    """Read everything, the small files first: what is wrong with them shows before the ratings are read."""
    layout = origin.layout
    described = [] if descriptions is None else read_descriptions(descriptions)
    items, left_over = describe(movielens.read_items(layout, origin.files, scratch), described)
    paths = {name: origin.files.file(name, scratch) for name in layout.files}
    ratings = read_ratings(paths[layout.ratings_file], layout.ratings)
    tables, dropped = assemble(ratings, items, rules)
    checksums = {name: files.sha256_of(path) for name, path in paths.items()}
    if descriptions is not None and descriptions.is_file():
        checksums[descriptions.name] = files.sha256_of(descriptions)
    return _Raw(tables, items, layout.ratings.scale, checksums, dropped, left_over)


def _as_dataset(raw: _Raw, rules: Rules, origin: _Origin) -> Dataset:
    tables = raw.tables
    categories = sorted({category for item in raw.items for category in item.categories})
    info = DatasetInfo(
        name=origin.name,
        source=origin.source,
        checksums=raw.checksums,
        licence=movielens.LICENCE,
        users=len(tables.user_ids),
        items=len(raw.items),
        interactions=len(tables.interactions),
        rating_values=raw.rating_values,
        category_field=CATEGORY_FIELD,
        categories=tuple(categories),
        least_ratings=rules.least_ratings,
        split_seed=rules.seed,
        split_sizes={split: int((tables.split_of_user == i).sum()) for i, split in enumerate(SPLITS)},
        described_items=sum(item.description is not None for item in raw.items),
        report={
            **asdict(raw.dropped),
            "items_without_category": sum(not item.categories for item in raw.items),
            "descriptions_left_over": raw.descriptions_left_over,
        },
        fingerprint=fingerprint(tables, raw.rating_values, CATEGORY_FIELD),
    )
    return Dataset(info, tables.interactions, tables.user_ids, tables.items, tables.split_of_user)


def _tell(raw: _Raw, say: Report) -> None:
    """What is in the dataset, and what is not and why."""
    tables, dropped = raw.tables, raw.dropped
    sizes = np.bincount(tables.split_of_user, minlength=len(SPLITS))
    splits = ", ".join(f"{size:,} {split}" for split, size in zip(SPLITS, sizes, strict=True))
    say(f"{len(tables.interactions):,} ratings of {len(tables.user_ids):,} users ({splits})")
    uncategorised = sum(not item.categories for item in raw.items)
    say(f"{len(raw.items):,} items, {uncategorised:,} without a genre")
    if dropped.ratings_of_unknown_items:
        say(f"dropped {dropped.ratings_of_unknown_items:,} ratings of movies that are not in the catalogue")
    if dropped.duplicate_ratings:
        say(f"dropped {dropped.duplicate_ratings:,} ratings that the same user gave again later")
    if dropped.users_with_too_few_ratings:
        say(
            f"left out {dropped.users_with_too_few_ratings:,} users with too few ratings "
            f"({dropped.ratings_of_left_out_users:,} ratings)"
        )
    _tell_descriptions(raw, say)


def _tell_descriptions(raw: _Raw, say: Report) -> None:
    described = np.asarray([item.description is not None for item in raw.items])
    if not described.any() and not raw.descriptions_left_over:
        return
    covered = described[raw.tables.interactions.item_index].mean() if len(raw.tables.interactions) else 0.0
    say(
        f"descriptions: {described.sum():,} of {len(described):,} items ({described.mean():.1%}), which "
        f"{covered:.1%} of the ratings are about; {raw.descriptions_left_over:,} descriptions fit no item"
    )
