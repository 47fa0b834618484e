"""Reads the item files of MovieLens releases: ``u.item``, ``.item``, ``movies.dat`` and ``movies.csv``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from palate.errors import DataError
from palate.schema import Item

NOT_CATEGORIES = frozenset({"", "unknown", "(no genres listed)"})

# "Toy Story (1995)", "Fawlty Towers (1975-1979)", and MovieLens 100K's "… (1995) (V)" for video releases.
_TITLE_WITH_YEAR = re.compile(r"(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)(?: \(V\))?")
_ID = re.compile(r"\d{1,10}")


def split_year(text: str) -> tuple[str, int | None]:
    """Split ``"Toy Story (1995)"`` into ``("Toy Story", 1995)``; without a year, return the title and None."""
    match = _TITLE_WITH_YEAR.fullmatch(text.strip())
    if match is None:
        return text.strip(), None
    return match["title"], int(match["year"])


def read_100k_items(path: Path, genre_path: Path) -> list[Item]:
    """Read ``u.item``: id, title, dates, URL and one flag per genre, separated by ``|``."""
    genres = _read_genres(genre_path)
    width = 5 + len(genres)

    def items() -> Iterator[tuple[int, Item]]:
        for number, fields in _split_lines(path, "|", width):
            flags = fields[5:]
            if not set(flags) <= {"0", "1"}:
                raise DataError(f"a genre flag is not 0 or 1 in {'|'.join(flags)!r}", path, number)
            chosen = [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1"]
            yield number, _item(fields[0], *split_year(fields[1]), chosen)

    return _checked(items(), path)


def read_recbole_items(path: Path) -> list[Item]:
    """Read RecBole's ``ml-100k.item``: id, title, year and genres separated by spaces, with a typed header."""
    lines = _split_lines(path, "\t", 4)
    number, header = next(lines)
    expected = ["item_id", "movie_title", "release_year", "class"]
    if [name.partition(":")[0] for name in header] != expected:
        raise DataError(f"the header is {header}, expected the columns {expected}", path, number)
    rows = (
        (number, _item(item_id, *_title_and_year(title, year), genres.split()))
        for number, (item_id, title, year, genres) in lines
    )
    return _checked(rows, path)


def _title_and_year(title: str, year: str) -> tuple[str, int | None]:
    """Return the title and year; RecBole has some wrong years ("V"), and then the title contains the year."""
    return (title.strip(), int(year)) if year.isdigit() else split_year(title)


def read_dat_items(path: Path) -> list[Item]:
    """Read ``movies.dat`` of 1M and 10M: id, title and genres separated by ``::``."""
    lines = _split_lines(path, "::", 3)
    return _checked(((number, _item(i, *split_year(t), g.split("|"))) for number, (i, t, g) in lines), path)


def read_csv_items(path: Path) -> list[Item]:
    """Read ``movies.csv`` of 20M and later: movieId, title, genres."""

    def items() -> Iterator[tuple[int, Item]]:
        rows = csv.reader(io.StringIO(_text(path, None), newline=""), strict=True)
        try:
            for row in rows:
                if rows.line_num == 1:
                    if row[:3] != ["movieId", "title", "genres"]:
                        raise DataError(f"the header is {row}, expected movieId,title,genres", path, 1)
                elif row:
                    _require_width(row, 3, ",", path, rows.line_num)
                    yield rows.line_num, _item(row[0], *split_year(row[1]), row[2].split("|"))
        except csv.Error as error:
            raise DataError(f"not well-formed CSV: {error}", path, rows.line_num) from error

    return _checked(items(), path)


def _item(item_id: str, title: str, year: int | None, categories: Iterable[str]) -> Item:
    kept = {category.strip() for category in categories} - NOT_CATEGORIES
    return Item(item_id.strip(), title, tuple(sorted(kept)), year=year)


def _checked(items: Iterable[tuple[int, Item]], path: Path) -> list[Item]:
    """Check that ids are unique, and sort the items by numeric id."""
    by_id: dict[int, Item] = {}
    for number, item in items:
        if not _ID.fullmatch(item.item_id) or int(item.item_id) >= 2**32:
            raise DataError(f"the movie id {item.item_id!r} is not a whole number", path, number)
        if not item.title:
            raise DataError(f"movie {item.item_id} has no title", path, number)
        if int(item.item_id) in by_id:
            raise DataError(f"movie {item.item_id} is listed a second time", path, number)
        by_id[int(item.item_id)] = item
    if not by_id:
        raise DataError("the file lists no movies", path)
    return [by_id[number] for number in sorted(by_id)]


def _read_genres(path: Path) -> list[str]:
    """Read ``u.genre``: the genre of each flag, in order."""
    names: list[str] = []
    for line, (name, position) in _split_lines(path, "|", 2):
        if position != str(len(names)):
            raise DataError(f"genre {name!r} has number {position!r}, expected {len(names)}", path, line)
        names.append(name)
    return names


def _split_lines(path: Path, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Split the lines of a file, which may be Latin-1, into ``width`` fields, with line numbers from 1."""
    for number, line in enumerate(_text(path, "latin-1").split("\n"), start=1):
        fields = line.rstrip("\r").split(separator)
        if fields != [""]:
            _require_width(fields, width, separator, path, number)
            yield number, fields


def _require_width(fields: list[str], width: int, separator: str, path: Path, line: int) -> None:
    if len(fields) != width:
        raise DataError(
            f"found {len(fields)} fields, expected {width} separated by {separator!r}", path, line
        )


def _text(path: Path, fallback: str | None) -> str:
    """Read a text file as UTF-8, or in the ``fallback`` encoding of old releases."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        # Text has no control characters, but Latin-1 would decode damaged bytes as such.
        control = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", data)
        if fallback is None or control:
            if control and fallback:
                line = data.count(b"\n", 0, control.start()) + 1
            raise DataError(
                "the line contains bytes that are not text; the file is damaged", path, line
            ) from error
        return data.decode(fallback)
