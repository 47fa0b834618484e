"""Files and folders are whole or not there, whatever goes wrong in the middle."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.errors import DataError, OutputError
from palate.files import fresh_folder, sha256_of, write_bytes, write_json, write_text


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
        "import os, sys; from palate.files import fresh_folder\n"
        f"with fresh_folder(sys.argv[1], {resumable}) as folder: (folder / {name!r}).touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(out)], check=False).returncode == 9


def test_what_a_killed_process_left_is_removed(tmp_path):
    out = tmp_path / "out"
    killed_in_the_block(out, "half", resumable=False)
    assert len(listed(tmp_path)) == 1
    with fresh_folder(out) as folder:
        assert listed(tmp_path) == [folder.name]
    assert listed(tmp_path) == ["out"]


def test_what_a_living_process_builds_is_left_alone(tmp_path):
    building = tmp_path / f".out.partial-{os.getppid()}"
    building.mkdir()
    with fresh_folder(tmp_path / "out"):
        pass
    assert listed(tmp_path) == [building.name, "out"]


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


def test_a_resumable_block_leaves_alone_what_a_living_process_builds(tmp_path):
    building = tmp_path / f".out.partial-{os.getppid()}"
    building.mkdir()
    (building / "theirs").touch()
    assert fill(tmp_path / "out") == []
    assert listed(building) == ["theirs"]
