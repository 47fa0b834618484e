"""A history from a file, a request or NDJSON: parsed the same, or refused with the same message."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from palate.cli.app import app
from palate.data.history_file import read_history
from palate.data.json_text import read_json
from palate.errors import ConflictError, DataError
from palate.serve.problems import faults_of
from palate.serve.schemas import SentQuestion, given_history

LINES = {"content-type": "application/x-ndjson"}
GOOD = {
    "item_id": ['"1"', "2", '" 3 "', '"60"'],
    "rating": ["4", "4.0", '"3"', "1e0", '" 2 "', "5"],
    "timestamp": ["893286638", "893286638123", "893286638.75", '"893286638"', '"1998-04-22T15:10:38Z"', "0",
                  '"2024-05-31"', '"2024-05-31 23:59+02:00"', '"2024/05/31 23:59:10.5"', "1717199940000000",
                  "1717199940000000000"],
}  # fmt: skip
ODD = {
    "item_id": ["null", '""', '" "', "1.5", "true", "[1]", "{}", "NaN", "9223372036854775809", '"\\u0000"',
                '"\\ud800"',
                '"a\\tb"', '"none of ours"', "-0"],
    "rating": ["null", "NaN", "Infinity", "-Infinity", "-0", "-0.0", "1" + "0" * 400, "true", '"up"', '"1_0"', '"４"',
               '""',
               '"4,5"', "[4]", "1e999", "0.3", "17", '"nan"', '"+4"'],
    "timestamp": ["null", "true", "-1", "NaN", '"yesterday"', '"2024-02-30"', '"1969-12-31"', '"2024-05-31T25:00"',
                  "1e30",
                  '"2024-05-31T23:59:00+99:00"', "[]", '""', "12345678901234567890123"],
    "rateing": ["4"],
    "\\ud800": ["1"],
    "event": ["{}"],
}  # fmt: skip
NEW = {
    "title": ['"Alien (1979)"', '" Up "', '"1984"'],
    "categories": ['["Horror", "Sci-Fi", "Horror"]', '"Action|Comedy"', "[]", "null"],
    "description": ['"A crew."', "null"],
}
ODD_NEW = {
    "title": ["1984", '""', '" "', "null", '"\\udfff"'],
    "categories": ["[1]", '[""]', "7", '"|"', "{}", '[["a"]]'],
    "description": ['""', "3", "[]"],
}
FORMS = [
    "{%s,}",
    "{%s",
    "[%s]",
    "{%s} {}",
    "3",
    '"x"',
    "{%s, %s}",
    "\x00",
    "[" * 5000,
    '{"item_id": %s' % ("[" * 99_999),
]
"""Of an object's text, what a line of it may become; the same fields twice among them."""


@st.composite
def fields(draw, some=GOOD):
    return {name: draw(st.sampled_from(values)) for name, values in some.items()}


@st.composite
def histories(draw, new=True):
    """Texts of events, of which at most one is odd."""
    events = draw(st.lists(fields(), min_size=1, max_size=4))
    if draw(st.booleans()):
        for event in events:
            del event["timestamp"]
    if new and draw(st.booleans()):
        event = draw(st.sampled_from(events))
        event |= draw(fields(NEW))
        if draw(st.booleans()):
            del event["item_id"]
    odd = {**ODD, **(ODD_NEW if new else {})}
    event = draw(st.sampled_from(events))
    oddness = draw(st.sampled_from(["none", "field", "gap", "form"]))
    if oddness == "field":
        name = draw(st.sampled_from(sorted(odd)))
        event[name] = draw(st.sampled_from(odd[name]))
    elif oddness == "gap":
        event.pop(draw(st.sampled_from(["item_id", "rating", "timestamp"])), None)
    texts = [", ".join(f'"{name}": {value}' for name, value in event.items()) for event in events]
    written = [f"{{{text}}}" for text in texts]
    if oddness == "form":
        at = draw(st.integers(0, len(texts) - 1))
        written[at] = draw(st.sampled_from(FORMS)).replace("%s", texts[at])
    return written


def of_a_file(path, data):
    """What a file says: the history and its new items, or the event at fault, from 0, and what is wrong with it."""
    path.write_bytes(data)
    try:
        history, items = read_history(path)
    except DataError as error:
        said = str(error).removeprefix(str(path))
        number, words = re.fullmatch(r"(?::\d+)?: (?:interaction (\d+): )?(.*)", said).groups()
        return (None if number is None else int(number) - 1), words
    return history, items


def of_a_request(data):
    """The same of a question's history."""
    try:
        sent = SentQuestion.model_validate({"history": read_json(data)})
        history, items = given_history(sent.history, None)
    except json.JSONDecodeError as error:
        return None, f"not valid JSON: {error.msg}"
    except ValidationError as error:
        said = faults_of(error.errors())
    except (DataError, ConflictError) as error:
        said = str(error)
    else:
        return history, items
    number, words = re.fullmatch(r"history(?:\.(\d+))?: (.*)", said).groups()
    return (None if number is None else int(number)), words


