"""Joins item descriptions to a catalogue, by movie id or by title and year."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from palate.errors import DataError
from palate.schema import Item

# Known column names by role; the last of each are those of the Rotten Tomatoes data on Kaggle.
_COLUMNS = {
    "id": ("movie_id", "movieid", "item_id", "itemid"),
    "title": ("title", "movie_title"),
    "year": ("year", "release_year", "original_release_date"),
    "description": ("description", "plot", "overview", "synopsis", "movie_info"),
}
_ARTICLES = (
    "the|a|an|la|le|les|l'|un|une|il|lo|gli|i|el|los|las|una|"
    "der|die|das|ein|eine|den|det|en|et|o|os|as|um|uma"
)
_TRAILING_ARTICLE = re.compile(rf"(?P<rest>.+), (?P<article>{_ARTICLES})", re.IGNORECASE)
_PARENTHESES = re.compile(r"\(([^()]*)\)")
_ALSO_KNOWN_AS = re.compile(r"^a\.?k\.?a\.?\s+", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(?:18|19|20)\d\d(?!\d)")


@dataclass(frozen=True)
class Description:
    """One row of a descriptions file."""

    item_id: str | None
    title: str
    year: int | None
    text: str


def read_descriptions(path: Path) -> list[Description]:
    """Read a CSV file, or the one CSV file with descriptions in a folder.

    Needs a description column and either a movie id or a title; rows without a text are skipped.
    """
    if not path.is_dir():
        return _read(path)
    described = [file for file in sorted(path.glob("*.csv")) if "description" in _columns(_header(file))]
    if len(described) != 1:
        found = ", ".join(file.name for file in described) or "none"
        raise DataError(
            f"expected one CSV file with a description column, found {found}; name the file", path
        )
    return _read(described[0])


def describe(items: list[Item], descriptions: Iterable[Description]) -> tuple[list[Item], int]:
    """Join descriptions to items; returns the items and the number of unmatched descriptions.

    A row with an id is matched by id. Others are matched by title and year: equal years first, then years that differ
    by one (cinema and festival dates differ), then rows or items without a year. A title that matches several items is
    joined to none of them: a missing description is better than another film's.
    """
    by_id = {item.item_id: position for position, item in enumerate(items)}
    by_title = _titles(items)
    text_of: dict[int, str] = {}
    left_over = 0
    for description in descriptions:
        if description.item_id is not None:
            position = by_id.get(description.item_id)
        else:
            position = _by_title(description, items, by_title)
        if position is None or position in text_of:
            left_over += 1
        else:
            text_of[position] = description.text
    return [replace(item, description=text_of.get(i)) for i, item in enumerate(items)], left_over


def title_keys(title: str) -> list[str]:
    """List the keys of a title: itself first, then the alternatives in parentheses."""
    main = _PARENTHESES.sub(" ", title)
    alternatives = [_ALSO_KNOWN_AS.sub("", text.strip()) for text in _PARENTHESES.findall(title)]
    keys = [_normalise(text) for text in (main, title, *alternatives)]
    return list(dict.fromkeys(key for key in keys if key))


def _normalise(title: str) -> str:
    """Lower-case a title, drop accents and punctuation, move the article to the front: ``"the matrix"``."""
    title = " ".join(title.split())
    match = _TRAILING_ARTICLE.fullmatch(title)
    if match:
        article = match["article"]
        title = f"{article}{match['rest']}" if article.endswith("'") else f"{article} {match['rest']}"
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", title.casefold()) if not unicodedata.combining(c)
    )
    plain = plain.replace("&", " and ").replace("'", "").replace("’", "")
    return " ".join(re.sub(r"[^\w]+", " ", plain).split())


def _titles(items: list[Item]) -> dict[str, list[int]]:
    """Map keys to items; an alternative title is ignored if it is the main title of an item."""
    main: dict[str, list[int]] = defaultdict(list)
    alternative: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        for rank, key in enumerate(title_keys(item.title)):
            (alternative if rank else main)[key].append(position)
    return {**alternative, **main}


def _by_title(description: Description, items: list[Item], by_title: dict[str, list[int]]) -> int | None:
    for key in title_keys(description.title):
        fitting: dict[int, list[int]] = defaultdict(list)
        for position in by_title.get(key, []):
            distance = _distance(description.year, items[position].year)
            if distance is not None:
                fitting[distance].append(position)
        if fitting:
            nearest = fitting[min(fitting)]
            return nearest[0] if len(nearest) == 1 else None
    return None


def _distance(year: int | None, other: int | None) -> int | None:
    """Return 0 for equal years, 1 if they differ by one, 2 if one is unknown; None if they differ by more."""
    if year is None or other is None:
        return 2
    return abs(year - other) if abs(year - other) <= 1 else None


def _columns(header: list[str]) -> dict[str, str]:
    """Map roles to the header's column names."""
    written = {name.strip().lower(): name for name in reversed(header)}
    chosen = {
        role: next((written[n] for n in names if n in written), None) for role, names in _COLUMNS.items()
    }
    return {role: name for role, name in chosen.items() if name is not None}


def _header(path: Path) -> list[str]:
    return next(_rows(path), (1, []))[1]


def _read(path: Path) -> list[Description]:
    rows = _rows(path)
    _, header = next(rows, (1, []))
    column = {role: header.index(name) for role, name in _columns(header).items()}
    if "description" not in column or not {"id", "title"} & set(column):
        raise DataError(
            f"the header {','.join(header)[:80]!r} needs a column "
            f"{' or '.join(_COLUMNS['description'])}, and one of movie_id or title",
            path,
            1,
        )
    found = []
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"found {len(row)} fields, expected {len(header)} as in the header", path, line)
        value = {role: row[position].strip() for role, position in column.items()}
        if value["description"]:
            year = _YEAR.search(value.get("year", ""))
            item_id = value.get("id")
            found.append(
                Description(
                    item_id, value.get("title", ""), int(year[0]) if year else None, value["description"]
                )
            )
    return found


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Iterate over non-empty rows, with the number of their last line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            try:
                for row in rows:
                    if row:
                        yield rows.line_num, row
            except csv.Error as error:
                raise DataError(f"not well-formed CSV: {error}", path, rows.line_num) from error
            except UnicodeDecodeError as error:
                raise DataError(_undecodable(path), path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path) from error


def _undecodable(path: Path) -> str:
    return "some bytes are not UTF-8 text; save the file as UTF-8"
