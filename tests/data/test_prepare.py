"""palate prepare end to end: atomic output under every failure."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from movielens_writers import content, write_csv, zipped
from palate.data import prepare as preparing
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.errors import DataError, OutputError


@pytest.fixture
def raw(tmp_path):
    write_csv(tmp_path / "in" / "raw", content())
    return tmp_path / "in" / "raw"


@pytest.fixture
def place(tmp_path):
    """A folder of its own, so that everything left behind is seen."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_descriptions_are_joined_and_their_coverage_is_told(raw, place):
    descriptions = raw.parent / "plots.csv"
    descriptions.write_text(
        "title,year,description\nThe Matrix,1982,Red or blue.\nNo Such Film,1990,Nothing.\n"
    )
    lines = []
    dataset = prepare(raw, place / "out", descriptions=descriptions, report=lines.append)
    rated = sum(movie == content().movies[2].movie_id for _, movie, *_ in content().ratings)
    share = rated / len(content().ratings)
    assert (
        f"descriptions: 1 of 40 items (2.5%), which {share:.1%} of the ratings are about; "
        "1 description without an item"
    ) in lines
    assert dataset.items["description"].drop_nulls().to_list() == ["Red or blue."]
    assert dataset.info.described_items == 1
    assert dataset.info.report["descriptions_left_over"] == 1
    assert "plots.csv" in dataset.info.checksums
    assert dataset.info.fingerprint != prepare(raw, place / "bare").info.fingerprint


def test_only_described_items_are_kept_and_users_counted_by_their_ratings_of_these(raw, place):
    described = {movie.title: movie.movie_id for movie in content().movies[:20]}
    plots = raw.parent / "plots.csv"
    plots.write_text("movie_id,description\n" + "".join(f"{one},A film.\n" for one in described.values()))
    lines = []
    made = prepare(
        raw, place / "out", descriptions=plots, described_only=True, min_ratings=2, report=lines.append
    )
    of_user = {}
    for user, movie, *_ in content().ratings:
        of_user.setdefault(user, set()).update({movie} & set(described.values()))
    assert made.info.items == made.info.described_items == len(described)
    assert made.info.users == sum(len(movies) >= 2 for movies in of_user.values())
    assert made.info.interactions == sum(len(movies) for movies in of_user.values() if len(movies) >= 2)
    assert made.info.report["items_without_description"] == len(content().movies) - len(described)
    assert f"left out {len(content().movies) - len(described)} items without a description" in lines
    assert any(line.endswith("not in the catalogue or have no description") for line in lines)
    with pytest.raises(DataError, match="no item has a description, and only items with one"):
        prepare(raw, place / "none", described_only=True)
    assert not (place / "none").exists()


def test_the_split_belongs_to_the_fingerprint(raw, place):
    first, again, other = (prepare(raw, place / f"out{n}", seed=seed) for n, seed in enumerate((0, 0, 7)))
    assert first.info.fingerprint == again.info.fingerprint != other.info.fingerprint


def test_what_is_dropped_is_counted_and_told(raw, place):
    with (raw / "ratings.csv").open("a") as file:
        file.write("2,999999,3.0,880000000\n" * 3)  # no such movie
        file.write("2000,1,3.0,880000000\n2000,1,4.0,880000000\n")  # one rating, given twice
    lines = []
    report = prepare(raw, place / "out", report=lines.append).info.report
    assert report["ratings_of_unknown_items"] == 3
    assert report["duplicate_ratings"] == 1
    assert report["users_with_too_few_ratings"] == 1
    assert report["ratings_of_left_out_users"] == 1
    told = "\n".join(lines)
    assert "dropped 3 ratings of movies that are not in the catalogue" in told
    assert "dropped 1 rating that the same user gave again later" in told
    assert "left out 1 user with too few ratings (1 rating)" in told


def test_without_enough_ratings_nothing_is_written(raw, place):
    with pytest.raises(DataError, match="0 users with at least 1000 ratings are too few"):
        prepare(raw, place / "out", min_ratings=1000)
    assert not list(place.iterdir())


def test_bad_input_leaves_nothing_behind(raw, place):
    with (raw / "ratings.csv").open("a") as file:
        file.write("2,1,five,880000000\n")
    with pytest.raises(
        DataError, match=f"ratings.csv:{len(content().ratings) + 2}: the rating 'five' is not a number"
    ):
        prepare(raw, place / "out")
    assert not list(place.iterdir())


