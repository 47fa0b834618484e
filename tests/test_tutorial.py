"""docs/tutorial.md is true: files, commands and snippets in order, and their stated output."""

import io
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import palate
from palate.cli import app

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ADDRESS = "http://127.0.0.1:8000"
TRAINING = "## 5. Train it further"


class Reader:
    """Does what a page says, in one folder."""

    def __init__(self, folder):
        self.folder, self.said, self.names, self.server, self.address = folder, "", {}, None, None

    def follow(self, page):
        for kind, text in BLOCK.findall(page):
            getattr(self, f"do_{kind}")(text)

    def do_yaml(self, text):
        name = re.match(r"# (\S+\.yaml)\n", text)[1]
        (self.folder / name).write_text(text)

    def do_sh(self, text):
        self.said = ""
        for line in text.strip().splitlines():
            words = shlex.split(line)
            if words[:2] == ["palate", "serve"]:
                self.serve(words[2:])
            elif words[0] == "palate":
                done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
                assert done.exit_code == 0, done.output
                self.said += done.output
            else:
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                self.said += done.stdout

    def do_python(self, text):
        said = io.StringIO()
        with redirect_stdout(said):
            exec(text.replace(ADDRESS, self.address or ADDRESS), self.names)
        self.said = said.getvalue()

    def do_text(self, text):
        """Each line was said, whatever the width of a terminal; in this order."""
        said, at = " ".join(self.said.split()), 0
        for line in text.strip().splitlines():
            words = " ".join(line.split())
            at = said.find(words, at)
            assert at >= 0, f"{line!r} is not in what was said:\n{self.said}"

    def serve(self, words):
        words = [word if word != "8000" else "0" for word in words]
        place = os.pathsep.join([str(Path(palate.__file__).parents[1]), *sys.path])
        self.server = subprocess.Popen(
            [sys.executable, "-m", "palate", "serve", *words],
            env={**os.environ, "PYTHONPATH": place, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self.server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found[0]
                break
        assert self.address, "the server did not start"
        for _ in range(600):
            with suppress(httpx.ConnectError):
                if httpx.get(f"{self.address}/ready").status_code == 200:
                    return
            assert self.server.poll() is None, "the server has ended"
            time.sleep(0.1)
        raise AssertionError("the server is not ready")


@contextmanager
def reader(folder, monkeypatch):
    monkeypatch.chdir(folder)
    one = Reader(folder)
    try:
        yield one
    finally:
        if one.server is not None:
            one.server.terminate()
            one.server.wait()
            one.server.stderr.close()


def test_its_first_half_is_true(tmp_path, monkeypatch):
    with reader(tmp_path, monkeypatch) as one:
        one.follow(TUTORIAL[: TUTORIAL.index(TRAINING)])
    assert (tmp_path / "data" / "shop" / "dataset.json").is_file()


@pytest.mark.slow  # a minute: a model and a recommender are trained, and a server started
def test_the_whole_of_it_is_true(tmp_path, monkeypatch):
    with reader(tmp_path, monkeypatch) as one:
        one.follow(TUTORIAL)
    assert one.said.splitlines() == ["The user likes Chocolate, Sweet, Nuts and doesn't like any tag", "3"]


def test_the_first_answer_of_the_readme_is_true(tmp_path, monkeypatch):
    _, _, page = (ROOT / "README.md").read_text().partition("    palate ask example --user jonas\n")
    answer, *_ = page.partition("Ask in your own words")[0].split("downloads nothing:\n")[1:]
    with reader(tmp_path, monkeypatch) as one:
        one.do_sh("palate ask example --user jonas")
        one.do_text("\n".join(line for line in answer.splitlines() if line.strip()))
