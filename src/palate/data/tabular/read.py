"""Reads event and item files, and combines them to the raw data of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from palate.config.recipe import TaskSettings
from palate.data.assemble import Columns, Rules, assemble_columns
from palate.data.event_types import EventTypes
from palate.data.movielens.descriptions import describe, read_descriptions
from palate.data.raw import Raw, Report, Words
from palate.data.tabular.events import EventColumns, Events, find_event_columns, read_events
from palate.data.tabular.faults import Faults
from palate.data.tabular.files import RowFiles, find_row_files
from palate.data.tabular.items import Catalogue, find_item_columns, read_catalogue
from palate.data.tabular.settings import OwnData
from palate.data.tabular.typed_events import find_event_types, valued
from palate.data.tabular.values import (
    Scale,
    default_thresholds,
    given_scale,
    rating_scale,
    weight_scale,
)
from palate.errors import DataError
from palate.schema import Indices
from palate.system import files
from palate.tasks import too_few_categories
from palate.tasks.verbalizer import verbalizer_of
from palate.words import counted

OFTEN, SELDOM = 1.25, 0.75
"""Thresholds of the label rule with implicit feedback: multiples of a category's mean share of training histories."""


def read_own(
    sources: Sequence[str | Path], own: OwnData, descriptions: Path | None, rules: Rules, say: Report
) -> Raw:
    """Read event and item files; raises :class:`DataError` for invalid files and columns that are not found."""
    event_files = find_row_files(sources, own.event_csv, own.skip_bad_rows, own.format)
    item_files = event_files if own.items is None else find_row_files([own.items], own.item_csv)
    faults = Faults()
    columns = find_event_columns(event_files, own, faults, say)
    event_item = own.item or "" if columns is None else columns.item
    item_columns = find_item_columns(item_files, own, event_item, faults)
    faults.check()
    assert columns is not None
    assert item_columns is not None
    _tell_columns(event_files, item_files, columns, say)
    catalogue = read_catalogue(item_files, item_columns, own, event_item, say)
    described = [] if descriptions is None else read_descriptions(descriptions)
    joined, left_over = describe(catalogue.items, described)
    every = [new if new.description else old for new, old in zip(joined, catalogue.items, strict=True)]
    items = rules.catalogue(every)
    catalogue = replace(catalogue, items=items)
    with _about(item_files.paths[0]):
        _check_categories(catalogue, say)
    if own.review is None and item_files is event_files and catalogue.describes(columns.review):
        say(f"{columns.review} does not differ between the events of an item: its description, no review")
        columns = replace(columns, review=None)
    events = read_events(event_files, columns, say)
    with _about(event_files.paths[0]):
        known = _of_known_items(events, catalogue)
        types = find_event_types(known.table, columns, own, say)
        if types is not None:
            known = replace(known, table=valued(known.table, types))
        keeps_repeats = own.keeps_repeats(types is not None)
        merged = known if columns.feedback == "ratings" or keeps_repeats else _merged(known, types)
        scale = _scale(merged.table["value"].to_numpy(), columns, types, own, say)
        tables, dropped, rows = assemble_columns(
            Columns(merged.user_index, merged.item_index, scale.index, merged.table["time"].to_numpy()),
            events.user_ids,
            items,
            replace(rules, keep_repeats=keeps_repeats),
        )
    seconds = tables.interactions.timestamp // events.ticks_per_second
    read = dict.fromkeys((*event_files.paths, *item_files.paths, *([descriptions] if descriptions else [])))
    return Raw(
        name=_name(event_files.paths[0]),
        source=", ".join(map(str, sources)),
        licence="that of the files' owner",
        tables=replace(
            tables,
            interactions=replace(tables.interactions, timestamp=seconds),
            reviews=None if columns.review is None else merged.table["review"].gather(rows),
        ),
        items=items,
        rating_values=scale.values,
        checksums={str(path): files.sha256_of(path) for path in read if path.is_file()},
        dropped=replace(dropped, ratings_of_unknown_items=len(events.table) - len(known.table)),
        descriptions_left_over=left_over,
        words=_words(catalogue, columns, types, scale),
        feedback=columns.feedback,
        event_types=types,
        has_times=columns.time is not None,
        repeats=keeps_repeats,
        thresholds=_thresholds(columns, scale),
        report={
            **catalogue.report,
            **rules.left_out(every, items),
            "bad_rows": events.bad_rows,
            "repeated_events": len(known.table) - len(merged.table),
        },
    )


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Add the file's path to errors without one."""
    try:
        yield
    except DataError as error:
        raise error if error.path is not None else DataError(str(error), path) from None


