"""Preparation of a dataset from a MovieLens release or from event files."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from palate.config.recipe import TaskSettings
from palate.data.assemble import Rules, assemble
from palate.data.dataset import INFO_FILE, Dataset
from palate.data.example import EXAMPLE, LICENCE, example_files, is_example
from palate.data.frames import IN_MEMORY, TableLike, in_files, is_table
from palate.data.label_rules import proposed_rule
from palate.data.movielens import layouts as movielens
from palate.data.movielens.descriptions import describe, read_descriptions
from palate.data.movielens.fetch import RELEASES, default_cache, fetch
from palate.data.movielens.rating_files import read_ratings
from palate.data.movielens.sources import SourceFiles, open_source
from palate.data.raw import Raw, Report
from palate.data.storage import write_tables
from palate.data.tabular.files import expanded, format_of
from palate.data.tabular.read import read_own
from palate.data.tabular.settings import OwnData
from palate.errors import DataError
from palate.schema import LabelRule
from palate.system import files
from palate.tasks import load_task, too_few_categories
from palate.tasks.rules import check_rule


def prepare(
    source: str | Path | Sequence[str | Path] | TableLike,
    out: Path | str,
    *,
    items: Path | str | TableLike | None = None,
    own: OwnData | None = None,
    descriptions: Path | None = None,
    min_ratings: int | None = None,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    max_held_out: int = 5000,
    seed: int = 0,
    described_only: bool = False,
    rule: LabelRule = "thresholds",
    cache: Path | None = None,
    report: Report | None = None,
    progress: bool = False,
) -> Dataset:
    """Write a dataset folder from a MovieLens release or from event files.

    The folder is created atomically.

    Args:
        source: Name of a MovieLens release (``ml-100k`` … ``ml-32m``), its folder or its zip; ``example`` for the
            bundled made-up shop; event files (CSV, JSON lines, Parquet, or with ``own.format`` sequences), by path or
            glob; or a table of events of polars, pandas, pyarrow or datasets. A folder with ``ratings.dat`` and
            ``movies.dat`` in MovieLens' format that are compressed or on another rating scale is read as event files.
        out: The new folder.
        items: Item file, a glob of several, or a table; if None, items are taken from the events' columns.
        own: Column names and other settings of event files; unset ones are inferred.
        descriptions: CSV file of item descriptions, or a folder with one.
        min_ratings: Minimum number of ratings of a user; users with fewer are dropped. If None, 20 if items have
            categories, otherwise 1.
        dev_share: Fraction of the users in dev, from 0 to 1.
        test_share: Fraction of the users in test, from 0 to 1.
        max_held_out: Maximum number of users in dev and in test, each.
        seed: Seed of the split.
        described_only: Keep only items with a description, and their ratings, as in the paper.
        rule: Default label rule for recipes: "thresholds", "own-mean" or "quantiles".
        cache: Folder of downloaded releases; if None, in the user's cache folder.
        report: Called with progress messages.
        progress: Show a progress bar on stderr for downloads.

    Returns:
        The dataset, which :func:`palate.load_dataset` loads from ``out``.

    Raises:
        DataError: Input cannot be read or is invalid.
        RecipeError: The label rule needs ratings, but the data has none.
        OutputError: ``out`` is not empty or cannot be written.

    Example:
        >>> data = palate.prepare("events.csv", items="items.csv", out="data/own", min_ratings=5)
        >>> data.info.users
        24
    """
    check_rule(rule)
    rules = Rules(min_ratings, dev_share, test_share, max_held_out, seed, described_only=described_only)
    say = report or (lambda line: None)
    out = expanded(Path(out))
    origin = IN_MEMORY if is_table(source) else None
    with files.fresh_folder(out) as folder, in_files(source, items) as (source, items):
        if items is not None:
            own = (own or OwnData()).model_copy(update={"items": str(items)})
        read = _Reading(own, descriptions, rules, rule, cache or default_cache(), say, progress, origin)
        dataset = read.dataset(source, folder / "unpacked")
        _write(dataset, folder)
    say(f"written: {out} ({dataset.info.fingerprint[:19]}…)")
    return replace(dataset, path=out, reviews=None)


def read_dataset(
    source: str | Path | Sequence[str | Path],
    own: OwnData | None = None,
    out: Path | None = None,
    rule: LabelRule = "thresholds",
    report: Report | None = None,
    progress: bool = False,
) -> Dataset:
    """Read a MovieLens release or event files into memory, including users with few ratings.

    Args:
        source: As for :func:`prepare`.
        own: Column names and other settings of event files; unset ones are inferred.
        out: New folder to also write the dataset to; None writes nothing.
        rule: Label rule: "thresholds", "own-mean" or "quantiles".
        report: Called with progress messages.
        progress: Show a progress bar on stderr for downloads.

    Returns:
        The dataset; split as by :func:`prepare` if it is written, otherwise all users are training users.

    Raises:
        DataError: Input cannot be read or is invalid.
        OutputError: ``out`` is not empty or cannot be written.
    """
    say = report or (lambda line: None)
    check_rule(rule)
    rules = Rules(min_ratings=1, hold_out=out is not None)
    read = _Reading(own, None, rules, rule, default_cache(), say, progress)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="palate-") as scratch:
            return read.dataset(source, Path(scratch) / "unpacked")
    with files.fresh_folder(expanded(out)) as folder:
        dataset = read.dataset(source, folder / "unpacked")
        _write(dataset, folder)
    say(f"written: {out}")
    return replace(dataset, path=expanded(out))


@dataclass(frozen=True)
class _Reading:
    """Settings for reading sources."""

    own: OwnData | None
    descriptions: Path | None
    rules: Rules
    rule: LabelRule
    cache: Path
    say: Report
    progress: bool
    origin: str | None = None
    """Source name to record in ``dataset.json``; None records the given one."""

    def dataset(self, source: str | Path | Sequence[str | Path], scratch: Path) -> Dataset:
        """Read the sources; files of zips are extracted to the folder ``scratch``."""
        own, rules, say = self.own, self.rules, self.say
        sources: Sequence[Path] = [
            expanded(one) for one in ([source] if isinstance(source, (str, Path)) else source)
        ]
        descriptions = None if self.descriptions is None else expanded(self.descriptions)
        if len(sources) == 1 and (pair := movielens.find_other_ratings(sources[0])):
            sources, own = [pair[0]], (own or OwnData()).model_copy(update={"items": str(pair[1])})
        if is_example(sources):
            raw = read_own(*example_files(own), descriptions, rules, say)
            raw = replace(raw, name=EXAMPLE, source=EXAMPLE, licence=LICENCE)
        elif _are_own_files(sources, own):
            raw = read_own(sources, own or OwnData(), descriptions, rules, say)
            raw = raw if self.origin is None else replace(raw, source=self.origin)
        else:
            origin = _find_source(sources[0], self.cache, say, self.progress)
            with origin.files.named_in_errors(scratch):
                raw = _read(origin, descriptions, scratch, rules)
            shutil.rmtree(scratch, ignore_errors=True)
        raw.tell(say)
        dataset = raw.as_dataset(rules, self.rule)
        if too_few_categories(dataset.categories):
            return dataset
        words = load_task(TaskSettings(), dataset.info).rule_in_words
        say(f"label rule: {words}; a recipe's task.rule, task.like_above and task.dislike_below change it")
        if proposal := proposed_rule(dataset):
            say(proposal)
        return dataset


def _write(dataset: Dataset, folder: Path) -> None:
    """Write the files of a dataset into an existing folder."""
    write_tables(folder, dataset.tables)
    files.write_text(folder / INFO_FILE, dataset.info.model_dump_json(indent=2) + "\n")


def _are_own_files(sources: Sequence[str | Path], own: OwnData | None) -> bool:
    """Return whether these are event files; raises :class:`DataError` for their settings with a MovieLens release."""
    if not sources:
        raise DataError("no source; name a MovieLens release, or event files")
    if (
        len(sources) > 1
        or (own is not None and own.format is not None)
        or format_of(sources[0])
        or (glob.has_magic(str(sources[0])) and not Path(sources[0]).exists())
    ):
        return True
    if own is not None and own != OwnData():
        given = ", ".join(own.model_dump(exclude_defaults=True))
        raise DataError(
            f"is not an event file, but {given} apply only to event files; name files that end in .csv, .jsonl or "
            ".parquet or give their --format, or leave these settings out",
            sources[0],
        )
    return False


@dataclass(frozen=True)
class _Origin:
    """A release: its files and their layout."""

    name: str
    source: str  # as recorded in dataset.json
    files: SourceFiles
    layout: movielens.Layout


def _find_source(source: str | Path, cache: Path, say: Report, progress: bool) -> _Origin:
    """Find a source: an existing path, or else the name of a release."""
    path, text = Path(source), str(source)
    if not path.exists() and text in RELEASES:
        path, text = fetch(text, cache, say, progress)
        name = str(source)
    elif path.exists() or len(path.parts) > 1 or path.suffix:
        name = ""
    else:
        known = (*RELEASES, EXAMPLE)
        close = get_close_matches(text, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise DataError(f"{text!r} is neither a release nor a folder nor a zip; {hint}")
    opened = open_source(path)
    layout = movielens.find_layout(opened)
    say(f"reading {path} as {layout.name}")
    return _Origin(name or opened.name, text, opened, layout)


def _read(origin: _Origin, descriptions: Path | None, scratch: Path, rules: Rules) -> Raw:
    """Read all files, small ones first, so that their errors are found before the ratings are read."""
    layout = origin.layout
    described = [] if descriptions is None else read_descriptions(descriptions)
    every, left_over = describe(movielens.read_items(layout, origin.files, scratch), described)
    items = rules.catalogue(every)
    paths = {name: origin.files.file(name, scratch) for name in layout.files}
    ratings = read_ratings(paths[layout.ratings_file], layout.ratings)
    tables, dropped = assemble(ratings, items, rules)
    checksums = {name: files.sha256_of(path) for name, path in paths.items()}
    if descriptions is not None and descriptions.is_file():
        checksums[descriptions.name] = files.sha256_of(descriptions)
    return Raw(
        name=origin.name,
        source=origin.source,
        licence=movielens.LICENCE,
        tables=tables,
        items=items,
        rating_values=layout.ratings.scale,
        checksums=checksums,
        dropped=dropped,
        descriptions_left_over=left_over,
        report=rules.left_out(every, items),
    )
