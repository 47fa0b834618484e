"""Random event and item files, well-formed and malformed, for comparing :mod:`file_oracle` with palate.

A world is a function of its seed. It holds its files as tables of written cells, so that a failing one can be shrunk
by removing rows, columns and files one at a time.
"""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from file_oracle import Columns, Source

NAMES = [
    "Jazz",
    "Folk",
    "Sci-Fi",
    "R&B",
    "Children's",
    "Música",
    "爵士",
    "Film Noir",
    'So "Called"',
    "unknown",
]
RUBBISH = [
    "", "x", "a,b", "p;q", "m|n", "t\tu", "one\ntwo", "one\r\ntwo", "cr\rcr", "é", "𝄞", "\u2028", "\x85", "\x0b",
    "\x0c", '"', '""', 'say "hi"', '7"', "'", "\\", '\\"', "\\N", "NULL", "NaN", "None", "#", "# no comment", "{x}",
    "[1]", "::", "1::2", "null", "-", "0", " ", "  lead", "trail  ", "\ufeff", "ß" * 40,
]  # fmt: skip
RAW = ['7" single', "5'11\"", 'say "hi" now', 'x""y', "it's", 'a"']
"""Quotes within a cell that has none at its ends."""
ODD_RAW = ['"Live" is', '"open', '"a"b"', '"" x']
BAD_TIMES = ["yesterday", "", "2024-02-30", "NaN", "99:99", "null"]
BAD_RATINGS = ["five", "", "NaN", "inf", "4,5", "1_0", "４", "0x4", "4 5", "None", "1e400"]
BASE = 1_600_000_000


@dataclass(frozen=True)
class Sheet:
    """One file: its columns, and rows of cells as written (for Parquet, as values)."""

    name: str
    format: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    delimiter: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"
    packed: bool = False
    last_newline: bool = True
    header: tuple[str, ...] = ()  # as it is written
    types: tuple[Any, ...] = ()  # of Parquet
    breaks: str = ""  # what is done to the bytes

    def bytes(self) -> bytes:
        """Return the bytes of a text file."""
        lines = [self._line(row) for row in self.rows]
        if self.format == "csv":
            lines.insert(0, self.delimiter.join(self.header))
        text = self.newline.join(lines) + self.newline * self.last_newline
        data = text.encode(self.encoding, "surrogatepass" if self.encoding == "utf-8" else "replace")
        if self.breaks == "cut":
            return gzip.compress(data, 1)[:-9]
        if self.breaks == "not utf-8":
            data = data.replace(b"x", b"\xe9", 1) if b"x" in data else data + b"\xe9"
        return gzip.compress(data, 1) if self.packed else data

    def _line(self, row: tuple[Any, ...]) -> str:
        if len(row) == 1 and row[0] is None:
            return ""
        if self.format == "csv":
            return self.delimiter.join(row)
        if len(row) == 1:
            return str(row[0])  # no object at all
        named = zip(self.columns, row, strict=False)
        return (
            "{" + ", ".join(f"{json.dumps(name)}: {cell}" for name, cell in named if cell is not None) + "}"
        )

    def write(self, folder: Path) -> Source:
        """Write the file; return what the oracle needs to know about it."""
        path = folder / self.name
        if self.format != "parquet":
            path.write_bytes(self.bytes())
            return Source(path, self.format, self.delimiter)
        columns = {
            name: pl.Series(name, [row[at] for row in self.rows], dtype=self.types[at], strict=False)
            for at, name in enumerate(self.columns)
        }
        table = pl.DataFrame(columns)
        table.write_parquet(path)
        return Source(path, "parquet", table=table.to_dicts())


