"""Every MovieLens release gives the same dataset."""

import zipfile

import numpy as np
import pytest

from movielens_writers import (
    GENRES,
    HALF_STAR_WRITERS,
    RATING_FILES,
    WHOLE_STAR_WRITERS,
    WRITERS,
    content,
    write_1m,
    zipped,
)
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.errors import DataError


def histories(dataset):
    return dataset.histories(dataset.user_ids)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    data = content()
    for name, write in WRITERS.items():
        write(root / name, data)
    return {name: prepare(root / name, root / f"{name}-dataset") for name in WRITERS}


@pytest.mark.parametrize(
    "writers", [WHOLE_STAR_WRITERS, HALF_STAR_WRITERS], ids=["whole stars", "half stars"]
)
def test_equal_content_has_an_equal_fingerprint_in_every_layout(prepared, writers):
    assert len({prepared[name].info.fingerprint for name in writers}) == 1


def test_the_scale_belongs_to_the_fingerprint_but_not_to_the_histories(prepared):
    assert prepared["1m"].info.fingerprint != prepared["csv"].info.fingerprint
    assert histories(prepared["1m"]) == histories(prepared["csv"])
    assert prepared["1m"].items.equals(prepared["csv"].items)


@pytest.mark.parametrize("name", WRITERS)
def test_the_content_is_what_was_written(prepared, name):
    data, dataset = content(), prepared[name]
    assert dataset.user_ids == sorted({str(user) for user, *_ in data.ratings}, key=int)
    assert dataset.item_ids == [str(movie.movie_id) for movie in data.movies]
    assert dataset.items["title"].to_list() == [movie.title for movie in data.movies]
    assert dataset.items["year"].to_list() == [movie.year for movie in data.movies]
    assert [tuple(row) for row in dataset.items["categories"]] == [movie.genres for movie in data.movies]
    assert dataset.categories == tuple(sorted(GENRES))
    assert dataset.info.report["items_without_category"] == 1
    for history in histories(dataset):
        expected = [row for row in data.ratings if str(row[0]) == history.user_id]
        expected.sort(key=lambda row: row[3])  # stable: ties keep file order
        assert list(history.item_ids) == [str(movie) for _, movie, _, _ in expected]
        assert list(history.ratings) == [rating for _, _, rating, _ in expected]
        assert list(history.timestamps) == [time for *_, time in expected]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_loaded_is_what_was_prepared(prepared, name):
    dataset = prepared[name]
    loaded = load_dataset(dataset.path)
    assert loaded.info == dataset.info
    assert loaded.items.equals(dataset.items)
    assert loaded.user_ids == dataset.user_ids
    for column in ("offsets", "item_index", "rating_index", "timestamp"):
        ours, theirs = getattr(loaded.interactions, column), getattr(dataset.interactions, column)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(loaded.split_of_user, dataset.split_of_user)


@pytest.mark.parametrize("inner", ["", "ml-1m/"])
def test_a_zip_is_read_with_and_without_an_inner_folder(tmp_path, prepared, inner):
    write_1m(tmp_path / "raw", content())
    archive = zipped(tmp_path / "raw", tmp_path / "ml-1m.zip", inner)
    dataset = prepare(archive, tmp_path / "out")
    assert dataset.info.fingerprint == prepared["1m"].info.fingerprint
    assert dataset.info.name == "ml-1m"
    assert dataset.info.checksums == prepared["1m"].info.checksums
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset.json",
        "interactions.parquet",
        "items.parquet",
        "users.parquet",
    ]


def test_a_macintosh_zip_is_read_past_its_resource_files(tmp_path, prepared):
    write_1m(tmp_path / "raw", content())
    archive = zipped(tmp_path / "raw", tmp_path / "ml-1m.zip", "ml-1m/")
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr("__MACOSX/ratings.dat", "not a rating")
        target.writestr("ml-1m/old/ratings.dat", "not a rating")
    assert prepare(archive, tmp_path / "out").info.fingerprint == prepared["1m"].info.fingerprint


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("ending", ["\n\n", "\r\n"])
def test_blank_lines_and_windows_line_ends_are_harmless(tmp_path, prepared, name, ending):
    WRITERS[name](tmp_path / "raw", content())
    for file in (tmp_path / "raw").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", ending.encode()))
    assert prepare(tmp_path / "raw", tmp_path / "out").info.fingerprint == prepared[name].info.fingerprint


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_file_is_named(tmp_path, name):
    WRITERS[name](tmp_path / "raw", content())
    (tmp_path / "raw" / RATING_FILES[name]).unlink()
    with pytest.raises(DataError, match=rf"raw: {RATING_FILES[name]} is missing; MovieLens .* needs "):
        prepare(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_file_is_named(tmp_path, name):
    WRITERS[name](tmp_path / "raw", content())
    (tmp_path / "raw" / RATING_FILES[name]).write_bytes(b"")
    with pytest.raises(DataError, match=rf"raw/{RATING_FILES[name]}: the file is empty"):
        prepare(tmp_path / "raw", tmp_path / "out")


def test_a_half_star_is_off_the_scale_of_1m_and_on_that_of_10m(tmp_path):
    data = content()
    data.ratings[3] = (*data.ratings[3][:2], 3.5, data.ratings[3][3])
    write_1m(tmp_path / "small", data)
    with pytest.raises(DataError, match=r"ratings.dat:4: the rating 3.5 is not on the scale 1, 2, 3, 4, 5"):
        prepare(tmp_path / "small", tmp_path / "out")
    write_1m(tmp_path / "ml-10M100K", data)
    assert prepare(tmp_path / "ml-10M100K", tmp_path / "out").info.rating_values[0] == 0.5


def test_a_folder_without_movielens_files_lists_what_is_expected(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(
        DataError, match=r"no MovieLens files found; expected one of: u.data and u.item; ratings.dat"
    ):
        prepare(tmp_path / "raw", tmp_path / "out")


def test_a_prepared_dataset_is_not_a_source(tmp_path, prepared):
    with pytest.raises(DataError, match="already prepared"):
        prepare(prepared["1m"].path, tmp_path / "out")
