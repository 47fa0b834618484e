"""History files in CSV, JSON and JSON lines, and errors that name the line and field."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.history_file import read_history
from palate.errors import DataError
from palate.schema import Item

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": st.integers(0, 10**6).map(str),
            "rating": st.sampled_from([0.5, 1.0, 3.5, 5.0]),
            "timestamp": st.integers(0, 2**31),
        }
    ),
    min_size=1,
    max_size=20,
)


def as_csv(events):
    file = io.StringIO()
    writer = csv.DictWriter(file, list(events[0]))
    writer.writeheader()
    writer.writerows(events)
    return file.getvalue()


WRITERS = {
    "list.json": json.dumps,
    "object.json": lambda events: json.dumps({"events": events}),
    "lines.jsonl": lambda events: "\n".join(map(json.dumps, events)) + "\n\n",
    "table.csv": as_csv,
}


@pytest.fixture
def read(tmp_path):
    def written(text: str, name: str = "h.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_history(tmp_path / name)

    return written


@given(events=EVENTS)
def test_every_format_reads_the_same(tmp_path_factory, events):
    folder = tmp_path_factory.mktemp("histories")
    expected = sorted(events, key=lambda event: event["timestamp"])  # stable: ties keep the file's order
    for name, write in WRITERS.items():
        (folder / name).write_text(write(events), encoding="utf-8")
        history, new_items = read_history(folder / name)
        assert history.user_id == name.split(".")[0]
        assert list(history.item_ids) == [event["item_id"] for event in expected]
        assert list(history.ratings) == [event["rating"] for event in expected]
        assert list(history.timestamps) == [event["timestamp"] for event in expected]
        assert new_items == []


@given(
    start=st.sampled_from(["", "item_id,rating\n", '[{"item_id":', '{"rating": 1,']),
    text=st.text(max_size=60),
)
@pytest.mark.parametrize("name", ["h.json", "h.jsonl", "h.csv"])
def test_any_text_is_a_history_or_a_data_error(tmp_path_factory, name, start, text):
    path = tmp_path_factory.mktemp("histories") / name
    path.write_bytes((start + text).encode("utf-8"))
    try:
        history, _ = read_history(path)
    except DataError as error:
        message = str(error)
    else:
        message = str(path) if len(history) else "an empty history"
    assert message.startswith(str(path))


def test_without_timestamps_the_files_order_is_the_order(read):
    history, _ = read('[{"item_id": "9", "rating": 4}, {"item_id": 3, "rating": 2}]')
    assert list(history.item_ids) == ["9", "3"]
    assert list(history.timestamps) == [0, 1]


def test_new_items_bring_their_texts(read):
    text = """[
        {"title": "Alien (1979)", "categories": ["Horror", "Sci-Fi"], "description": "A crew.", "rating": 5},
        {"item_id": "x1", "title": "Nobody", "categories": "Drama|Comedy", "rating": 2},
        {"title": "Alien (1979)", "categories": ["Horror", "Sci-Fi"], "description": "A crew.", "rating": 4}
    ]"""
    history, items = read(text)
    assert items == [
        Item("new: Alien (1979)", "Alien", ("Horror", "Sci-Fi"), "A crew.", 1979),
        Item("x1", "Nobody", ("Drama", "Comedy")),
    ]
    assert list(history.item_ids) == ["new: Alien (1979)", "x1", "new: Alien (1979)"]


def test_empty_fields_of_a_table_are_missing_ones(read):
    history, items = read("item_id,title,rating\n7,,3\n,Up,4.5\n", "h.csv")
    assert list(history.item_ids) == ["7", "new: Up"]
    assert items == [Item("new: Up", "Up")]


def test_a_quoted_field_may_hold_line_ends(read):
    _, items = read('title,description,rating\nUp,"one\ntwo",4\n', "h.csv")
    assert items[0].description == "one\ntwo"


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "h.csv").write_bytes(b"\xef\xbb\xbfitem_id,rating\n1,2\n")
    assert list(read_history(tmp_path / "h.csv")[0].item_ids) == ["1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.txt", "", "h.txt: expected a file that ends in .json, .jsonl, .csv"),
        ("h.json", "[]", "h.json: no interactions; expected at least one"),
        ("h.csv", "", "h.csv: no interactions; expected at least one"),
        ("h.json", "{", "h.json:1: not valid JSON: Expecting property name enclosed in double quotes"),
        ("h.json", '{"event": []}', 'h.json: expected a list of interactions, or {"events": […]}'),
        (
            "h.json",
            "[3]",
            "h.json: interaction 1: found 3, expected an object with item_id or title, and rating",
        ),
        (
            "h.jsonl",
            '{"item_id": "1", "rating": 1}\n\n{"rating"}',
            "h.jsonl:3: not valid JSON: Expecting ':' delimiter",
        ),
        (
            "h.jsonl",
            '{"item_id": "1", "rating": 1}\n{"item_id": "1", "rateing": 1}',
            "h.jsonl:2: unknown field 'rateing'; did you mean 'rating'?",
        ),
        ("h.csv", "item_id,rating\n1,2\n3\n", "h.csv:3: expected 2 fields, as in the first line"),
        ("h.csv", "item_id,rating\n1,2,3\n", "h.csv:2: expected 2 fields, as in the first line"),
        ("h.csv", "item_id,rating\n1,good\n", "h.csv:2: rating is 'good', expected a number"),
        (
            "h.csv",
            "item_id,rating\n1,\n",
            "h.csv:2: rating is missing, expected a number",
        ),
        (
            "h.json",
            '[{"item_id": "1", "rating": NaN}]',
            "h.json: interaction 1: rating is nan, expected a number",
        ),
        (
            "h.json",
            '[{"item_id": "1", "rating": true}]',
            "h.json: interaction 1: rating is True, expected a number",
        ),
        (
            "h.json",
            '[{"rating": 1}]',
            "h.json: interaction 1: neither item_id nor title; expected one of them",
        ),
        (
            "h.json",
            '[{"item_id": " ", "rating": 1}]',
            "h.json: interaction 1: item_id is ' ', expected text or a whole number",
        ),
        (
            "h.json",
            '[{"item_id": "1", "description": "x", "rating": 1}]',
            "h.json: interaction 1: categories or description without a title; a new item needs one",
        ),
        (
            "h.json",
            '[{"title": "x", "categories": [1], "rating": 1}]',
            "h.json: interaction 1: categories is [1], expected names like 'Action|Comedy' or a list",
        ),
        (
            "h.csv",
            "item_id,rating,timestamp\n1,1,5\n2,2,\n",
            "h.csv:3: no timestamp, but other events have one; give one to all events or to none",
        ),
        (
            "h.csv",
            "item_id,rating,timestamp\n1,1,yesterday\n",
            "h.csv:2: timestamp is 'yesterday', expected a time since 1970: a number of seconds, or "
            "an ISO date like 2024-05-31T23:59:00Z",
        ),
        (
            "h.csv",
            "item_id,title,rating\n1,Up,1\n1,Down,1\n",
            "h.csv:3: item '1' occurs earlier with other texts; give it another id",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(read, tmp_path, name, text, message):
    with pytest.raises(DataError) as caught:
        read(text, name)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"h\.csv: no such file"):
        read_history(tmp_path / "h.csv")


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "h.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="expected UTF-8"):
        read_history(tmp_path / "h.csv")
