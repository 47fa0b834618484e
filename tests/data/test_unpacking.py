"""Compressed files are read completely or refused in one line, and decompress to a bounded size."""

import bz2
import gzip
import random
import zipfile
from pathlib import Path

import pytest

from palate.data import unpacking
from palate.data.movielens.sources import open_source
from palate.data.prepare import prepare
from palate.data.tabular.text_files import chunks, count_lines
from palate.errors import DataError

ROWS = b"ada,m1,5\n" * 100_000


@pytest.fixture
def small_allowance(monkeypatch):
    monkeypatch.setattr(unpacking, "ALLOWANCE", 1_000)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_text_file_that_unpacks_to_too_much_is_refused_on_the_way(small_allowance, tmp_path, compress):
    path = tmp_path / "events.csv.z"
    path.write_bytes(compress(ROWS))
    with pytest.raises(DataError, match=r"events\.csv\.z: .* unpack to more than 200 times as many"):
        count_lines(path)


def test_what_a_file_of_events_unpacks_to_is_read_whole(tmp_path):
    path = tmp_path / "events.csv.gz"
    path.write_bytes(gzip.compress(ROWS))
    assert b"".join(chunks(path)) == ROWS


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(small_allowance, tmp_path):
    path = tmp_path / "films.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("movies.dat", "1::A (1990)::Comedy\n")
        archive.writestr("ratings.dat", "1::1::5::1\n" * 100_000)
    with pytest.raises(DataError, match=r"films\.zip/ratings\.dat: .* unpack to more than 200 times"):
        prepare(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_entry_without_a_name_is_passed_over(tmp_path):
    path = tmp_path / "films.zip"
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(nameless, "w") as file:
            file.write(b"x")
        archive.writestr("movies.dat", "1::A (1990)::Comedy\n")
    assert open_source(path).members == {"movies.dat": "movies.dat"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_whatever_it_is_compressed_with(tmp_path, method):
    path = tmp_path / "films.zip"
    content = random.Random(0).randbytes(20_000)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("ratings.dat", content)
    damage(path)
    with pytest.raises(DataError, match=r"films\.zip: not a complete zip \(ratings\.dat: .*copy it again"):
        open_source(path).file("ratings.dat", tmp_path / "scratch")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_broken_bzip2_file_is_named(tmp_path, cut):
    data = bz2.compress(random.Random(0).randbytes(20_000))
    path = tmp_path / "events.csv"
    path.write_bytes(data[: int(cut * len(data))])
    with pytest.raises(DataError, match="not a complete compressed file"):
        count_lines(path)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5_000:5_100] = bytes(100)
    path.write_bytes(data)
