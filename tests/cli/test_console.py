"""Console output works on any terminal and pipe, even one that is closed early."""

import json
import os
import subprocess
import sys

import pytest

from bookshop import books, ratings, write_rows
from palate.cli import console
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.report.sheet import Sheet
from palate.words import printable

ODD = ["Crime", "日本語", "Opéra 😀", "[Live] — “quoted”"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset without times, whose categories are names of many kinds."""
    place = tmp_path_factory.mktemp("odd")
    shop = [{**book, "subjects": [ODD[n % 4], ODD[(n + 1) % 4]]} for n, book in enumerate(books())]
    events = [{key: value for key, value in row.items() if key != "rated_at"} for row in ratings(books())]
    own = OwnData(items=str(write_rows(shop, place / "books.jsonl")), user="reader")
    prepare(write_rows(events, place / "ratings.csv"), place / "data", own=own)
    return place / "data"


def palate(*arguments, encoding="utf-8", code=None):
    command = [sys.executable, *(["-m", "palate"] if code is None else ["-c", code]), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_inspect_prints_in_every_encoding(data, encoding):
    status, shown, said = palate("inspect", data, encoding=encoding)
    assert (status, said) == (0, "")
    for name in ODD:
        plain = name.replace("—", "-").replace("“", '"').replace("”", '"')
        expected = {
            "utf-8": name,
            "cp1252": name.encode("cp1252", "backslashreplace").decode("cp1252"),
            "ascii": plain.encode("ascii", "backslashreplace").decode(),
        }[encoding]
        assert expected in shown
    assert ("█" if encoding == "utf-8" else "##") in shown
    assert "1970" not in shown
    assert "without timestamps, in the order of the files" in shown


def test_errors_are_printed_in_every_encoding():
    status, _, said = palate("inspect", "日本", encoding="ascii")
    assert status == 2
    assert said.startswith("palate: \\u65e5\\u672c")


_JSON = """
from palate.cli.console import print_whatever_can_be_printed, show, show_json
print_whatever_can_be_printed()
show_json({"text": "Opéra 😀"})
show("日本")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_stays_json_in_every_encoding(encoding):
    _, shown, _ = palate(encoding=encoding, code=_JSON)
    text, _, last = shown.rstrip("\n").rpartition("\n")
    assert json.loads(text) == {"text": "Opéra 😀"}
    assert last == ("日本" if encoding == "utf-8" else "\\u65e5\\u672c")


def test_a_reader_that_stops_reading_ends_it_quietly(data):
    command = [sys.executable, "-m", "palate", "inspect", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


NAMES = ["[/red]", "[bold]x", "\x1b[2J\x1b]0;title\x07", "a\x9b31mb", "\u202egnp.exe", "Café", "trailing\\"]
SHOWN = [
    "[/red]",
    "[bold]x",
    r"\x1b[2J\x1b]0;title\x07",
    r"a\x9b31mb",
    r"\u202egnp.exe",
    "Café",
    "trailing\\",
]


def test_names_are_shown_as_they_are_and_a_terminal_obeys_none(capsys):
    console.show_table(Sheet("[red]t", ["[name]", "n"], [[name, "1"] for name in NAMES], note="[note]"))
    printed = capsys.readouterr().out
    for shown in ("[red]t", "[name]", "[note]", "[/red]", "[bold]x", r"\x1b[2J", "Café"):
        assert shown in printed
    assert printed == printable(printed)
    for name in NAMES:
        console.show(name)
        console.tell(name)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == printed.err.splitlines() == SHOWN


def test_json_of_names_that_a_terminal_would_obey_is_escaped_and_the_same(capsys):
    console.show_json({"names": NAMES})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"names": NAMES}
    assert printed == printable(printed)
