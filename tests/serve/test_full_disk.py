"""A full disk: requests are refused completely, stored data stays, and the server recovers."""

import os
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from palate.errors import StoreFullError
from palate.serve.store.store import UserStore
from serving import refusal, started

resource = pytest.importorskip("resource")
FULL = "the server's disk is full; nothing of this request was stored"
SMALL = {"item_id": "1", "rating": 4, "event_id": "small"}
LARGE = [{"item_id": str(n % 59 + 2), "rating": 3, "event_id": f"{n}-{'x' * 150}"} for n in range(2000)]


def history(http):
    return http.get("/users/ann/history").json()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not tell which I/O error it was")
@pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="only Linux limits the files of a running process"
)
def test_a_server_whose_files_cannot_grow_loses_nothing_and_goes_on(run, tmp_path):
    """The limit makes the same calls fail as a full disk does, in a process that then is killed."""
    store = tmp_path / "store" / "users.sqlite"
    store.parent.mkdir()
    with (
        started(run, tmp_path, "--store", store) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):

        def limit(size):
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        assert http.post("/users/ann/events", json=SMALL).status_code == 200
        before = history(http)
        largest = max(path.stat().st_size for path in store.parent.iterdir())
        limit(largest + 50_000)
        for _ in range(2):
            assert FULL in refusal(http.post("/users/ann/events", json=LARGE), 507)
            assert history(http) == before
        limit(4096)
        assert FULL in refusal(http.post("/users/ann/events", json=LARGE[:1]), 507)
        assert FULL in refusal(http.get("/ready"), 507)
        assert http.get("/health").status_code == 200
        assert http.post("/answers", json={"questions": [{"user_id": "ann"}]}).status_code == 200
        limit(resource.RLIM_INFINITY)
        assert http.get("/ready").status_code == 200
        assert http.post("/users/ann/events", json=LARGE).json() == {
            "user_id": "ann",
            "version": 2001,
            "new": 2000,
            "known": 0,
        }
        limit(4096)
        server.kill()
    opened = UserStore(store)
    assert opened.history("ann").version == 2001
    opened.close()


@contextmanager
def small_disk(place, size="8m"):
    """A disk of some megabytes that is there for the time of the block; gives a way to fill it up to some bytes."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here, which takes root: {mounted.stderr.strip()}")

    def fill(left=0):
        (place / "filler").unlink(missing_ok=True)
        there = os.statvfs(place)
        (place / "filler").write_bytes(bytes(max(0, there.f_bavail * there.f_frsize - left)))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as fill:
        yield tmp_path / "disk", fill


def test_a_full_disk_is_told_and_left_behind(serve, disk):
    place, fill = disk
    server = serve(store=str(place / "users.sqlite"))
    assert server.post("/users/ann/events", json=SMALL).status_code == 200
    before = history(server)
    fill(left=100_000)
    assert FULL in refusal(server.post("/users/ann/events", json=LARGE), 507)
    assert server.post("/users/ann/events", json=LARGE[:1]).json()["version"] == 2  # for which there was room
    assert server.get("/ready").status_code == 200
    fill()
    while server.post("/users/ann/events", json={"item_id": "2", "rating": 1}).status_code == 200:
        pass  # into what the log has room for
    kept = history(server)
    assert kept["events"][0] == before["events"][0]
    for refused in (
        server.post("/users/ann/events", json=LARGE),
        server.delete("/users/ann/events", params={"event_id": "small"}),
        server.delete("/users/ann"),
        server.get("/ready"),
    ):
        assert FULL in refusal(refused, 507)
    assert server.post("/answers", json={"questions": [{"user_id": "ann"}]}).status_code == 200
    again = UserStore(place / "users.sqlite")
    assert again.history("ann").version == kept["version"]
    again.close()
    fill(left=2**23)
    assert server.get("/ready").status_code == 200
    assert server.post("/users/ann/events", json=LARGE).json()["version"] == kept["version"] + 1999
    assert server.delete("/users/ann/events", params={"event_id": "small"}).status_code == 200
    assert b"small" not in b"".join(path.read_bytes() for path in place.iterdir())


@pytest.mark.slow
def test_a_full_disk_under_postgresql_is_told_and_left_behind(serve, postgres):
    place = postgres.folder / "disk"
    with small_disk(place, "32m") as fill, postgres.database_in(place, "small") as url:
        server = serve(store=url)
        assert server.post("/users/ann/events", json=SMALL).status_code == 200
        before = history(server)
        fill()
        assert FULL in refusal(server.post("/users/ann/events", json=LARGE), 507)
        assert history(server) == before
        assert server.post("/answers", json={"questions": [{"user_id": "ann"}]}).status_code == 200
        assert server.delete("/users/ann/events", params={"event_id": "small"}).status_code == 200
        fill(left=2**24)
        assert server.post("/users/ann/events", json=LARGE).json()["new"] == 2000
        assert server.get("/ready").status_code == 200


def test_an_item_that_could_not_be_kept_is_not_known(server, monkeypatch):
    item = {"item_id": "new-1", "title": "Film (1999)"}

    def full(*_arguments):
        raise StoreFullError("full")

    monkeypatch.setattr(server.app.app.state.service.store, "add_items", full)
    assert FULL in refusal(server.post("/items", json={"items": [item]}), 507)
    unknown = server.post("/users/ann/events", json={"item_id": "new-1", "rating": 4})
    assert "1 item id is not known: 'new-1'" in refusal(unknown, 422)
    monkeypatch.undo()
    assert server.post("/items", json={"items": [item]}).status_code == 200
    assert server.post("/users/ann/events", json={"item_id": "new-1", "rating": 4}).status_code == 200
