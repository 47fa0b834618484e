"""Reads items from item files or event files: texts by column or template, categories from lists or separated text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import Formatter

import polars as pl

from palate.data.tabular.category_cells import CategoryColumn, CellError, as_text, read_column
from palate.data.tabular.columns import columns_of, find_column, noun_of
from palate.data.tabular.faults import Faults
from palate.data.tabular.files import Batch, RowFiles
from palate.data.tabular.ids import check_ids, read_ids
from palate.data.tabular.settings import OwnData
from palate.errors import DataError
from palate.schema import Item
from palate.words import counted

_ROW, _ROWS = "__row", "__rows"
"""Names of added columns: the first row of a version of an item, and its number of rows."""


@dataclass(frozen=True)
class Catalogue:
    """The items, and the nouns for items and categories."""

    items: list[Item]
    item_noun: str
    category_noun: str
    report: dict[str, int]
    description: str | None = None
    """Template of the descriptions; None if there are none."""

    def describes(self, column: str | None) -> bool:
        """Return whether a column is part of the descriptions."""
        return column is not None and f"{{{column}}}" in (self.description or "")


@dataclass(frozen=True)
class ItemColumns:
    """Columns by role; title and description are templates like ``{name} by {author}``."""

    item_id: str
    title: str
    description: str | None
    year: str | None
    category: str | None
    category_field: str | None
    """Field of the category records that holds the name."""

    @property
    def used(self) -> list[str]:
        """Names of the columns that are read, ascending."""
        names = {self.item_id, *(name for name in (self.category, self.year) if name)}
        for template in (self.title, self.description or ""):
            names |= {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        return sorted(names)


def find_item_columns(files: RowFiles, own: OwnData, event_item: str, faults: Faults) -> ItemColumns | None:
    """Find the columns of the item files.

    Args:
        files: The item files.
        own: Given column names.
        event_item: Column of item ids in the event files.
        faults: Collects an error for every required column that is not found.

    Returns:
        The columns; None if there are errors.
    """
    columns, place = list(files.schema), str(files.paths[0])
    before = Faults()
    id_column = before.catch(_id_column, columns, event_item, files)
    title = before.catch(_text, "title", own.title, columns, place)
    description = before.catch(_text, "description", own.description, columns, place)
    year = before.catch(find_column, "year", own.year, columns, place)
    category = before.catch(_category_column, own.category, files, {id_column, year})
    if before and files.first_line_looks_like_data:
        faults.add(files.no_header())
    elif before or id_column is None or category is None:
        faults.extend(before)
    else:
        return ItemColumns(id_column, title or f"{{{id_column}}}", description, year, *category)
    return None


def read_catalogue(
    files: RowFiles, columns: ItemColumns, own: OwnData, event_item: str, say: Callable[[str], None]
) -> Catalogue:
    """Read the items in file order; of several rows with the same id the first is kept.

    Args:
        files: The item files.
        columns: The columns, from :func:`find_item_columns`.
        own: Other settings.
        event_item: Column of item ids in the event files; the noun for items is inferred from its name.
        say: Called with messages about columns and skipped rows.

    Raises:
        DataError: A row cannot be parsed, or no row has an id.
    """
    place = str(files.paths[0])
    id_column, title, description, year = columns.item_id, columns.title, columns.description, columns.year
    category, field = columns.category, columns.category_field
    table, others, without_id = _distinct(files, id_column, columns.used)
    if own.items is None:  # rows are events: a text may belong to the event, as a review does
        if own.title is None and _differs_by_event(title, id_column, table, others):
            say(f"{title} differs between the events of an item: not its title (--title-col)")
            title = f"{{{id_column}}}"
        if own.description is None and _differs_by_event(description, id_column, table, others):
            say(
                f"{description} differs between the events of an item: not its description (--description-col)"
            )
            description = None
        kept = replace(columns, title=title, description=description).used
        table, others = _first_and_others(pl.concat([table, others]), kept, id_column)
    categories = (
        CategoryColumn([[] for _ in range(len(table))], None)
        if category is None
        else _categories(table, category, field, files, own)
    )
    separator = categories.separator
    say(
        f"items: id {id_column}, title {title}, "
        + (f"categories {category}" if category else "no categories (--category-col)")
        + (f", field {field}," if field else "")
        + (f" separated by {separator!r}" if separator else "")
        + (f", description {description}" if description else ", no descriptions (--description-col)")
        + (f", year {year}" if year else "")
    )
    rows = zip(
        table[id_column].to_list(),
        _filled(table, title),
        _filled(table, description),
        _years(table, year),
        categories.names,
        strict=True,
    )
    items = [
        Item(item_id, text or item_id, tuple(names), described, when)
        for item_id, text, described, when, names in rows
    ]
    if not items:
        raise DataError("lists no items; expected at least one row with an id", place)
    if own.items is None:  # an event without an item is an invalid row, counted elsewhere
        without_id = 0
    if without_id:
        say(f"skipped {counted(without_id, 'row')} of items without an id")
    repeated = _repeated(table, others, own)
    _tell_repeated(repeated, others, files, say)
    items, dropped = _most_common(items, own.max_categories)
    if dropped:
        say(f"kept the {own.max_categories} most frequent of {own.max_categories + dropped:,} categories")
    return Catalogue(
        items,
        own.item_noun or noun_of(event_item if noun_of(event_item) != "item" else id_column),
        own.category_noun or ("category" if category is None else noun_of(category)),
        {
            "items_without_title": sum(item.title == item.item_id for item in items),
            "rare_categories_left_out": dropped,
            "items_without_id": without_id,
            **repeated,
        },
        description,
    )


def _id_column(columns: list[str], event_item: str, files: RowFiles) -> str:
    """Find the item id column: named as in the events, by another common name, or id."""
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
    """Convert a column to a template; templates are returned as they are."""
    if given is not None and "{" in given:
        columns_of(given, columns, place)
        return given
    found = find_column(role, given, columns, place)
    return None if found is None else f"{{{found}}}"


def _category_column(
    given: str | None, files: RowFiles, others: set[str | None]
) -> tuple[str | None, str | None]:
    """Find the category column, None if there is none, and for ``genres.code`` the field of its records."""
    columns, place = list(files.schema), str(files.paths[0])
    if given is not None and given not in columns:
        column, dot, field = given.partition(".")
        if dot and field and column in columns:
            return column, field
    found = find_column("category", given, columns, place)
    if found is None:
        lists = [name for name, dtype in files.schema.items() if isinstance(dtype, (pl.List, pl.Array))]
        found = lists[0] if len(lists) == 1 and lists[0] not in others else None
    return found, None


def _distinct(files: RowFiles, id_column: str, used: list[str]) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Collect the distinct rows that have an id, by the used columns.

    Returns:
        The first row of each id, and rows with other content for the same id, both in file order; then the number of
        rows without an id. ``_ROW`` is the row number in the files, ``_ROWS`` the number of equal rows.
    """
    dtype = files.schema[id_column]
    if dtype.is_nested():
        path, line = files.first_nested(id_column)
        raise DataError(
            f"column {id_column!r} holds {dtype}, expected ids: text or whole numbers; name another with "
            "--item-col",
            path,
            line,
        )
    rows = without_id = 0

    def versions_in(batch: Batch) -> pl.DataFrame:
        nonlocal rows, without_id
        table = batch.table.with_columns(read_ids(batch.table[id_column], batch.path).cast(pl.String))
        without_id += table[id_column].null_count()
        table = table.with_row_index(_ROW, rows).filter(pl.col(id_column).is_not_null())
        rows += len(batch.table)
        return table.group_by(used).agg(pl.col(_ROW).min(), pl.len().alias(_ROWS))

    table, _ = files.read(used, versions_in)
    first, others = _first_and_others(table, used, id_column)
    check_ids(id_column, first[id_column], files)
    return first, others, without_id


