"""Ids keep every digit, or are refused."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from palate.data.tabular.files import find_row_files
from palate.data.tabular.ids import check_ids, read_ids
from palate.errors import DataError

FILE = Path("events.parquet")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([3, None], dtype=pl.UInt8), [3, None]),
        (pl.Series([2**63 + 5, 2**64 - 1], dtype=pl.UInt64), [2**63 + 5, 2**64 - 1]),
        (pl.Series([1.0, None, float("nan"), 2.0**53 - 1]), [1, None, None, 2**53 - 1]),
        (pl.Series([2.0**24 - 1], dtype=pl.Float32), [2**24 - 1]),
        (pl.Series([Decimal("12.00"), Decimal("9007199254740993.00")]), ["12", "9007199254740993"]),
        (pl.Series([" a b ", "007", "", None]), ["a b", "007", None, None]),
        (pl.Series(["x", " y"], dtype=pl.Categorical), ["x", "y"]),
        (pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])), ["x", "y"]),
        (pl.Series([b"ab", b"\xc3\xa9"]), ["ab", "é"]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_ids_of_every_type_are_read_whole(column, expected):
    assert read_ids(column, FILE).to_list() == expected


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series("who", [100.0, 100.1]), r"column 'who' is Float64 with fractions, like 100.1"),
        (
            pl.Series("who", [2.0**53]),
            r"is Float64 with values like 9007199254740992, and above 2\*\*53 .* lose digits",
        ),
        (pl.Series("who", [2.0**24], dtype=pl.Float32), r"above 2\*\*24"),
        (pl.Series("who", [float("inf")]), "is Float64 with values like inf"),
        (pl.Series("who", [Decimal("1.5")]), "with fractions, like 1.5"),
        (pl.Series("who", [True]), "holds Boolean, expected ids"),
        (pl.Series("who", [date(2020, 1, 1)]), "holds Date, expected ids"),
        (pl.Series("who", [["a"]]), r"holds List\(String\), expected ids"),
        (pl.Series("who", [b"\xff"]), "bytes that are not UTF-8 text"),
    ],
)
def test_what_is_no_id_or_has_lost_digits_is_refused(column, message):
    with pytest.raises(DataError, match=rf"^events.parquet: .*{message}"):
        read_ids(column, FILE)


@pytest.mark.parametrize("bad", ["1.23457E+11", "9e+20", "a\x00b", "caf\ufffd"])
def test_an_id_that_was_rounded_or_garbled_is_named_with_its_line(tmp_path, bad):
    path = tmp_path / "events.csv"
    path.write_text(f"user,item\nu,1\nv,2\n{bad},3\n")
    with pytest.raises(DataError, match=r"events.csv:4: the id '.*' in column 'user'"):
        check_ids("user", ["u", "v", bad], find_row_files([path]))


def test_ids_that_only_look_odd_are_kept(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user\nu\n")
    check_ids("user", ["100.1", "5E", "2e5", "-7", "a b", "é"], find_row_files([path]))
