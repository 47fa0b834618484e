"""Sequence files: a user and items on each line."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import TaskSettings
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.errors import DataError
from palate.tasks import load_task

SEQUENCES = OwnData(format="sequences")


def prepared(tmp_path, text, own=SEQUENCES, **settings):
    path = tmp_path / "sequences.txt"
    path.write_text(text)
    lines = []
    data = prepare(
        path, tmp_path / "data", own=own, dev_share=0.25, test_share=0.25, report=lines.append, **settings
    )
    return data, lines


def test_each_line_is_a_user_with_items_oldest_first(tmp_path):
    data, lines = prepared(tmp_path, "ann 30 10 20\nbob\t10  10\n\ncy 20\ndan 20 30\n")
    histories = {one.user_id: one for one in load_dataset(tmp_path / "data").histories(data.user_ids)}
    assert {user: one.item_ids for user, one in histories.items()} == {
        "ann": ["30", "10", "20"],
        "bob": ["10", "10"],  # a repeated purchase counts
        "cy": ["20"],
        "dan": ["20", "30"],
    }
    assert data.item_ids == ["30", "10", "20"]  # as they appear
    assert not data.info.has_times
    said = "\n".join(lines)
    assert (
        "the items have 0 categories in all: they can be ranked (palate rank), but questions about categories"
        in said
    )


def test_a_question_about_categories_says_what_is_missing(tmp_path):
    data, _ = prepared(tmp_path, "a 1 2\nb 1 2\nc 2 1\nd 1 2\n")
    with pytest.raises(
        DataError, match=r"has 0 categories in all, but the task needs at least 2; .* palate rank"
    ):
        load_task(TaskSettings(), data.info)


def test_items_may_come_from_a_file_and_have_categories(tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item_id,title,genres\n1,One,Crime\n2,Two,Travel\n")
    own = SEQUENCES.model_copy(update={"items": str(items)})
    data, _ = prepared(tmp_path, "a 1 2\nb 1 2\nc 2 1\nd 1 2\n", own, min_ratings=1)
    assert data.categories == ("Crime", "Travel")


def test_repeats_may_be_merged(tmp_path):
    data, _ = prepared(tmp_path, "a 1 2 1\nb 1\nc 2\nd 1 2\n", OwnData(format="sequences", repeats="merge"))
    assert data.histories(["a"])[0].item_ids == ["2", "1"]
    assert data.info.report["repeated_events"] == 1


def test_a_line_without_items_is_an_error_with_its_line_or_left_out(tmp_path):
    text = "a 1 2\nlonely\nb 1\nc 2 1\nd 1 2\n"
    with pytest.raises(
        DataError, match=r"sequences.txt:2: found 'lonely' alone, expected a user and at least one item"
    ):
        prepared(tmp_path, text)
    data, lines = prepared(tmp_path, text, OwnData(format="sequences", skip_bad_rows=True))
    assert data.user_ids == ["a", "b", "c", "d"]
    assert any("skipped 1 bad row," in line and "sequences.txt:2" in line for line in lines)


def test_bytes_that_are_no_text_are_an_error_with_their_line(tmp_path):
    path = tmp_path / "sequences.txt"
    path.write_bytes(b"a 1 2\nb \xff 3\n")
    with pytest.raises(DataError, match=r"sequences.txt:2: .*not UTF-8"):
        prepare(path, tmp_path / "data", own=SEQUENCES)


ids = st.text("abc123éß", min_size=1, max_size=4)


@given(st.dictionaries(ids, st.lists(ids, min_size=1, max_size=8), min_size=4, max_size=12))
def test_sequences_come_back_as_they_were(tmp_path_factory, sequences):
    place = tmp_path_factory.mktemp("round-trip")
    path = place / "sequences.txt.gz"
    path.write_bytes(
        gzip.compress("".join(" ".join([u, *items]) + "\n" for u, items in sequences.items()).encode())
    )
    prepare(path, place / "data", own=SEQUENCES, dev_share=0.25, test_share=0.25)
    data = load_dataset(place / "data")
    assert {one.user_id: one.item_ids for one in data.histories(data.user_ids)} == sequences