def test_a_fault_within_a_zip_is_named_by_where_it_lies_in_it(raw, place):
    archive = place / "tweets.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("tweets/ratings.dat", "1::1::8::1365029107\n")
        made.writestr("tweets/movies.dat", "1::Heat (1995)::Crime\n")
    with pytest.raises(DataError) as caught:
        prepare(archive, place / "out")
    assert str(caught.value).startswith(
        f"{archive}/tweets/ratings.dat:1: the rating 8 is not on the scale 1, 2, 3, 4, 5; "
    )
    assert str(caught.value).endswith("give the unpacked file itself, and the item file with --items")
    assert list(place.iterdir()) == [archive]


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_zip_is_refused(raw, place, keep):
    archive = zipped(raw, raw.parent / "ml-latest.zip")
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"ml-latest.zip: (not a complete zip|the file is empty)"):
        prepare(archive, place / "out")
    assert not list(place.iterdir())


def test_a_flipped_byte_in_a_zip_is_found(raw, place):
    archive = zipped(raw, raw.parent / "ml-latest.zip")
    data = bytearray(archive.read_bytes())
    data[len(data) // 4] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"ml-latest.zip: not a complete zip"):
        prepare(archive, place / "out")
    assert not list(place.iterdir())


def test_a_path_that_is_not_there_is_named(place):
    with pytest.raises(DataError, match=r"absent/ml-1m.zip: no such folder or zip"):
        prepare(place / "absent" / "ml-1m.zip", place / "out")


def test_an_output_folder_that_is_not_empty_is_refused_before_the_work(raw, place, monkeypatch):
    (place / "out").mkdir()
    (place / "out" / "thesis.tex").write_text("precious")
    monkeypatch.setattr(preparing, "_read", lambda *_: pytest.fail("the work began"))
    with pytest.raises(OutputError, match="out is not empty"):
        prepare(raw, place / "out")
    assert (place / "out" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("step", ["write_tables", "read_ratings"])
def test_a_full_disk_is_told_and_leaves_nothing(raw, place, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(preparing, step, full)
    with pytest.raises(OutputError, match=r"disk full while writing .*out"):
        prepare(raw, place / "out")
    assert not list(place.iterdir())


def test_a_disk_that_fills_up_while_a_table_is_written_is_told(raw, place, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"disk full while writing .*place/out/interactions\.parquet"):
        prepare(raw, place / "out")
    assert not list(place.iterdir())


KILLED = """
import os, sys, time
from pathlib import Path
from palate.data import prepare as preparing

def wait_after(step):
    original = getattr(preparing, step)
    def slow(*arguments):
        result = original(*arguments)
        print("here", flush=True)
        time.sleep(60)
        return result
    setattr(preparing, step, slow)

wait_after(sys.argv[3])
preparing.prepare(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.parametrize("step", ["read_ratings", "write_tables"])
def test_after_a_kill_nothing_is_half_written_and_the_next_run_succeeds(raw, place, step):
    archive = zipped(raw, raw.parent / "ml-latest.zip")
    command = [sys.executable, "-c", KILLED, str(archive), str(place / "out"), step]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    assert not (place / "out").exists()
    dataset = prepare(archive, place / "out")
    assert [path.name for path in place.iterdir()] == ["out"]
    assert load_dataset(place / "out").info == dataset.info


def test_the_label_rule_is_kept_and_another_one_proposed_where_a_half_stays_empty(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{rng.choice([8, 9, 10])}" for user in range(30) for item in rng.permutation(40)[:25]
    ]
    rows += ["30,0,1", *(f"30,{item},9" for item in range(1, 25))]  # so that the scale begins at 1
    (tmp_path / "events.csv").write_text("\n".join(["user,item,rating", *rows, ""]))
    items = [f"{item},Item {item},{'ABC'[item % 3]}" for item in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["item,title,genre", *items, ""]))
    said = []
    files = {"source": tmp_path / "events.csv", "items": tmp_path / "items.csv"}
    data = prepare(**files, out=tmp_path / "one", report=said.append)
    assert data.info.rule == "thresholds"
    (line,) = [line for line in said if line.startswith("only ")]
    proposed = re.search(
        r"by the label rule 'thresholds'; by '([\w-]+)' .*: prepare with --rule \1, or set", line
    )[1]
    said.clear()
    data = prepare(**files, out=tmp_path / "two", rule=proposed, report=said.append)
    assert load_dataset(tmp_path / "two").info == data.info
    assert data.info.rule == proposed != "thresholds"
    assert not [line for line in said if line.startswith("only ")]
    with pytest.raises(
        DataError, match=r"unknown label rule 'mean'; expected one of thresholds, own-mean, quantiles"
    ):
        prepare(**files, out=tmp_path / "three", rule="mean")
    assert not (tmp_path / "three").exists()


def test_a_dataset_of_an_earlier_version_gets_the_statistics_of_label_rules_when_it_is_loaded(raw, tmp_path):
    prepared = prepare(raw, tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    for name in ("rule", "score_statistics"):
        del content[name]
    path.write_text(json.dumps(content))
    assert load_dataset(tmp_path / "data").info == prepared.info