def _first_and_others(
    rows: pl.DataFrame, used: list[str], id_column: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the distinct rows into the first of each id and all others."""
    versions = rows.group_by(used).agg(pl.col(_ROW).min(), pl.col(_ROWS).sum()).sort(_ROW)
    first = pl.col(id_column).is_first_distinct()
    return versions.filter(first), versions.filter(~first)


def _repeated(first: pl.DataFrame, others: pl.DataFrame, own: OwnData) -> dict[str, int]:
    """Count the rows whose id occurs earlier, and those of them whose content differs from the first row's."""
    conflicting = int(others[_ROWS].sum())
    same = int(first[_ROWS].sum()) - len(first)
    if own.items is None:  # rows are events, of which an item may have many
        same = 0
    return {"duplicate_items": same + conflicting, "conflicting_items": conflicting}


def _tell_repeated(
    repeated: dict[str, int], others: pl.DataFrame, files: RowFiles, say: Callable[[str], None]
) -> None:
    if not repeated["duplicate_items"]:
        return
    conflict = ""
    if repeated["conflicting_items"]:
        path, line = files.line_of(int(others[_ROW][0]))
        place = f"{path}:{line}" if line is not None else str(path)
        conflict = f", {repeated['conflicting_items']:,} of them with other content (the first at {place})"
    say(f"skipped {counted(repeated['duplicate_items'], 'row')} of items that occur earlier{conflict}")


def _differs_by_event(
    template: str | None, id_column: str, first: pl.DataFrame, others: pl.DataFrame
) -> bool:
    """Return whether a text differs in most of an item's rows, as a review does, and so belongs to the event."""
    if template is None:
        return False
    names = [name for name in columns_of(template, first.columns, "") if name != id_column]
    if not names or others.is_empty():
        return False
    every = pl.concat([first, others])
    rows = every.group_by(id_column).agg(pl.col(_ROWS).sum(), pl.struct(names).n_unique().alias("__texts"))
    return bool(2 * (rows["__texts"] - 1).sum() > (rows[_ROWS] - 1).sum())


def _texts(column: pl.Series) -> list[str | None]:
    """Convert cells to text, including the contents of lists and records."""
    if column.dtype.is_nested() or column.dtype in (pl.String, pl.Binary, pl.Duration):
        return [None if cell is None else as_text(cell) for cell in column.to_list()]
    return list(column.cast(pl.String))


def _filled(table: pl.DataFrame, template: str | None) -> list[str | None]:
    """Fill the template with each row's columns and collapse blanks; None if all are empty."""
    if template is None:
        return [None] * len(table)
    names = columns_of(template, table.columns, "")
    rows = zip(*([text or "" for text in _texts(table[name])] for name in names), strict=True)
    return [
        " ".join(template.format(**dict(zip(names, row, strict=True))).split()) if any(row) else None
        for row in rows
    ]


def _years(table: pl.DataFrame, column: str | None) -> list[int | None]:
    if column is None:
        return [None] * len(table)
    texts = pl.Series(_texts(table[column]), dtype=pl.String)
    return list(texts.str.extract(r"(?:^|\D)(\d{4})(?:\D|$)").cast(pl.Int32))


def _categories(
    table: pl.DataFrame, column: str, field: str | None, files: RowFiles, own: OwnData
) -> CategoryColumn:
    """Parse the category names of each row; raises :class:`DataError` with the line of an invalid cell."""
    try:
        return read_column(table[column].to_list(), own.separator, field)
    except CellError as error:
        path, line = files.line_of(int(table[_ROW][error.row]))
        raise DataError(
            f"the categories in column {column!r} cannot be parsed: {error}; write them as a list or with a "
            f"separator, or give the field that holds the name, like --category-col {column}.title",
            path,
            line,
        ) from None


def _most_common(items: list[Item], most: int) -> tuple[list[Item], int]:
    """Keep the ``most`` most frequent categories; returns the items and the number of dropped categories."""
    count = Counter(name for item in items for name in item.categories)
    if len(count) <= most:
        return items, 0
    kept = set(sorted(count, key=lambda name: (-count[name], name))[:most])
    return [
        replace(item, categories=tuple(name for name in item.categories if name in kept)) for item in items
    ], len(count) - most