def last_of_each_item(history):
    """A stored history holds an item once, and so does one that is sent."""
    rows = zip(history.item_ids, history.ratings, history.timestamps, strict=True)
    kept = {row[0]: (at, row) for at, row in enumerate(rows)}
    return [row for _, row in sorted(kept.values())]


def same(found, sent):
    if isinstance(found[0], (int, type(None))):
        assert sent[0] == found[0]
        assert sent[1].startswith(found[1])  # a request is told of further faults
    else:
        assert last_of_each_item(sent[0]) == last_of_each_item(found[0])
        assert sent[1] == found[1]
        assert all(str(rating)[0] != "-" for rating in sent[0].ratings)


@given(events=histories(), mark=st.booleans(), newline=st.sampled_from(["\n", "\r\n", "\r", " "]))
def test_a_file_and_a_request_agree(tmp_path_factory, events, mark, newline):
    data = ("\ufeff" * mark + "[" + f",{newline}".join(events) + "]").encode("utf-8", "surrogatepass")
    same(of_a_file(tmp_path_factory.getbasetemp() / "h.json", data), of_a_request(data))


@pytest.mark.parametrize(
    "data",
    [
        b'[{"item_id": "\xff", "rating": 4}]',
        '[{"item_id": "1", "rating": 4}]'.encode("utf-16"),
        '[{"item_id": "1", "rating": 4}]'.encode("utf-32"),
        b'[{"item_id": "1", "rating": ' + b"9" * 5000 + b"}]",
        b"[" * 100_000,
        b'{"item_id": "1"',
        b'[{"item_id": "1", "rating": 4},]',
        b'[{"item_id": "1", "rating": 4, "rating": 5}]',
    ],
)
def test_what_is_no_json_is_refused_in_the_same_words(tmp_path, data):
    found = of_a_file(tmp_path / "h.json", data)
    assert found == of_a_request(data)
    assert found[1].startswith("not valid JSON: ")


def on_lines(events, user, newline="\n"):
    """As NDJSON of a user, and as JSON lines without."""
    of_user = [re.sub(r"^\{", f'{{"user_id": "{user}", ', event) for event in events]
    return newline.join(of_user), newline.join(events)


def test_lines_of_a_file_and_of_a_request_agree(server, tmp_path):
    read = refused = 0

    @given(
        events=histories(new=False),
        mark=st.booleans(),
        newline=st.sampled_from(["\n", "\r\n", "\n\n", "\n \n", "\r"]),
    )
    def check(events, mark, newline):
        nonlocal read, refused
        user = f"u{read + refused}"
        path = tmp_path / "h.jsonl"
        sent, lines = (
            ("\ufeff" * mark + text).encode("utf-8", "surrogatepass")
            for text in on_lines(events, user, newline)
        )
        path.write_bytes(lines)
        answered = server.post("/events", content=sent, headers=LINES)
        assert answered.status_code in (200, 422), answered.text
        try:
            history, _ = read_history(path)
        except DataError as error:
            refused += 1
            said = str(error).removeprefix(str(path))
            if "no timestamp" in said or "neither item_id" in said:
                return  # lines may have a time each, and must have an item
            line, words = re.fullmatch(r":(\d+): (.*)", said).groups()
            detail = answered.json()["detail"]
            words = words.replace("item_id or title, and rating", "item_id and rating")
            words = re.sub("expected item_id, title.*", "", words)
            assert detail.startswith(f"line {line}: {words}"), (detail, said)
            return
        if answered.status_code == 422:
            detail = answered.json()["detail"]
            assert "not known" in detail or "not on the model's scale" in detail
            return
        read += 1
        kept = server.get(f"/users/{user}/history").json()["events"]
        found = last_of_each_item(history)
        assert [(one["item_id"], one["rating"]) for one in kept] == [row[:2] for row in found]
        if re.search('"timestamp": (?!null)', "".join(events)):
            assert [one["timestamp"] for one in kept] == [row[2] for row in found]

    check()
    assert read
    assert refused


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"item_id": "1", "rating": NaN}',
        b'{"item_id": "1", "rating": 4}\n{"item_id": "1", "rating": 4, "timestamp": "soon"}',
        b'{"item_id": "\xff"}',
        b'{"item_id": "1", "rating": 4}\r{"item_id": "2", "rating": 4,}',
    ],
)
def test_the_command_says_what_the_function_says(run, tmp_path, data):
    path = tmp_path / "h.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_history(path)
    done = CliRunner().invoke(app, ["generate", str(run), "--history", str(path)])
    assert (done.exit_code, done.stderr) == (2, f"palate: {caught.value}\n")
