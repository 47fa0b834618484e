"""CSV files mean what Python's csv module reads in them, or are refused with the line."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palate.data import csv_files
from palate.data.csv_files import CsvOptions, csv_rows, find_dialect, read_csv
from palate.data.skipped_rows import SkippedRows
from palate.errors import DataError

HEADER = b"user,item,note\n"
COLUMNS = ["user", "item", "note"]
PLAIN = CsvOptions()


def rows_of(path, wanted=COLUMNS, options=PLAIN, skip=False):
    """What palate reads: the rows, and how many were left out."""
    skipped = SkippedRows(skip)
    dialect = find_dialect(path, options)
    found = [row for batch in read_csv(path, dialect, wanted, skipped) for row in batch.rows()]
    return found, skipped.count


def csv_module_rows(content, delimiter=","):
    """The same by Python's csv module: blank lines are no rows, empty fields are none."""
    text = content.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    return [tuple(field or None for field in row) for row in rows if row][1:]


@pytest.fixture
def file(tmp_path):
    def write(content, name="events.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "events.csv"


FIELDS = st.text(alphabet='a7é", \n\r', max_size=6)
MARKS = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "7", " ", "é", "\0"]), max_size=60)


@settings(max_examples=400, deadline=None)
@example('1,2,7" single\n3,4,7" single\n')
@example('1,2,"x"y\n3,4,"x""y"\n')
@example('1,2,"open\n3,4,lp\n5,6,"open\n')
@example('1,2,"never closed\n3,4,5\n')
@example('1,2,"a\nb"\n')
@example("1,2\n3,4,5,6\n")
@example("1,2,3\n\n\n4,5,6")
@given(MARKS.map("".join))
def test_any_text_is_read_as_the_csv_module_reads_it_or_refused_with_a_line(scratch, text):
    content = HEADER + text.encode()
    scratch.write_bytes(content)
    expected = csv_module_rows(content)
    try:
        found = [rows_of(scratch, wanted)[0] for wanted in (COLUMNS, ["item"])]
    except DataError as error:
        assert error.line is not None  # noqa: PT017 - what is refused differs from example to example
        assert any(len(row) != 3 for row in expected) or '"' in text
    else:
        assert found == [expected, [(item,) for _, item, _ in expected]]
        assert len(list(csv_rows(scratch, find_dialect(scratch, PLAIN), SkippedRows(False)))) == len(expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_the_csv_module_writes_is_read_back_at_every_block_boundary(scratch, rows, end):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("user", "item", "note"), *rows])
    scratch.write_bytes(text.getvalue().encode())
    for block in (1 << 20, 97):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_files, "_BLOCK", block)
            assert rows_of(scratch)[0] == [tuple(field or None for field in row) for row in rows]
