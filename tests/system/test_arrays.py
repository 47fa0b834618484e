"""Arrays of safetensors files are mapped: shared by processes, never changed on disk, and checked."""

import json
import multiprocessing
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load, save, save_file

from palate.errors import DataError
from palate.system.arrays import map_arrays
from palate.system.files import write_bytes

KINDS = ("?", "u1", "i1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
MADE = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
    st.sampled_from(KINDS).flatmap(
        lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=4,
)


def mapped(path):
    return map_arrays(path, "the vectors", "copy them again")


@given(made=MADE)
def test_arrays_are_those_that_safetensors_reads(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "arrays.safetensors"
    write_bytes(path, save(made))
    found, expected = mapped(path), load(path.read_bytes())
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_what_is_written_to_an_array_stays_in_the_process(tmp_path):
    path = tmp_path / "arrays.safetensors"
    save_file({"a": np.arange(5, dtype=np.int32)}, path)
    before = path.read_bytes()
    mapped(path)["a"][:] = 7
    assert path.read_bytes() == before
    assert mapped(path)["a"].tolist() == [0, 1, 2, 3, 4]


def test_an_array_stays_as_it_was_when_the_file_is_replaced(tmp_path):
    path = tmp_path / "arrays.safetensors"
    save_file({"a": np.arange(5, dtype=np.int32)}, path)
    found = mapped(path)["a"]
    write_bytes(path, save({"a": np.zeros(2, dtype=np.int32)}))
    assert found.tolist() == [0, 1, 2, 3, 4]
    assert mapped(path)["a"].tolist() == [0, 0]


@pytest.mark.parametrize("kept", [0, 7, 40, -1])
def test_a_file_that_is_cut_short_is_refused(kept, tmp_path):
    path = tmp_path / "arrays.safetensors"
    content = save({"a": np.arange(50, dtype=np.int32)})
    path.write_bytes(content[:kept])
    with pytest.raises(DataError, match=r"the vectors cannot be read .*; copy them again"):
        mapped(path)


def test_a_missing_file_and_a_type_that_numpy_has_not_are_refused(tmp_path):
    path = tmp_path / "arrays.safetensors"
    with pytest.raises(DataError, match="the vectors are missing; copy them again"):
        mapped(path)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(DataError, match=r"BF16.*; copy them again"):
        mapped(path)


def _hold(path, ready, go):
    """Read all of an array, and hold it."""
    array = mapped(path)["a"]
    assert array.sum() == len(array)
    ready.wait()
    go.wait()


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="needs Linux's count of shared memory"
)
def test_processes_share_the_memory_of_an_array(tmp_path):
    size = 64 << 20
    path = tmp_path / "arrays.safetensors"
    save_file({"a": np.ones(size, dtype=np.uint8)}, path)
    context = multiprocessing.get_context("spawn")
    ready, go = context.Barrier(3), context.Event()
    workers = [context.Process(target=_hold, args=(path, ready, go)) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        ready.wait(timeout=60)
        for worker in workers:
            shared, private = _of_file(worker.pid, path)
            assert size <= shared <= size + 2 * os.sysconf("SC_PAGE_SIZE")
            assert private == 0
    finally:
        go.set()
        for worker in workers:
            worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def _of_file(pid, path):
    """Bytes of the pages of a file that a process has mapped: those that it shares, and those that it has copied."""
    counted, inside = {"Rss": 0, "Anonymous": 0}, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = line.endswith(os.path.realpath(path))
        elif inside and name[:-1] in counted:
            counted[name[:-1]] += int(rest[0]) * 1024
    return counted["Rss"] - counted["Anonymous"], counted["Anonymous"]
