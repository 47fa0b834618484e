"""Event fields: valid ids, ratings, times and texts, and errors for all others."""

from datetime import date, datetime, timedelta, timezone

import polars as pl
import pytest

from palate.data.event_fields import FieldError, read_fields, read_rating, read_timestamp
from palate.data.json_text import filled_lines, read_json
from palate.data.tabular.times import find_times

NOON = 1_717_156_800  # 2024-05-31T12:00:00Z


@pytest.mark.parametrize(
    "written",
    [
        NOON, float(NOON), NOON + 0.75, str(NOON), f" {NOON} ", NOON * 1000 + 999, NOON * 10**6, NOON * 10**9 + 1,
        "1717156800.5",
        "2024-05-31T12:00:00Z", "2024-05-31T12:00:00.999Z", "2024-05-31 12:00", "2024-05-31T14:00:00+02:00",
        "2024-05-31 06:30:00-0530", "2024-05-31T14:00+02", "2024/05/31 12:00:00", "2024-05-31 12:00:00 UTC",
        datetime(2024, 5, 31, 12), datetime(2024, 5, 31, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
)  # fmt: skip
def test_a_time_is_read_in_whole_seconds_however_it_is_written(written):
    assert read_timestamp(written) == NOON


def test_a_day_begins_at_midnight():
    assert read_timestamp("2024-05-31") == read_timestamp(date(2024, 5, 31)) == NOON - 12 * 3600


@pytest.mark.parametrize(
    "written",
    ["2024-05-31T12:00:00Z", "2024-05-31 12:00", "2024-05-31", "2024-05-31T14:00:00+02:00", "2024/05/31 12:00:00",
     "2024-05-31T12:00:00.25", str(NOON), str(NOON * 1000), str(NOON * 10**6), str(NOON * 10**9)],
)  # fmt: skip
def test_event_files_are_read_the_same(written):
    column = pl.Series("when", [written])
    times = find_times("when", column)
    [ticks] = column.to_frame().select(times.ticks.alias("ticks"))["ticks"]
    assert ticks // times.per_second == read_timestamp(written)


@pytest.mark.parametrize(
    "written",
    [True, -1, 1e30, float("nan"), "soon", "2024-02-30", "2024-05-31T25:00", "1969-12-31", "2024-05-31T12:00+99:00",
     [], "", "2024-05/31", datetime(1960, 1, 1)],
)  # fmt: skip
def test_what_is_no_time_is_shown(written):
    with pytest.raises(
        FieldError, match=r"^timestamp is .*, expected a time since 1970: a number of seconds, or an ISO"
    ):
        read_timestamp(written)


@pytest.mark.parametrize(
    ("written", "rating"), [(4, 4.0), ("4", 4.0), (" 3.5 ", 3.5), ("4e0", 4.0), ("+.5", 0.5), (-0.0, 0.0)]
)
def test_a_rating_is_a_number(written, rating):
    assert repr(read_rating(written)) == repr(rating)


@pytest.mark.parametrize("written", [None, True, "up", "1_0", "４", "nan", float("inf"), 10**400, "4,5", [4]])
def test_what_is_no_rating_is_shown(written):
    with pytest.raises(FieldError, match=r"^rating is .{1,80}, expected a number$"):
        read_rating(written)


def test_fields_are_read_each_by_its_rule_and_nulls_are_missing():
    sent = {
        "item_id": 7,
        "title": " Up ",
        "categories": "A| B |A",
        "description": None,
        "rating": "4",
        "timestamp": None,
    }
    assert read_fields(sent) == {"item_id": "7", "title": "Up", "categories": ("A", "B"), "rating": 4.0}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (3, "found 3, expected an object with item_id or title, and rating"),
        ({"rateing": 4}, "unknown field 'rateing'; did you mean 'rating'?"),
        ({"item_id": "a\0b"}, r"item_id is 'a\x00b', expected text without control characters"),
        ({"item_id": 1.0}, "item_id is 1.0, expected text or a whole number"),
        ({"title": "\ud800"}, r"title is '\ud800', expected text"),
        ({"categories": ["A", 1]}, "categories is ['A', 1], expected names like 'Action|Comedy' or a list"),
    ],
)
def test_what_is_wrong_with_a_field_is_said(sent, said):
    with pytest.raises(FieldError) as caught:
        read_fields(sent)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "Expecting property name enclosed in double quotes"),
        (b'{"a": 1, "b": {"a": 1, "c": 2, "a": 1}}', "the key 'a' occurs twice in one object"),
        (b'"\xff"', "expected UTF-8 text"),
        ("[1]".encode("utf-16"), "expected UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "a number has too many digits"),
    ],
)
def test_json_of_which_something_would_be_lost_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read_json(text)


def test_a_byte_order_mark_is_no_part_of_json():
    assert read_json(b'\xef\xbb\xbf{"a": [1]}') == read_json('\ufeff{"a": [1]}') == {"a": [1]}


def test_lines_are_counted_with_the_blank_ones():
    assert list(filled_lines(b"1\r\n\n \r2\x0b\n")) == [(1, b"1"), (4, b"2\x0b")]
