"""Rating files: round trips, and errors that name the line."""

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.movielens.layouts import CSV, ML_1M, ML_10M, ML_100K, RECBOLE_100K
from palate.data.movielens.rating_files import read_ratings
from palate.errors import DataError

LAYOUTS = {layout.name: layout.ratings for layout in (ML_100K, RECBOLE_100K, ML_1M, ML_10M, CSV)}
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
ids = st.integers(0, 2**32 - 1)
rows = st.tuples(ids, ids, st.integers(0, 9), st.integers(-(10**12), 10**12))


def text_of(layout, table):
    """The file that the layout would write."""
    header = [] if layout.header is None else [layout.separator.join(layout.header)]
    lines = [layout.separator.join((str(u), str(i), f"{layout.scale[r]:g}", str(t))) for u, i, r, t in table]
    return "\n".join([*header, *lines]) + "\n"


def write(tmp_path, layout, rating_line):
    """Three lines of ratings, the second as given; returns the path and the number of that line."""
    first_line, last_line = (layout.separator.join(("7", "8", "3", "9")) for _ in range(2))
    header = [] if layout.header is None else [layout.separator.join(layout.header)]
    path = tmp_path / "ratings"
    path.write_bytes(b"\n".join([line.encode() for line in (*header, first_line)] + [rating_line, b""]))
    with path.open("ab") as file:
        file.write(last_line.encode() + b"\n")
    return path, len(header) + 2


@by_layout
@given(table=st.lists(rows, min_size=1, max_size=30))
def test_every_file_comes_back_as_it_was_written(tmp_path_factory, layout, table):
    table = [(u, i, r % len(layout.scale), t) for u, i, r, t in table]
    path = tmp_path_factory.mktemp("ratings") / "ratings"
    path.write_text(text_of(layout, table))
    found = read_ratings(path, layout)
    assert found.rows() == table
    assert found.dtypes == [pl.UInt32, pl.UInt32, pl.UInt8, pl.Int64]


@by_layout
@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (("x", "8", "3", "9"), "the user id 'x' is not a whole number"),
        (("7", "", "3", "9"), "the movie id '' is not a whole number"),
        (("-7", "8", "3", "9"), "the user id '-7' is not a whole number"),
        (
            ("7", "4294967296", "3", "9"),
            "the movie id '4294967296' is not a whole number from 0 to 4294967295",
        ),
        (("7", "8", "good", "9"), "the rating 'good' is not a number"),
        (("7", "8", "nan", "9"), "the rating 'nan' is not a number"),
        (("7", "8", "inf", "9"), "the rating 'inf' is not a number"),
        (("7", "8", "", "9"), "the rating '' is not a number"),
        (("7", "8", "6", "9"), "the rating 6 is not on the scale"),
        (("7", "8", "0", "9"), "the rating 0 is not on the scale"),
        (("7", "8", "3.7", "9"), "the rating 3.7 is not on the scale"),
        (("7", "8", "3", "9.5"), "the time '9.5' is not a whole number of seconds"),
        (("7", "8", "3", "now"), "the time 'now' is not a whole number of seconds"),
        (("7", "8", "3"), "found 3 fields, expected 4 separated by"),
        (("7", "8", "3", "9", "9"), "found 5 fields, expected 4 separated by"),
    ],
)
def test_a_bad_line_is_named(tmp_path, layout, fields, complaint):
    path, line = write(tmp_path, layout, layout.separator.join(fields).encode())
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: {complaint}")):
        read_ratings(path, layout)


@by_layout
def test_bytes_that_are_no_text_are_named(tmp_path, layout):
    path, line = write(tmp_path, layout, layout.separator.join(("7", "8", "3", "9")).encode() + b"\xff")
    with pytest.raises(
        DataError, match=re.escape(f"{path}:{line}: the line contains bytes that are not UTF-8")
    ):
        read_ratings(path, layout)


@by_layout
def test_a_wrong_separator_is_named(tmp_path, layout):
    path = tmp_path / "ratings"
    path.write_text(text_of(layout, [(1, 2, 3, 4)]).replace(layout.separator, ";"))
    with pytest.raises(
        DataError, match=r":1: (found 1 fields, expected 4 separated by|no column .* in the header)"
    ):
        read_ratings(path, layout)


def test_one_colon_is_not_two(tmp_path):
    path = tmp_path / "ratings"
    path.write_text("1::2::3::4\n1:5:2::3::4\n")
    with pytest.raises(DataError, match=r":2: found 3 fields, expected 4 separated by '::'"):
        read_ratings(path, ML_1M.ratings)


@by_layout
@given(
    table=st.lists(rows, min_size=1, max_size=8),
    junk=st.sampled_from([b"x", b"\xff", b"::", b",", b"\t", b'"', b".", b"-", b"e9", b"\x00"]),
    data=st.data(),
)
def test_a_damaged_file_never_comes_back_changed(tmp_path_factory, layout, table, junk, data):
    """Junk anywhere in a file is either an error in that very line, or does not change what the line says."""
    table = [(u, i, r % len(layout.scale), t) for u, i, r, t in table]
    path = tmp_path_factory.mktemp("ratings") / "ratings"
    text = text_of(layout, table).encode()
    first = 0 if layout.header is None else text.index(b"\n") + 1
    place = data.draw(st.integers(first, len(text) - 1))
    path.write_bytes(text[:place] + junk + text[place:])
    line = text.count(b"\n", 0, place)
    try:
        found = read_ratings(path, layout).rows()
    except DataError as error:
        named = error.line
    else:
        named = None
        changed = line if layout.header is None else line - 1
        user, movie, rating, time = found.pop(changed)
        table.pop(changed)
        fields = path.read_bytes().splitlines()[line].decode().split(layout.separator)
        assert [float(field) for field in fields] == [user, movie, layout.scale[rating], time]
        assert found == table
    assert named in (None, line + 1)


def test_extra_columns_are_passed_over(tmp_path):
    path = tmp_path / "ratings"
    path.write_text("rating,userId,comment,movieId,timestamp\n3.5,1,fine,2,9\n")
    assert read_ratings(path, CSV.ratings).rows() == [(1, 2, 6, 9)]


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "ratings"
    path.write_text("userId,movieId,rating\n1,2,3\n")
    with pytest.raises(DataError, match=r":1: no column 'timestamp' in the header 'userId,movieId,rating'"):
        read_ratings(path, CSV.ratings)
