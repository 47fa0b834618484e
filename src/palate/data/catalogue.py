"""Items from files of one's own: texts by column or template, and categories from a list or a separated text."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import polars as pl

from palate.data.column_roles import columns_of, find_column, noun_of
from palate.data.item_files import NOT_CATEGORIES
from palate.data.own_settings import OwnData
from palate.data.row_files import RowFiles
from palate.errors import DataError
from palate.schema import Item

_SEPARATORS = ("|", ";", ",", "/")
_LEAST_SHARE = 0.01
"""Of the values must hold a separator that nobody named."""


@dataclass(frozen=True)
class Catalogue:
    """The items, and what they and their categories are called."""

    items: list[Item]
    item_noun: str
    category_noun: str
    report: dict[str, int]


def read_catalogue(files: RowFiles, own: OwnData, event_item: str, say: Callable[[str], None]) -> Catalogue:
    """Read the items, in the order of the file; of those with the same id the first counts.

    ``event_item`` is the events' column of item ids. Raises :class:`DataError` for a column that cannot be told.
    """
    columns, place = list(files.schema), str(files.paths[0])
    id_column = _id_column(columns, event_item, files)
    title = _text("title", own.title, columns, place) or f"{{{id_column}}}"
    description = _text("description", own.description, columns, place)
    year = find_column("year", own.year, columns, place)
    category = _category_column(own.category, files, {id_column, year})
    used = {id_column, category, *columns_of(title, columns, place)}
    used |= set(columns_of(description, columns, place)) if description else set()
    used |= {year} if year else set()
    table = _distinct(files, id_column, sorted(used))
    categories, separator = _categories(table[category], own.separator)
    say(
        f"items: id {id_column}, title {title}, categories {category}"
        + (f" separated by {separator!r}" if separator else "")
        + (f", description {description}" if description else ", no descriptions (--description-col)")
        + (f", year {year}" if year else "")
    )
    rows = zip(
        table[id_column].to_list(),
        _filled(table, title),
        _filled(table, description),
        _years(table, year),
        categories,
        strict=True,
    )
    items = [
        Item(item_id, text or item_id, tuple(names), described, when)
        for item_id, text, described, when, names in rows
    ]
    if not items:
        raise DataError("lists no items; expected at least one row with an id", place)
    items, dropped = _most_common(items, own.most_categories)
    if dropped:
        say(f"kept the {own.most_categories} most common of {own.most_categories + dropped:,} categories")
    return Catalogue(
        items,
        own.item_noun or noun_of(event_item if noun_of(event_item) != "item" else id_column),
        own.category_noun or noun_of(category),
        {
            "items_without_title": sum(item.title == item.item_id for item in items),
            "rare_categories_left_out": dropped,
        },
    )


def _id_column(columns: list[str], event_item: str, files: RowFiles) -> str:
    """The events' name for it, another common one, or simply id."""
    found = event_item if event_item in columns else find_column("item", None, columns, "")
    found = found or next((name for name in columns if name.lower() == "id"), None)
    if found is None:
        raise DataError(
            f"no column of item ids: neither {event_item!r}, as in the events, nor item_id nor id; "
            f"there are {', '.join(map(repr, columns[:12]))}",
            files.paths[0],
        )
    return found


def _text(role: str, given: str | None, columns: list[str], place: str) -> str | None:
    """A template; a column alone stands for the template that holds nothing else."""
    if given is not None and "{" in given:
        columns_of(given, columns, place)
        return given
    found = find_column(role, given, columns, place)
    return None if found is None else f"{{{found}}}"


def _category_column(given: str | None, files: RowFiles, others: set[str | None]) -> str:
    columns, place = list(files.schema), str(files.paths[0])
    found = find_column("category", given, columns, place)
    if found is None:
        lists = [name for name, dtype in files.schema.items() if isinstance(dtype, pl.List)]
        found = lists[0] if len(lists) == 1 and lists[0] not in others else None
    if found is None:
        raise DataError(
            "which column holds the categories that the model is asked about? name it with --category-col; "
            f"there are {', '.join(map(repr, columns[:12]))}",
            place,
        )
    return found


def _distinct(files: RowFiles, id_column: str, used: list[str]) -> pl.DataFrame:
    """One row an id, as text; rows without one are left out."""
    dtype = files.schema[id_column]
    item_id = pl.col(id_column)
    item_id = item_id.cast(pl.Int64) if dtype.is_numeric() else item_id
    query = files.scan().select(used).with_columns(item_id.cast(pl.String).str.strip_chars())
    query = query.filter(pl.col(id_column).is_not_null() & (pl.col(id_column) != ""))
    return files.collect(query.unique(subset=[id_column], keep="first", maintain_order=True))


def _filled(table: pl.DataFrame, template: str | None) -> list[str | None]:
    """The template filled with each row's columns, blanks run together; None where all of them are empty."""
    if template is None:
        return [None] * len(table)
    names = columns_of(template, table.columns, "")
    texts = [
        table[name].list.join(", ")
        if isinstance(table.schema[name], pl.List)
        else table[name].cast(pl.String)
        for name in names
    ]
    rows = zip(*(text.fill_null("").to_list() for text in texts), strict=True)
    return [
        " ".join(template.format(**dict(zip(names, row, strict=True))).split()) if any(row) else None
        for row in rows
    ]


def _years(table: pl.DataFrame, column: str | None) -> list[int | None]:
    if column is None:
        return [None] * len(table)
    years = table[column].cast(pl.String).str.extract(r"(?:^|\D)(\d{4})(?:\D|$)").cast(pl.Int32)
    return list(years)


def _categories(column: pl.Series, separator: str | None) -> tuple[list[list[str]], str | None]:
    """The names of each row in ascending order, and the separator that they were split at."""
    if isinstance(column.dtype, pl.List):
        return [_clean(names or ()) for names in column.to_list()], None
    texts = column.cast(pl.String).fill_null("").to_list()
    if separator is None and sum(text.lstrip().startswith("[") for text in texts) * 2 > sum(map(bool, texts)):
        return [_clean(_written_list(text)) for text in texts], None
    separator = separator or _guessed_separator(texts)
    return [_clean(text.split(separator) if separator else [text]) for text in texts], separator


def _guessed_separator(texts: list[str]) -> str | None:
    """A character at which the texts fall into fewer different names than they are themselves."""
    distinct = set(filter(None, texts))
    for separator in _SEPARATORS:
        holding = sum(separator in text for text in texts)
        names = {name.strip() for text in distinct for name in text.split(separator)}
        if holding >= _LEAST_SHARE * len(texts) and len(names) < len(distinct):
            return separator
    return None


def _written_list(text: str) -> Iterable[str]:
    """A list as JSON or Python writes it; anything else is a name."""
    for read in (json.loads, ast.literal_eval):  # neither executes anything
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return [str(name) for name in found if name is not None]
    return [text]


def _clean(names: Iterable[str | None]) -> list[str]:
    kept = {" ".join(name.split()).strip(", ") for name in names if name}
    return sorted(kept - NOT_CATEGORIES)


def _most_common(items: list[Item], most: int) -> tuple[list[Item], int]:
    """The items with the ``most`` commonest categories alone, and how many categories were left out."""
    count = Counter(name for item in items for name in item.categories)
    if len(count) <= most:
        return items, 0
    kept = set(sorted(count, key=lambda name: (-count[name], name))[:most])
    return [
        replace(item, categories=tuple(name for name in item.categories if name in kept)) for item in items
    ], len(count) - most