@dataclass(frozen=True)
class World:
    """Event files, possibly an item file, and the settings for reading them."""

    seed: int
    events: tuple[Sheet, ...]
    items: Sheet | None
    columns: Columns
    settings: dict[str, Any] = field(default_factory=dict)
    whole: bool = False  # through prepare and load_dataset

    @property
    def files(self) -> int:
        """Number of files."""
        return len(self.events) + (self.items is not None)

    @property
    def rows(self) -> int:
        """Number of rows in all files."""
        return sum(len(sheet.rows) for sheet in (*self.events, *([self.items] if self.items else [])))

    def smaller(self):
        """Yield worlds with one thing removed."""
        if len(self.events) > 1:
            for at in range(len(self.events)):
                yield replace(self, events=self.events[:at] + self.events[at + 1 :])
        for at, sheet in enumerate(self.events):
            for less in _less(sheet):
                yield replace(self, events=(*self.events[:at], less, *self.events[at + 1 :]))
        if self.items is not None:
            for less in _less(self.items):
                yield replace(self, items=less)

    def shown(self) -> str:
        """Format files and settings for reading."""
        parts = [f"seed {self.seed}, settings {self.settings}"]
        for sheet in (*self.events, *([self.items] if self.items else [])):
            said = sheet.bytes() if sheet.format != "parquet" and not sheet.packed else sheet
            parts.append(f"{sheet.name} ({sheet.encoding}): {said}")
        return "\n".join(parts)


