"""docs/serving.md is true: commands, snippet and status codes, on a running server."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import palate
from palate.client import ServerError
from palate.serve.app import create_app
from palate.serve.settings import Limits, ServeSettings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


def commands():
    blocks = re.findall(r"^```bash\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [block for text in blocks for block in re.split(r"\n(?=curl|printf)", text.strip())]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_do_what_they_say(listening, tmp_path):
    url, said = listening(), []
    assert len(commands()) == 33
    for line in commands():
        shell = line.replace(ADDRESS, url).replace("curl ", "curl --fail-with-body ")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", shell], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said.append(done.stdout)
    assert [json.loads(one)["version"] for one in said[:2]] == [1, 3]
    assert [one["user_id"] for one in json.loads(said[2])["users"]] == ["bob", "eve"]
    assert len(json.loads(said[3])["answers"]) == 2
    assert "event: done" in said[5]
    assert [one["item_id"] for one in json.loads(said[6])["items"]] == ["50", "12", "7"]
    assert [json.loads(one)["read"] for one in said[7:9]] == [3, 3]
    assert json.loads(said[10]) == {"user_id": "eve", "events": 1, "version": 3}
    assert json.loads(said[11]) == {"user_id": "ann", "events": 2, "version": 4}
    assert load_file(tmp_path / "ann.safetensors")["user_prompt"].ndim == 2
    assert json.loads(said[13]) == {"users": ["ann"]}
    assert len(json.loads(said[14])["events"]) == 1
    assert {one["title"] for one in json.loads(said[15])["items"]} == {
        f"Film {n} (1987)" for n in (7, 27, 47)
    }
    assert json.loads(said[16])["user_id"] in ("ann", "bob", "eve")
    listed, wished = (json.loads(one)["recommendations"] for one in said[25:27])
    assert [(one["user_id"], one["personal"], len(one["items"])) for one in listed] == [
        ("bob", True, 5),
        (None, False, 5),
    ]
    assert wished[0]["personal"]
    assert [one["item_id"] for one in json.loads(said[27])["ratings"][0]["items"]] == ["7", "12"]
    assert json.loads(said[28])["choices"][0]["item_id"] in ("7", "12")
    (why,), (stars,) = (json.loads(one)["answers"] for one in said[-3:-1])
    assert (why["kind"], stars["kind"], len(why["chances"])) == ("recommendation", "rating", 5)
    assert json.loads(said[-1])["explanation"]["item_id"] == "7"
    lines = [json.loads(line) for line in (tmp_path / "ann.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in lines if one["kind"] == "event"] == ["event"]
    assert lines[-1] == {"kind": "end", "lines": len(lines) - 1}
    assert json.loads(said[19]) == {"user_id": "ann", "events": 1, "exports": [], "left": []}
    assert [one["kind"] for one in json.loads(said[20])["deletions"]] == ["events", "user"]
    assert json.loads(said[21]) == {"items": 1, "events": 0}


def test_the_snippet_runs(listening):
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    names, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(snippet.replace(ADDRESS, listening()), names)
    answer, streamed, *_ = out.getvalue().split("\n")
    assert answer == streamed
    assert "'item_id': '50'" in out.getvalue()
    assert names["prompt"].dtype == np.float32
    with pytest.raises(ServerError, match="the server responded 404: no user 'ann' in the store") as caught:
        names["client"].history("ann")
    assert caught.value.status == 404


def test_the_client_asks_with_its_key_and_sends_nothing_twice(listening, tmp_path, monkeypatch):
    (tmp_path / "keys").write_text("a-key-of-the-test\n")
    url = listening(key_file=tmp_path / "keys", limits=Limits(waiting=1, batch=1))
    with pytest.raises(ServerError, match="the server responded 401"):
        palate.Client(url).model()
    with palate.Client(url, "a-key-of-the-test") as client:
        send, sent = client._http.request, []

        def lose_the_first_answer(*arguments, **content):
            response = send(*arguments, **content)
            sent.append(content)
            if len(sent) == 1:
                response.status_code = 503
                response.headers["Retry-After"] = "0"
            return response

        monkeypatch.setattr(client._http, "request", lose_the_first_answer)
        taken = client.add_many([{"user_id": "ann", "item_id": "1", "rating": 4}])
        assert taken == [{"user_id": "ann", "version": 1, "new": 0, "known": 1}]
        assert sent[0] == sent[1]
        assert client.ready()
        assert client.add_items([{"item_id": "x", "title": "y"}]) == 1
        assert client.answers([{"user_id": "ann"}])[0]["text"] == client.answer("ann")
        with pytest.raises(ServerError, match="the server responded 404"):
            list(client.stream("nobody"))


def test_every_status_is_listed():
    listed = set(re.findall(r"^\| (\d{3}) \|", DOCUMENT, re.MULTILINE))
    document = create_app(ServeSettings(run=Path("x"), store="x")).app.openapi()
    routes = [route for path in document["paths"].values() for route in path.values()]
    described = {status for route in routes for status in route["responses"]}
    assert listed == described - {"200", "400"}
