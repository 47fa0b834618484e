"""Atomic writes of files and folders, under every failure."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from holding import held_elsewhere
from palate.errors import DataError, OutputError
from palate.system.files import (
    check_readable,
    fresh_folder,
    read_bytes,
    read_text,
    remove_leftovers,
    replacing,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_with(number: int):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


@given(data=st.binary(max_size=100))
def test_what_is_written_is_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("files") / "deep" / "file"
    write_bytes(path, data)
    assert path.read_bytes() == data
    assert listed(path.parent) == ["file"]


def test_text_is_utf8_with_its_line_ends(tmp_path):
    write_text(tmp_path / "file", "å\r\nb\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa5\r\nb\n"


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "file.json", {"name": "Amélie", "values": [1, 2.5, None]})
    assert json.loads((tmp_path / "file.json").read_text("utf-8")) == {
        "name": "Amélie",
        "values": [1, 2.5, None],
    }


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"f1": float("nan")})
    assert listed(tmp_path) == []


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "metrics.json"
    write_text(path, "old")
    monkeypatch.setattr(step, fail_with(errno.ENOSPC))
    with pytest.raises(
        OutputError, match=r"disk full while writing .*metrics\.json: free space and run it again"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert listed(tmp_path) == ["metrics.json"]


def test_a_file_cannot_be_a_parent(tmp_path):
    write_text(tmp_path / "file", "")
    with pytest.raises(OutputError, match=r"cannot write .*file/below: "):
        write_text(tmp_path / "file" / "below", "")


def test_a_fresh_folder_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "data" / "ml"
    with fresh_folder(path) as folder:
        write_text(folder / "one", "1")
        assert not path.exists()
    assert listed(path) == ["one"]
    assert listed(path.parent) == ["ml"]


def test_an_empty_folder_may_be_filled(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    with fresh_folder(path) as folder:
        write_text(folder / "one", "1")
    assert listed(path) == ["one"]


def test_a_failed_block_leaves_nothing(tmp_path):
    def work(folder: Path) -> None:
        write_text(folder / "one", "1")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"), fresh_folder(tmp_path / "out") as folder:
        work(folder)
    assert listed(tmp_path) == []


def test_a_full_disk_in_the_block_is_said_in_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"disk full while writing .*out: "), fresh_folder(tmp_path / "out"):
        fail_with(errno.ENOSPC)()
    assert listed(tmp_path) == []


def test_a_full_disk_that_a_library_meets_in_the_block_is_said_in_one_line(tmp_path):
    full = SafetensorError("Error while serializing: I/O error: File too large (os error 27)")
    with (
        pytest.raises(OutputError, match=r"disk full while writing .*/out: "),
        fresh_folder(tmp_path / "out"),
    ):
        raise full
    assert listed(tmp_path) == []


def test_what_a_library_cannot_read_in_the_block_is_not_told_as_a_failed_write(tmp_path):
    absent = SafetensorError("No such file or directory (os error 2)")
    with pytest.raises(SafetensorError), fresh_folder(tmp_path / "out"):
        raise absent


def test_other_errors_in_the_block_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), fresh_folder(tmp_path / "out"):
        (tmp_path / "input").read_text()


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", fail_with(errno.ENOSPC))
    with pytest.raises(OutputError, match="disk full"), fresh_folder(tmp_path / "out") as folder:
        (folder / "one").touch()
    assert listed(tmp_path) == []


def test_a_filled_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "one").touch()
    entered = False
    with pytest.raises(OutputError, match="is not empty; name a new folder"), fresh_folder(tmp_path):
        entered = True
    assert not entered
    assert listed(tmp_path) == ["one"]


def test_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "one").touch()
    with pytest.raises(OutputError, match="is a file"), fresh_folder(tmp_path / "one"):
        pytest.fail("the block ran")


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    (tmp_path / "one").touch()
    with pytest.raises(OutputError, match="cannot write"), fresh_folder(tmp_path / "one" / "below"):
        pytest.fail("the block ran")


def test_someone_faster_wins(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(OutputError, match="is not empty"), fresh_folder(path):
        write_text(path / "theirs", "")
    assert listed(path) == ["theirs"]
    assert listed(tmp_path) == ["out"]


def killed_in_the_block(out, name, resumable):
    """A process that died when it had written a file of this name."""
    code = (
        "import os, sys; from palate.system.files import fresh_folder\n"
        f"with fresh_folder(sys.argv[1], {resumable}) as folder: (folder / {name!r}).touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(out)], check=False).returncode == 9


def test_what_a_killed_process_left_is_removed(tmp_path):
    out = tmp_path / "out"
    killed_in_the_block(out, "half", resumable=False)
    assert listed(tmp_path) == [".out.lock", ".out.partial"]
    with fresh_folder(out) as folder:
        assert listed(folder) == []
    assert listed(tmp_path) == ["out"]


def test_a_folder_that_another_process_builds_is_refused_at_once(tmp_path):
    out = tmp_path / "out"
    with held_elsewhere(out) as process:
        refused = rf"out is in use by process {process.pid} on .* since \d{{4}}-.* UTC .*; wait until it ends"
        with pytest.raises(OutputError, match=refused), fresh_folder(out):
            pytest.fail("the block ran")
        assert listed(tmp_path) == [".out.lock"]
    with fresh_folder(out):
        pass
    assert listed(tmp_path) == ["out"]


def test_what_a_process_left_that_was_killed_when_all_was_done_is_removed(tmp_path):
    out = tmp_path / "out"
    killed_in_the_block(out, "half", resumable=False)
    (tmp_path / ".out.partial").rename(out)
    with pytest.raises(OutputError, match="is not empty"), fresh_folder(out):
        pytest.fail("the block ran")
    assert listed(tmp_path) == ["out"]


def test_what_killed_processes_left_of_files_is_removed_but_not_what_is_written_now(tmp_path):
    for name in ("dead", "living"):
        (tmp_path / f".{name}.partial").mkdir()
        (tmp_path / f".{name}.lock").touch()
    (tmp_path / "data").touch()
    with held_elsewhere(tmp_path / "living"):
        remove_leftovers(tmp_path)
        assert listed(tmp_path) == [".living.lock", ".living.partial", "data"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_who_may_read_a_file_follows_the_umask_whatever_a_library_does(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file") as partial:
            private(partial)
        with fresh_folder(tmp_path / "folder") as folder:
            (folder / "below").mkdir()
            private(folder / "below" / "file")
    finally:
        os.umask(before)
    for path in (tmp_path / "file", tmp_path / "folder" / "below" / "file"):
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def private(path: Path) -> None:
    """Write a file as safetensors does: under a name of its own, for its owner alone, then renamed."""
    own = path.with_name(".tmpAbCdEf")
    own.touch(mode=0o600)
    own.replace(path)


def test_what_a_library_leaves_beside_a_file_goes_with_it(tmp_path):
    def write() -> None:
        with replacing(tmp_path / "file") as partial:
            partial.with_name(".tmpAbCdEf").touch()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write()
    assert listed(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EFBIG, "File too large"), "disk full while writing"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "disk full while writing"),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), "cannot write .*: Read-only"),
        (
            RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed writing"),
            "disk full",
        ),
    ],
)
def test_what_a_library_says_of_a_disk_is_told_in_one_way(tmp_path, error, said):
    with pytest.raises(OutputError, match=said), replacing(tmp_path / "file"):
        raise error


def test_a_file_that_is_not_there_is_another_fault_than_one_that_is_barred(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"file: make it$"):
        read_bytes(tmp_path / "file", "make it")
    with pytest.raises(DataError, match="is a folder, but a file is expected"):
        check_readable(tmp_path, "make it")
    (tmp_path / "file").touch()
    monkeypatch.setattr("pathlib.Path.open", fail_with(errno.EACCES))  # root may read everything
    for reads in (read_bytes, read_text, check_readable):
        with pytest.raises(
            DataError, match=r"file: cannot be read \(Permission denied\); let this user read it"
        ):
            reads(tmp_path / "file", "make it")


def test_text_that_is_none_is_told_with_its_place(tmp_path):
    (tmp_path / "file").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match=r"not UTF-8 text .* at byte 2"):
        read_text(tmp_path / "file", "make it")


def test_checksum(tmp_path):
    write_text(tmp_path / "file", "abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "file") == f"sha256:{expected}"


def fill(path: Path, error: BaseException | None = None) -> list[str]:
    """What a resumable block finds in its folder, before it adds a file and ends so."""
    with fresh_folder(path, resumable=True) as folder:
        found = listed(folder)
        write_text(folder / f"{len(found)}", "")
        if error is not None:
            raise error
    return found


@pytest.mark.parametrize(
    "end",
    [KeyboardInterrupt(), RuntimeError("crash"), OSError(errno.ENOSPC, "full"), OutputError("disk full")],
)
def test_a_resumable_block_goes_on_with_what_an_interrupted_one_left(tmp_path, end):
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises((type(end), OutputError)):
            fill(out, end)
        assert not out.exists()
    assert fill(out) == ["0", "1"]
    assert listed(tmp_path) == ["out"]


def test_a_resumable_block_that_bad_input_ended_leaves_nothing(tmp_path):
    with pytest.raises(DataError):
        fill(tmp_path / "out", DataError("bad"))
    assert listed(tmp_path) == []


def test_a_resumable_block_takes_over_what_a_killed_process_left(tmp_path):
    out = tmp_path / "out"
    killed_in_the_block(out, "0", resumable=True)
    assert fill(out) == ["0"]
    assert listed(tmp_path) == ["out"]
    assert listed(out) == ["0", "1"]