def _less(sheet: Sheet):
    for size in (len(sheet.rows) // 2, len(sheet.rows) // 4, 1):
        for at in range(0, len(sheet.rows), max(size, 1)):
            if size:
                yield replace(sheet, rows=sheet.rows[:at] + sheet.rows[at + size :])
    for at in range(len(sheet.columns)):

        def without(row: tuple[Any, ...], at: int = at) -> tuple[Any, ...]:
            return row[:at] + row[at + 1 :] if len(row) > 1 else row

        yield replace(
            sheet,
            columns=without(sheet.columns),
            header=without(sheet.header),
            types=without(sheet.types),
            rows=tuple(map(without, sheet.rows)),
        )
    for name, plain in (("packed", False), ("encoding", "utf-8"), ("newline", "\n"), ("last_newline", True)):
        if getattr(sheet, name) != plain and sheet.format != "parquet" and not sheet.breaks:
            yield replace(sheet, **{name: plain})


# -- making ----------------------------------------------------------------------------------------------------------


def make_world(seed: int) -> World:
    """Generate the world of a seed."""
    return _Maker(seed).world()


class _Maker:
    """Generates a world; all draws depend on the seed alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.odd = self.chance(0.4)  # whether anything may be wrong or doubtful
        self.implicit = self.chance(0.25)
        self.columns = self._columns()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def fault(self, share: float) -> bool:
        return self.odd and self.chance(share)

    def pick(self, some: Any) -> Any:
        return self.random.choice(some)

    def world(self) -> World:
        users, item_ids = self._ids(self.pick([3, 4, 6]), "u"), self._ids(self.pick([4, 8, 12]), "i")
        own_items = self.chance(0.8)
        catalogue, separator = self._catalogue(item_ids)
        events = self._events(users, item_ids)
        if not own_items:
            of_item = {row[self.columns.item_key]: row for row in catalogue}
            events = [{**of_item.get(row[self.columns.item], {}), **row} for row in events]
            events = [row for row in events if row[self.columns.item] in of_item]
        form = self.pick(["csv", "csv", "csv", "jsonl", "parquet"])
        if form == "parquet" and not own_items:
            form = "csv"
        needed = {self.columns.user, self.columns.item, self.columns.value, self.columns.time}
        sheets = self._split(events, form, "e", needed)
        item_form = self.pick(["csv", "csv", "jsonl", "parquet"])
        items = self._sheet(catalogue, item_form, "items", {self.columns.item_key}) if own_items else None
        settings: dict[str, Any] = {"separator": separator, "skip_bad_rows": self.odd and self.chance(0.5)}
        if self.implicit:
            settings["feedback"] = "implicit"
        columns = self.columns if own_items else replace(self.columns, item_key=self.columns.item)
        return World(self.seed, tuple(sheets), items, columns, settings, self.chance(0.05))

    def _columns(self) -> Columns:
        value = self.pick(["weight", "plays", None]) if self.implicit else self.pick(["rating", "stars"])
        item = self.pick(["item_id", "isbn", "movieId", "Item Id"])
        return Columns(
            user=self.pick(["user_id", "userId", "User Id", "customer_id"]),
            item=item,
            value=value,
            time=self.pick(["timestamp", "ts", "date", None]),
            item_key=item,
            title=self.pick(["title", "name", None]),
            category=self.pick(["genres", "categories", "tags"]),
            description=self.pick(["description", "plot", None]),
            year=self.pick(["year", None]),
        )

    def _ids(self, number: int, start: str) -> list[Any]:
        kind = self.pick(["text", "zeros", "int", "large", "huge", "odd", "text", "int"])
        ids: list[Any] = {
            "text": [f"{start}{n}" for n in range(number)],
            "zeros": [f"{n:04}" for n in range(number // 2)] + [str(n) for n in range(number - number // 2)],
            "int": list(range(number)),
            "large": [2**53 + n for n in range(number)],
            "huge": [2**63 + 1 + n for n in range(number)],
            "odd": [f"{start} 1", f"{start}é", "NA", "null", "1e5", "1.0", "1", "-7", "{x}", 'q"q', "x,y", "a|b",
                    "p;q", "[z]", "#1", "N/A"][:max(number, 4)],
        }[kind]  # fmt: skip
        return ids[:number] if kind != "odd" else self.random.sample(ids, min(number, len(ids)))

    # -- items

    def _catalogue(self, ids: list[Any]) -> tuple[list[dict[str, Any]], str | None]:
        names = self.random.sample(NAMES, 4)
        separator = self.pick(["|", ";", " > ", "/", ",", "list", "json", "python", "single"])
        rows = []
        columns = self.columns
        for at, item_id in enumerate(ids):
            chosen = (
                [names[at % 4]] if separator == "single" else self.random.sample(names, self.pick([1, 2, 3]))
            )
            row: dict[str, Any] = {columns.item_key: item_id, columns.category: chosen}
            if at > 1 and self.chance(0.1):
                row[columns.category] = []
            if columns.title:
                row[columns.title] = self.pick(
                    [f"T {at}", "  two  blanks ", 'The "Live" One', "Ünï", None, f"{1900 + at}", "a, b; c"]
                )
            if columns.description:
                row[columns.description] = self.pick([None, "one\ntwo", 'a 7" record', "plain", ""])
            if columns.year:
                row[columns.year] = self.pick([1999, "1999-05-02", "n/a", "", None, "199", "May 2001", 20011])
            rows.append(row)
        if self.chance(0.2):
            rows.append({**self.pick(rows), columns.category: ["Later"]})
        if self.fault(0.15):
            rows.insert(
                self.random.randrange(len(rows)), {**rows[0], columns.item_key: self.pick([None, "", "  "])}
            )
        self._write_categories(rows, separator)
        return rows, separator if separator in ("|", ";", " > ", "/", ",") else None

    def _write_categories(self, rows: list[dict[str, Any]], form: str) -> None:
        """Write category lists in the given form; formats without lists convert ``list`` later."""
        write: dict[str, Callable[[list[str]], Any]] = {
            "list": lambda names: list(names),
            "json": lambda names: json.dumps(names, ensure_ascii=self.chance(0.5)),
            "python": lambda names: str(names),
        }
        for row in rows:
            names = row[self.columns.category]
            row[self.columns.category] = (
                write.get(form, lambda names: form.join(names))(names) if form != "single" else "".join(names)
            )

    # -- events

    def _events(self, users: list[Any], items: list[Any]) -> list[dict[str, Any]]:
        columns, rows = self.columns, []
        known = items[: max(2, len(items) - 1)]
        unknown = ["?no such item", 10**6][isinstance(items[0], int)]
        time = self._times()
        value = self._values()
        for at in range(self.random.randrange(8, 30)):
            row = {
                columns.user: users[at % len(users)],
                columns.item: unknown if self.chance(0.05) else self.pick(known),
            }
            if columns.value:
                row[columns.value] = value(at)
            if columns.time:
                row[columns.time] = time(at)
            rows.append(row)
            if self.chance(0.1):
                rows.append({**self.pick(rows), **({columns.value: value(at + 1)} if columns.value else {})})
        if self.fault(0.5):
            self._spoil(rows)
        return rows

    def _values(self) -> Callable[[int], Any]:
        if self.implicit:
            whole = self.chance(0.6)
            return lambda at: self.pick([1, 2, 3, 7, 20]) if whole else self.pick([0.25, 1.5, 2, 3.75, 10.5])
        kind = self.pick(["int", "half", "bool", "word", "decimal", "mixed", "int"])
        if kind == "bool":
            return lambda at: at % 2 == 0
        if kind == "word":
            return lambda at: ["up", "Down", "TRUE", "false"][at % 4]
        if kind == "decimal":
            return lambda at: Decimal(at % 5 * 5) / 10
        if kind == "mixed":
            return lambda at: [4, 3.5, "2", " 1.5 ", -1][at % 5]
        return lambda at: at % 5 + (0.5 if kind == "half" else 0)

    def _times(self) -> Callable[[int], Any]:
        kind = self.pick(["s", "ms", "us", "ns", "iso", "float", "text", "datetime", "date"])
        steps = [self.random.randrange(10**6) for _ in range(200)]
        if self.chance(0.3):
            steps = [step % 3 for step in steps]  # ties
        unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(kind)
        if unit:
            return lambda at: (BASE + steps[at]) * unit + self.random.randrange(unit)
        if kind == "float":
            return lambda at: BASE + steps[at] + self.pick([0.25, 0.5, 0.75, 0.0])
        if kind == "text":
            return lambda at: str(BASE + steps[at])
        if kind == "date":
            return lambda at: date(2020, 1, 1) + timedelta(days=steps[at] % 900)
        if kind == "datetime":
            return lambda at: (
                datetime(2020, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=steps[at], microseconds=at)
            )
        forms = ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S.%f",
                 "%Y-%m-%dT%H:%M:%S+02:00", "%Y-%m-%d %H:%M:%S.%f-05:30", "%Y-%m-%dT%H:%M+01:00"]  # fmt: skip
        forms = forms if self.chance(0.3) else [self.pick(forms)]
        return lambda at: (datetime(2020, 1, 1) + timedelta(seconds=steps[at])).strftime(self.pick(forms))

    def _spoil(self, rows: list[dict[str, Any]]) -> None:
        columns = self.columns
        for _ in range(self.pick([1, 1, 2, 5])):
            row = self.pick(rows)
            name, some = self.pick(
                [
                    (columns.user, [None, "", "  "]),
                    (columns.item, [None, "", " "]),
                    (columns.value, [None, "-1" if self.implicit else "many", *BAD_RATINGS]),
                    (columns.time, [None, *BAD_TIMES]),
                ]
            )
            if name is not None:
                row[name] = self.pick(some)

    # -- files

    def _split(self, rows: list[dict[str, Any]], form: str, name: str, needed: set[Any]) -> list[Sheet]:
        number = self.pick([1, 1, 1, 2, 3])
        size = -(-len(rows) // number)
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        self.extra = [
            f"junk {at}" if at else self.pick(["note", "", "comment, long", "x"])
            for at in range(self.pick([0, 1, 2]))
        ]
        self.delimiter = self.pick(",,\t;|")
        self.newline = self.pick(["\n", "\n", "\n", "\r\n"])
        self.types = self._types(rows) if form == "parquet" else {}
        names = ["e", "e[1]", "e 2", "é", "e#", "e{3}"]
        shown = self.random.sample(names, len(parts))
        return [
            self._sheet(part, form, one, needed, events=True) for part, one in zip(parts, shown, strict=True)
        ]

    def _sheet(
        self, rows: list[dict[str, Any]], form: str, name: str, needed: set[Any], events: bool = False
    ) -> Sheet:
        if not events:
            self.extra = self.random.choices(["note", "blurb x"], k=self.pick([0, 1]))
            self.delimiter, self.newline = self.pick(",,\t;|"), self.pick(["\n", "\r\n"])
            self.types = self._types(rows) if form == "parquet" else {}
        names = list(dict.fromkeys(key for row in rows for key in row)) + self.extra
        self.random.shuffle(names)
        if form == "parquet":
            return self._parquet(rows, names, name)
        packed = self.chance(0.15)
        ending = {
            "csv": self.pick([".csv", ".tsv"] if self.delimiter == "\t" else [".csv"]),
            "jsonl": self.pick([".jsonl", ".ndjson"]),
        }[form]
        sheet = Sheet(
            name + ending + ".gz" * (packed and self.chance(0.8)),
            form,
            tuple(names),
            (),
            delimiter=self.delimiter,
            newline=self.newline,
            packed=packed,
            encoding="utf-8-sig" if self.chance(0.15) else "utf-8",
            last_newline=self.chance(0.7),
        )
        if form == "jsonl":
            written = [tuple(self._json_cell(row, key) for key in names) for row in rows]
        else:
            quoting = self.pick(["least", "all", "some"])
            written = [tuple(self._csv_cell(row.get(key), key, quoting) for key in names) for row in rows]
            sheet = replace(sheet, header=tuple(self._quoted(key, quoting) for key in names))
        if self.chance(0.15):
            written.insert(self.random.randrange(len(written) + 1), (None,))
        return self._broken(replace(sheet, rows=tuple(written)), needed)

    def _broken(self, sheet: Sheet, needed: set[Any]) -> Sheet:
        """Introduce a fault in the file as a whole, or in a row's form."""
        rows = list(sheet.rows)
        at = self.random.randrange(len(rows))
        if self.fault(0.04):
            return replace(sheet, encoding=self.pick(["utf-16", "utf-16-le", "latin-1"]))
        if self.fault(0.04):
            return replace(sheet, newline=self.pick(["\r", "\n\n", "\n\r\n"]))
        if sheet.packed and self.fault(0.1):
            return replace(sheet, breaks="cut")
        if self.fault(0.03):
            return replace(sheet, breaks="not utf-8")
        if self.fault(0.05) and sheet.format == "csv" and len(rows[at]) > 2:
            rows[at] = self.pick([rows[at] + ("more",), rows[at][:-1], ("",) * len(rows[at]), ("  ",)])
        if self.fault(0.05) and sheet.format == "jsonl":
            rows[at] = (
                self.pick(
                    ["{", "[1]", "3", "nonsense", '{"a": 1,}', '{"a": 1} {}', "{'a': 1}", '{"x": NaN}']
                ),
            )
        if self.fault(0.03) and sheet.format == "csv":
            extra = self.pick(list(sheet.header))
            sheet = replace(sheet, columns=(*sheet.columns, extra), header=(*sheet.header, extra))
            rows = [(*row, "again") if len(row) > 1 else row for row in rows]
        if self.fault(0.02) and sheet.format == "csv":
            rows = []
        return replace(sheet, rows=tuple(rows))

    def _csv_cell(self, value: Any, key: str, quoting: str) -> str:
        if key in self.extra:
            if self.chance(0.3):
                return self.pick(RAW)
            if self.fault(0.004):
                return self.pick(ODD_RAW)
            value = self.pick(RUBBISH)
        if isinstance(value, list):
            value = json.dumps(value)
        text = "" if value is None else self._pad(str(value), key)
        if self.chance(0.5) and '"' in text and not text.startswith('"') and not set(text) & set(",;|\t\r\n"):
            return text  # a bare quote
        return self._quoted(text, quoting)

    def _pad(self, text: str, key: str) -> str:
        return f" {text} " if key in (self.columns.user, self.columns.item) and self.chance(0.05) else text

    def _quoted(self, text: str, quoting: str) -> str:
        must = bool(set(text) & set(self.delimiter + '"\r\n'))
        if must or quoting == "all" or (quoting == "some" and self.chance(0.4)):
            return '"' + text.replace('"', '""') + '"'
        return text

    def _json_cell(self, row: dict[str, Any], key: str) -> str | None:
        if key in self.extra:
            odd = ["1e999", "123456789012345678901234567890", '"\\ud800"', '{"a": 1, "a": 2}', "[NaN]"]
            plain = [
                "[1, [2]]",
                '{"a": {"b": null}}',
                "true",
                '"\\u0000"',
                "1.5",
                '"x"',
                "[]",
                "{}",
                '"\\ud83d\\ude00"',
            ]
            return self.pick(odd) if self.fault(0.05) else self.pick([*plain, None])
        value = row.get(key)
        if value is None:
            return self.pick([None, "null"])
        if isinstance(value, Decimal):
            return str(value)
        if isinstance(value, (date, datetime)):
            value = str(value)
        return json.dumps(value, ensure_ascii=self.chance(0.5))

    def _types(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Choose a Parquet type for each column; values of mixed kinds become text."""
        types = {}
        for key in dict.fromkeys(key for row in rows for key in row):
            kinds = {type(row.get(key)) for row in rows} - {type(None)}
            largest = max((abs(row[key]) for row in rows if type(row.get(key)) is int), default=0)
            if kinds == {int}:
                fitting = [pl.UInt64] if largest >= 2**63 else [pl.Int64, pl.Int64, pl.UInt64]
                fitting += (
                    [pl.Int32] * (largest < 2**31) + [pl.Float64] * self.odd + [pl.Decimal(38, 0)] * self.odd
                )
                types[key] = self.pick(fitting)
            elif kinds == {float} or kinds == {int, float}:
                types[key] = self.pick([pl.Float64, pl.Float32]) if largest < 100 else pl.Float64
            elif kinds == {bool}:
                types[key] = pl.Boolean
            elif kinds == {Decimal}:
                types[key] = pl.Decimal(10, 2)
            elif kinds == {datetime}:
                types[key] = self.pick(
                    [
                        pl.Datetime("us", "UTC"),
                        pl.Datetime("ms"),
                        pl.Datetime("ns"),
                        pl.Datetime("us", "Europe/Paris"),
                    ]
                )
            elif kinds == {date}:
                types[key] = pl.Date
            elif kinds == {list}:
                types[key] = pl.List(pl.String)
            else:
                types[key] = self.pick([pl.String, pl.String, pl.Categorical])
        return types

    def _parquet(self, rows: list[dict[str, Any]], names: list[str], name: str) -> Sheet:
        rubbish = {
            pl.Binary: b"\xff\x00",
            pl.Struct({"a": pl.Int64}): {"a": 1},
            pl.List(pl.Float64): [1.5],
            pl.String: "x",
        }
        types, columns = [], []
        for key in names:
            if key in self.extra:
                kind = self.pick(list(rubbish))
                columns.append([rubbish[kind]] * len(rows))
            else:
                kind = self.types.get(key, pl.String)
                columns.append([_as(row.get(key), kind) for row in rows])
            types.append(kind)
        written = tuple(zip(*columns, strict=True))
        return Sheet(
            name + self.pick([".parquet", ".pq"]), "parquet", tuple(names), written, types=tuple(types)
        )


def _as(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if kind in (pl.String, pl.Categorical):
        return (
            value
            if isinstance(value, str)
            else json.dumps(value, default=str)
            if isinstance(value, (list, bool))
            else str(value)
        )
    if isinstance(value, str) and kind not in (pl.String, pl.Categorical):
        return None
    if isinstance(value, datetime) and kind == pl.Datetime and kind.time_zone is None:
        return value.replace(tzinfo=None)
    return value
