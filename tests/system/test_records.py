"""JSON records: validated, or refused with the field, the fault and a remedy."""

import re

import pytest

from palate.errors import DataError
from palate.system.records import Frozen, parse_record, read_record


class Shelf(Frozen):
    name: str
    books: int = 0


def refused(path, content, message):
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        read_record(Shelf, path, "no shelf here", "build it again")


def test_a_record_is_read_from_its_file(tmp_path):
    path = tmp_path / "shelf.json"
    path.write_text('{"name": "poems", "books": 3}')
    assert read_record(Shelf, path, "no shelf here", "build it again") == Shelf(name="poems", books=3)


def test_any_type_that_pydantic_knows_is_a_record(tmp_path):
    path = tmp_path / "counts.json"
    path.write_text('{"poems": 3}')
    assert read_record(dict[str, int], path, "none here", "count again") == {"poems": 3}


def test_a_missing_file_is_said_in_the_callers_words(tmp_path):
    with pytest.raises(DataError, match="no shelf here"):
        read_record(Shelf, tmp_path / "shelf.json", "no shelf here", "build it again")


def test_a_misspelled_field_and_a_wrong_value_are_named(tmp_path):
    path = tmp_path / "shelf.json"
    refused(path, '{"name": "poems", "bokks": 3}', "bokks: unknown field; leave it out; build it again")
    refused(path, '{"books": 3}', "name: is missing; build it again")


def test_a_line_of_many_is_named_by_its_number(tmp_path):
    path = tmp_path / "shelves.jsonl"
    with pytest.raises(DataError, match=re.escape(f"{path}:7: name: is missing")):
        parse_record(Shelf, "{}", path, "build it again", line=7)


def test_a_record_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Shelf(name="poems").books = 4
