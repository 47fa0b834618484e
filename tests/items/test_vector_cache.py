import hashlib
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from palate.errors import OutputError
from palate.items.cache import VectorCache

SIZE = 4


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(SIZE).astype(np.float32)


def fill(cache: VectorCache, numbers) -> None:
    cache.append([key(number) for number in numbers], np.stack([vector(number) for number in numbers]))


def opened(folder: Path) -> VectorCache:
    cache = VectorCache(folder)
    cache.refresh()
    return cache


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=6), st.randoms())
def test_what_goes_in_comes_out_in_any_order(chunks, random):
    with tempfile.TemporaryDirectory() as folder:
        writer = VectorCache(Path(folder))
        for chunk in chunks:
            fill(writer, chunk)
        numbers = sorted({number for chunk in chunks for number in chunk})
        random.shuffle(numbers)
        for cache in (writer, opened(Path(folder))):
            assert len(cache) == len(numbers)
            assert key(31) not in cache
            if numbers:
                found = cache.vectors([key(number) for number in numbers])
                np.testing.assert_array_equal(found, np.stack([vector(number) for number in numbers]))


def test_two_processes_share_a_folder(tmp_path):
    first, second = opened(tmp_path), opened(tmp_path)
    fill(first, [1, 2])
    fill(second, [2, 3])
    first.refresh()
    second.refresh()
    for cache in (first, second):
        np.testing.assert_array_equal(cache.vectors([key(3), key(1)]), [vector(3), vector(1)])


@pytest.mark.parametrize("damage", ["first", "header", "vector", "last", "cut", "empty", "longer", "folder"])
def test_a_damaged_chunk_is_named_put_aside_and_never_used(tmp_path, damage):
    fill(VectorCache(tmp_path), [1, 2])
    (bad,) = tmp_path.iterdir()
    fill(VectorCache(tmp_path), [3])
    data = bytearray(bad.read_bytes())
    flipped = {"first": 0, "header": 20, "vector": len(data) - 9, "last": len(data) - 1}
    if damage == "folder":
        bad.unlink()
        bad.mkdir()
    elif damage in flipped:
        data[flipped[damage]] ^= 4
        bad.write_bytes(data)
    else:
        bad.write_bytes({"cut": data[:-5], "empty": b"", "longer": data + b"x"}[damage])
    with pytest.warns(UserWarning, match=bad.name):
        cache = opened(tmp_path)
    assert key(1) not in cache
    assert key(2) not in cache
    assert key(3) in cache
    fill(cache, [1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(opened(tmp_path).vectors([key(2), key(3)]), [vector(2), vector(3)])


def test_a_stray_file_is_not_taken_for_a_chunk(tmp_path):
    (tmp_path / "notes.safetensors").write_text("hello")
    with pytest.warns(UserWarning, match=r"notes\.safetensors is damaged"):
        assert len(opened(tmp_path)) == 0


def test_killed_while_writing_leaves_whole_chunks_only(tmp_path):
    script = """
import os, pathlib, signal, sys
import numpy as np
from palate.system import files
from palate.items.cache import VectorCache
cache = VectorCache(pathlib.Path(sys.argv[1]))
cache.append([b"a" * 32], np.ones((1, 4), dtype=np.float32))
files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cache.append([b"b" * 32], np.ones((1, 4), dtype=np.float32))
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    left = {path for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert len(left) == 2  # what was being written, and its lock
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = opened(tmp_path)
    assert b"a" * 32 in cache
    assert b"b" * 32 not in cache
    cache.check_writable()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    with pytest.raises(OutputError, match=r"set items\.cache to another folder"):
        VectorCache(place / "cache").check_writable()


@pytest.mark.parametrize(
    "tensors",
    [
        {"keys": np.zeros((2, 32), np.uint8), "vectors": np.ones((2, SIZE + 1), np.float32)},
        {"keys": np.zeros((1, 32), np.uint8), "vectors": np.ones((2, SIZE), np.float32)},
        {"keys": np.zeros((2, 8), np.uint8), "vectors": np.ones((2, SIZE), np.float32)},
        {"keys": np.zeros((2, 32), np.uint8), "vectors": np.ones((2, SIZE), np.float64)},
        {"keys": np.zeros((2, 32), np.uint8), "vectors": np.float32(1)},
        {"keys": np.zeros((2, 32), np.uint8), "vectors": np.full((2, SIZE), np.nan, np.float32)},
    ],
    ids=["longer vectors", "fewer keys", "short keys", "doubles", "no matrix", "not finite"],
)
def test_a_planted_chunk_that_no_encoder_wrote_is_put_aside(tmp_path, tensors):
    cache = opened(tmp_path)
    fill(cache, [1, 2])
    data = save({name: np.asarray(value) for name, value in tensors.items()})
    planted = tmp_path / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    planted.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        cache.refresh()
    np.testing.assert_array_equal(cache.vectors([key(1), key(2)]), np.stack([vector(1), vector(2)]))
    assert not planted.exists()
