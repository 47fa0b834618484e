"""What SQLite has on disk at the time when a write is acknowledged."""

import errno
import os
import shutil
import threading
import uuid
from pathlib import Path

import pytest

from palate.errors import StoreError
from palate.serve.store import database
from palate.serve.store.changes import Event
from palate.serve.store.store import UserStore


class Disk:
    """The files of a store as a power failure would leave them: those of the last flush."""

    def __init__(self, place, folder):
        self.log, self.lock, self.number, self.saved = (
            Path(f"{place}-wal"),
            threading.Lock(),
            0,
            folder / "saved",
        )
        self.place = place

    def flush(self, log):
        if os.path.samestat(os.fstat(log), self.log.stat()):  # else that of a restored store
            with self.lock:
                shutil.copy(self.place, self.saved)
                shutil.copy(self.log, f"{self.saved}-wal")
                self.number += 1

    def after_a_power_failure(self):
        found = self.saved.with_name(uuid.uuid4().hex)
        with self.lock:
            shutil.copy(self.saved, found)
            shutil.copy(f"{self.saved}-wal", f"{found}-wal")
        return UserStore(found)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    folder = tmp_path / "disk"
    folder.mkdir()
    found = Disk(tmp_path / "users.sqlite", folder)
    monkeypatch.setattr(database, "_flush", found.flush)
    return found


def test_an_acknowledged_event_or_deletion_survives_a_power_failure(disk):
    store = UserStore(disk.place)
    for number in range(3):
        store.append({"ann": [Event(str(number), 3.0)], "bob": [Event("a", 1.0, 1, f"{number}")]})
        assert disk.after_a_power_failure().history("ann").version == number + 1
    store.append({"bob": [Event("a", 1.0, 1, "2")]})
    store.delete_user("ann")
    assert disk.after_a_power_failure().user_ids("", 9) == ["bob"]
    store.close()


def test_what_processes_acknowledge_at_the_same_time_survives_a_power_failure(disk):
    stores = [
        UserStore(disk.place) for _ in range(2)
    ]  # each with a lock and a writer of its own, as two processes
    lost = []

    def write(number):
        for at in range(15):
            store, user_id = stores[number % 2], f"user-{number}"
            version = store.append({user_id: [Event(str(at), 3.0)]})[user_id].version
            restored = disk.after_a_power_failure()
            if restored.history(user_id).version < version:
                lost.append((user_id, version))
            restored.close()

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not lost
    assert {stores[0].history(f"user-{number}").version for number in range(4)} == {15}
    for store in stores:
        store.close()


def test_the_log_of_a_file_behind_a_link_is_flushed(disk, tmp_path):
    link = tmp_path / "links" / "linked.sqlite"
    link.parent.mkdir()
    link.symlink_to(disk.place)
    store = UserStore(link)
    store.append({"ann": [Event("a", 3.0)]})
    assert disk.after_a_power_failure().history("ann").version == 1
    store.close()


def test_a_flush_that_fails_is_no_acknowledgement_and_may_be_repeated(tmp_path, monkeypatch):
    store = UserStore(tmp_path / "users.sqlite")

    def fail(log):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(database, "_flush", fail)
        with pytest.raises(StoreError, match=r"cannot be flushed.*power failure.*repeat the request"):
            store.append({"ann": [Event("a", 3.0, 1, "first")]})
    assert store.append({"ann": [Event("a", 3.0, 1, "first")]})["ann"].version == 1
    store.close()


def test_cached_encodings_are_not_flushed(disk):
    store = UserStore(disk.place)
    before = disk.number
    with store.database.writing(durable=False) as connection:
        connection.exec_driver_sql("PRAGMA user_version = 0")
    assert disk.number == before
    store.close()