def _tell_columns(events: RowFiles, items: RowFiles, columns: EventColumns, say: Report) -> None:
    for group in dict.fromkeys((events, items)):
        for path in group.without_header:
            say(f"{path} has no header line; its columns are read as {', '.join(group.schema)}")
    say("events: " + ", ".join(f"{part} {name}" for part, name in columns.by_role.items()))
    if columns.feedback == "implicit":
        say("no ratings (--rating-col): implicit feedback, with labels from a category's share of a history")


def _check_categories(catalogue: Catalogue, say: Report) -> None:
    """Check, before the events are read, that the categories are at least 2 and distinguishable in answers."""
    names = tuple(sorted({name for item in catalogue.items for name in item.categories}))
    if too_few_categories(names):
        say(
            f"the items have {counted(len(names), catalogue.category_noun)} in all: they can be ranked (palate rank), "
            "but questions about categories need at least 2; name another column with --category-col, the separator "
            "of names with --separator, or an item file with --items"
        )
        return
    verbalizer_of(names, catalogue.category_noun, TaskSettings().max_labels)


@dataclass(frozen=True, eq=False)
class _Interactions:
    """Events with known items; ``item_index`` refers to the catalogue."""

    user_index: Indices
    item_index: Indices
    table: pl.DataFrame  # value, time, type, dwell, review


def _of_known_items(events: Events, catalogue: Catalogue) -> _Interactions:
    place = {item.item_id: index for index, item in enumerate(catalogue.items)}
    into = np.array([place.get(item_id, -1) for item_id in events.item_ids], dtype=np.int32)
    item_index = into[events.item_index]
    known = item_index >= 0
    if not known.any():
        raise DataError(
            f"no event has an item of the catalogue: the events' item ids look like {events.item_ids[0]!r}, "
            f"the catalogue's like {catalogue.items[0].item_id!r}; name columns with the same kind of id"
        )
    if known.all():
        return _Interactions(events.user_index, item_index, events.table)
    return _Interactions(events.user_index[known], item_index[known], events.table.filter(pl.Series(known)))


def _merged(events: _Interactions, types: EventTypes | None) -> _Interactions:
    """Merge events to one interaction per user and item, sorted by both, with the time and review of the last.

    Weights are summed; of events with types or dwell times the maximum value is taken.
    """
    pair = events.user_index.astype(np.int64) << 32 | events.item_index
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]]))
    value, time = (events.table[name].to_numpy()[order] for name in ("value", "time"))
    together = np.add if types is None else np.maximum
    merged = {"value": together.reduceat(value, first), "time": np.maximum.reduceat(time, first)}
    kept, last = order[first], order[np.append(first[1:], len(order)) - 1]
    return _Interactions(
        events.user_index[kept],
        events.item_index[kept],
        pl.DataFrame({**merged, "review": events.table["review"].gather(last)}),
    )


def _scale(
    values: np.ndarray, columns: EventColumns, types: EventTypes | None, own: OwnData, say: Report
) -> Scale:
    if types is not None:
        scale = given_scale(values)
    elif columns.feedback == "ratings":
        scale = rating_scale(values, own.rating_step)
    else:
        scale = weight_scale(values)
    shown = [f"{value:g}" for value in scale.values]
    listed = (
        ", ".join(shown)
        if len(shown) <= 12
        else f"{shown[0]}, {shown[1]}, … {shown[-1]} ({len(shown)} values)"
    )
    say(f"{'ratings' if columns.feedback == 'ratings' else 'weights of an interaction'}: {listed}")
    return scale


def _thresholds(columns: EventColumns, scale: Scale) -> tuple[float, float]:
    return default_thresholds(scale.values) if columns.feedback == "ratings" else (OFTEN, SELDOM)


def _words(catalogue: Catalogue, columns: EventColumns, types: EventTypes | None, scale: Scale) -> Words:
    if columns.feedback == "ratings":
        rating = f"The {{noun}} is rated with {{rating}} of {scale.values[-1]:g}"
    elif columns.value is None and types is None:
        rating = "The {noun} was chosen this many times: {rating}"
    else:
        rating = "The {noun} was chosen with weight {rating}"
    one = "rating" if columns.feedback == "ratings" else "interaction"
    return Words(catalogue.item_noun, catalogue.category_noun, rating, one)


def _name(path: Path) -> str:
    """Name a dataset by folder and file, without extensions."""
    stem = path.name.split(".")[0]
    parent = path.resolve().parent.name
    return f"{parent}-{stem}" if parent else stem
