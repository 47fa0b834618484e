"""Locks: exclusive, reported by holder, and released however the holder ends."""

import errno
import threading

import pytest
from filelock import FileLock

from holding import held_elsewhere
from palate.errors import OutputError
from palate.system.locks import beside, locked, place_of


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_place_is_refused_while_it_is_held_and_free_afterwards(tmp_path):
    place = tmp_path / "run"
    with held_elsewhere(place) as process:
        refused = rf"run is in use by process {process.pid} on \S+ since [\d-]+ [\d:]+ UTC \(-c .*run\); wait"
        with pytest.raises(OutputError, match=refused), locked(place):
            pytest.fail("the block ran")
    with locked(place):
        pass
    assert listed(tmp_path) == []


def test_a_killed_holder_holds_nothing(tmp_path):
    with held_elsewhere(tmp_path / "run") as process:
        process.kill()
        process.wait()
        assert listed(tmp_path) == [".run.lock"]
        with locked(tmp_path / "run"):
            pass
        assert listed(tmp_path) == []


def test_a_place_by_two_names_is_one(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to("runs")
    monkeypatch.chdir(tmp_path)
    with (
        held_elsewhere(tmp_path / "runs" / "a"),
        pytest.raises(OutputError, match="in use"),
        locked("link/a"),
    ):
        pytest.fail("the block ran")


def test_who_holds_a_place_holds_it_on(tmp_path):
    with locked(tmp_path / "run"):
        with locked(tmp_path / "run"):
            pass
        assert listed(tmp_path) == [".run.lock"]
    assert listed(tmp_path) == []


def test_threads_are_kept_apart_too(tmp_path):
    refused = []

    def other():
        try:
            with locked(tmp_path / "run"):
                pass
        except OutputError as error:
            refused.append(str(error))

    with locked(tmp_path / "run"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "in use by process" in refused[0]


def test_work_of_a_moment_waits_for_its_turn(tmp_path):
    with held_elsewhere(tmp_path / "file") as process:
        entered = threading.Event()

        def wait():
            with locked(tmp_path / "file", wait=True):
                entered.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.is_set()
        process.kill()
        thread.join()
        assert entered.is_set()
    assert listed(tmp_path) == []


def test_folders_above_are_made_and_stay_only_when_they_are_used(tmp_path):
    with locked(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert listed(tmp_path) == []
    with locked(tmp_path / "a" / "b" / "run"):
        (tmp_path / "a" / "kept").touch()
    assert listed(tmp_path) == ["a"]
    assert listed(tmp_path / "a") == ["kept"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*run: "), locked(tmp_path / "file" / "run"):
        pytest.fail("the block ran")


def test_a_file_system_without_locks_is_warned_about_and_used(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="without locks"), locked(tmp_path / "run"):
        (tmp_path / "run").touch()


@pytest.mark.parametrize("name", ["run", "a.b", "ü" * 120])
def test_names_beside_a_place_lead_back_to_it(tmp_path, name):
    file = beside(tmp_path / name, "lock")
    file.touch()  # however long the name is
    assert place_of(file, "partial") is None
    assert beside(place_of(file, "lock"), "lock") == file
