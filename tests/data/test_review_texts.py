"""Users' texts about items: stored with the interactions, in a separate file."""

from collections import Counter

import polars as pl
import pytest

from bookshop import write_rows
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare, read_dataset
from palate.data.protocols import make_split
from palate.data.storage import REVIEWS_FILE
from palate.data.tabular.settings import OwnData
from palate.errors import DataError

ROWS = [
    {"reviewerID": "b", "asin": "y", "overall": 2.0, "reviewText": " Dull. ", "unixReviewTime": 30},
    {"reviewerID": "a", "asin": "x", "overall": 5.0, "reviewText": "First", "unixReviewTime": 40},
    {"reviewerID": "a", "asin": "y", "overall": 4.0, "reviewText": "", "unixReviewTime": 20},
    {"reviewerID": "a", "asin": "x", "overall": 3.0, "reviewText": "Again: worse", "unixReviewTime": 50},
    {"reviewerID": "c", "asin": "x", "overall": 1.0, "reviewText": None, "unixReviewTime": 10},
    {"reviewerID": "c", "asin": "y", "overall": 1.0, "reviewText": "No", "unixReviewTime": 11},
]


def texts_of(data):
    """By user and item."""
    events = data.interactions
    pairs = zip(events.owner, events.item_index, data.review_texts, strict=True)
    return {(data.user_ids[user], data.item_ids[item]): text for user, item, text in pairs}


EXPECTED = {
    ("a", "y"): None,
    ("a", "x"): "Again: worse",
    ("b", "y"): "Dull.",
    ("c", "x"): None,
    ("c", "y"): "No",
}


@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.csv", "reviews.parquet", "reviews.jsonl.gz"])
def test_each_interaction_keeps_its_text(tmp_path, name):
    said = []
    data = prepare(write_rows(ROWS, tmp_path / name), tmp_path / "out", report=said.append)
    assert texts_of(data) == EXPECTED
    again = load_dataset(tmp_path / "out")
    assert texts_of(again) == EXPECTED
    assert again.info.reviewed_interactions == 3
    assert "review texts: of 60.0% of the ratings" in said
    assert set(again.items["description"]) == {None}
    assert again.info.report["conflicting_items"] == 0
    assert not any("left out" in line for line in said)


def test_merged_events_keep_the_last_text(tmp_path):
    rows = [{name: value for name, value in row.items() if name != "overall"} for row in ROWS]
    data = prepare(write_rows(rows, tmp_path / "reviews.jsonl"), tmp_path / "out")
    assert texts_of(data) == EXPECTED


def test_the_texts_are_no_part_of_the_data_s_identity_and_are_read_when_asked_for(tmp_path):
    plain = [{name: value for name, value in row.items() if name != "reviewText"} for row in ROWS]
    with_texts = prepare(write_rows(ROWS, tmp_path / "a.jsonl"), tmp_path / "with")
    without = prepare(write_rows(plain, tmp_path / "b.jsonl"), tmp_path / "without")
    assert with_texts.info.fingerprint == without.info.fingerprint
    assert without.review_texts is None
    assert not (tmp_path / "without" / REVIEWS_FILE).exists()
    (tmp_path / "with" / REVIEWS_FILE).write_bytes(b"damaged")
    again = load_dataset(tmp_path / "with")
    with pytest.raises(DataError, match=r"reviews.parquet: not a readable Parquet table"):
        _ = again.review_texts
    pl.DataFrame({"text": ["one"]}).write_parquet(tmp_path / "with" / REVIEWS_FILE)
    with pytest.raises(DataError, match=r"1 texts, but interactions.parquet has 5 rows"):
        _ = load_dataset(tmp_path / "with").review_texts


def test_another_column_is_named(tmp_path):
    rows = [{"said" if name == "reviewText" else name: value for name, value in row.items()} for row in ROWS]
    file = write_rows(rows, tmp_path / "reviews.jsonl")
    assert read_dataset(file).review_texts is None
    assert texts_of(read_dataset(file, OwnData(review="said"))) == EXPECTED
    with pytest.raises(DataError, match="no column 'sad' for the review; did you mean 'said'"):
        read_dataset(file, OwnData(review="sad"))


def test_a_text_that_is_the_same_for_all_events_of_an_item_describes_it(tmp_path):
    rows = [{"user_id": user, "item_id": item, "text": f"About {item}"} for user in range(4) for item in "xy"]
    data = read_dataset(write_rows(rows, tmp_path / "events.csv"))
    assert data.review_texts is None
    assert data.items["description"].to_list() == ["About x", "About y"]


def written(data):
    """Who chose what, and wrote what of it."""
    events, texts = data.interactions, data.review_texts.to_list()
    return Counter(zip(events.owner.tolist(), events.item_index.tolist(), texts, strict=True))


def test_a_part_of_the_data_has_the_texts_of_its_own_interactions_alone(tmp_path):
    data = prepare(
        write_rows(ROWS * 2, tmp_path / "reviews.jsonl"), tmp_path / "out", own=OwnData(repeats="keep")
    )
    part = make_split(data, "leave-last-out", keep_seen=True).training
    assert written(part) < written(data)
    assert written(part).total() == len(part.interactions) < len(data.interactions) == 12
