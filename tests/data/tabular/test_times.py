"""Event times: every notation of an instant gives the same time, and other values are refused with a reason."""

from datetime import date, datetime, timezone

import polars as pl
import pytest

from palate.data.tabular.times import find_times
from palate.errors import DataError


def seconds(values):
    column = pl.Series("time", values)
    times = find_times("time", column)
    ticks = times.read(column)
    assert ticks.to_list() == column.to_frame().select(times.ticks).to_series().to_list()
    return [None if tick is None else tick // times.per_second for tick in ticks], times


NOON = 1_588_334_400  # 2020-05-01T12:00:00Z


@pytest.mark.parametrize(
    "text",
    [
        "2020-05-01T12:00:00Z",
        "2020-05-01t12:00:00z",
        "2020-05-01 12:00:00 UTC",
        "2020-05-01 12:00:00 GMT",
        "2020-05-01 12:00:00.000000 UTC",  # BigQuery
        "2020-05-01 12:00:00+00",  # PostgreSQL
        "2020-05-01 12:00:00.123456+00",
        "2020-05-01 12:00:00+00:00",  # pandas
        "2020-05-01 12:00:00.000000000",
        "2020-05-01 14:00:00 +0200",
        "2020-05-01T07:00:00-0500",
        "2020-05-01T12:00Z",
        "2020-05-01 12:00",
        "2020/05/01 12:00:00",
        " 2020-05-01 12:00:00 ",
    ],
)
def test_every_spelling_of_an_instant_gives_it(text):
    assert seconds([text])[0] == [NOON]


@pytest.mark.parametrize(
    "values",
    [[date(2020, 5, 1)], ["2020-05-01"], ["2020/05/01"], ["20200501"], [20200501]],
)
def test_dates_are_their_midnight(values):
    assert seconds(values)[0] == [1_588_291_200]


@pytest.mark.parametrize(
    "dtype",
    [pl.Int64, pl.UInt64, pl.Float64, pl.String, pl.Categorical, pl.Decimal(20, 2), pl.Enum([str(NOON)])],
)
def test_numbers_of_every_type_are_seconds(dtype):
    text = pl.Series([str(NOON), None])
    assert seconds(text.cast(pl.Int64).cast(dtype) if dtype.is_numeric() else text.cast(dtype))[0] == [
        NOON,
        None,
    ]


def test_columns_of_times_with_a_zone_are_instants():
    assert seconds([datetime(2020, 5, 1, 12, tzinfo=timezone.utc)])[0] == [NOON]


@pytest.mark.parametrize("zone", ["PST", "EST", "CET", "Europe/Berlin", "[Europe/Berlin]"])
def test_a_zone_in_letters_is_refused_with_what_to_write(zone):
    with pytest.raises(DataError, match="must be UTC or an offset like"):
        find_times("time", pl.Series("time", [f"2020-05-01 12:00:00 {zone}"]))
    found, times = seconds(["2020-05-01 12:00:00 UTC", f"2020-05-01 12:00:00 {zone}"])
    assert found == [NOON, None]
    assert "has the zone" in times.complaint(f"2020-05-01 12:00:00 {zone}")


@pytest.mark.parametrize("odd", ["01/05/2020", "yesterday", "Fri May 01 12:00:00 2020"])
def test_what_is_no_iso_date_is_refused(odd):
    with pytest.raises(DataError, match="expected numbers since 1970 or ISO dates"):
        find_times("time", pl.Series("time", [odd]))


@pytest.mark.parametrize(
    ("unit", "odd", "said"),
    [(1, NOON * 1000, "milliseconds"), (1000, NOON, "seconds"), (10**6, NOON * 1000, "milliseconds")],
)
@pytest.mark.parametrize("kind", [int, str, float])
def test_a_time_in_another_unit_than_most_is_none(unit, odd, said, kind):
    found, times = seconds([kind(NOON * unit), kind(NOON * unit), kind(odd), kind(0)])
    assert found == [NOON, NOON, None, 0]
    assert f"is in {said}, but most of the column are" in times.complaint(odd)


@pytest.mark.parametrize("dtype", [pl.Boolean, pl.Duration("us"), pl.List(pl.Int64)])
def test_types_that_hold_no_times_are_refused(dtype):
    with pytest.raises(DataError, match="expected numbers or ISO dates"):
        find_times("time", pl.Series("time", [None, None], dtype=dtype).extend_constant(None, 1))
