"""Tables fit a terminal of any width, with readable names."""

import io

import pytest
from rich.console import Console

from palate.report.fitted import Bars, Column, fitted_table

NAMES = ["Action", "Slice of Life", "日本語", "[Live]"]


def drawn(width, names=NAMES):
    table = fitted_table(
        "Kinds",
        Column("genre", names),
        [
            Column("items", ["1,000"] * 4, needed=False),
            Column("interactions", ["100,000", "1", "2", "3"]),
            Bars([0.5, 0.25, 0.0, 0.1]),
            Column("share", ["50.0%"] * 4, needed=False),
            Column("liked\nby", ["7"] * 4),
        ],
        width,
    )
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 50, 60, 80, 100, 120])
def test_names_and_numbers_are_whole_at_every_width(width):
    shown = drawn(width)
    assert all(name in shown for name in [*NAMES, "100,000"])
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width


def test_bars_are_drawn_where_there_is_room_and_as_long_as_they_are_large():
    lines = drawn(120).splitlines()
    action, life = (next(line for line in lines if name in line) for name in NAMES[:2])
    assert action.count("█") == 2 * life.count("█") == 24
    assert "█" not in drawn(50)


def test_what_is_less_needed_gives_way_from_the_right():
    assert "share" in drawn(60)
    assert "items" in drawn(50)
    assert "share" not in drawn(50)
    assert "items" not in drawn(38)
    assert "interactions" in drawn(38)


def test_a_long_name_goes_on_in_the_next_line():
    shown = drawn(60, ["a name of very many letters that nobody would give to anything", *NAMES[1:]])
    assert "…" not in shown
    assert "anything" in shown
