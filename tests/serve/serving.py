"""Starts servers in threads and in separate processes, and computes their expected responses."""

import asyncio
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch

import palate
from app_in_thread import app_in_thread
from palate.config.recipe import Recipe
from palate.model.model import load_model
from palate.recommend.train import train_recommender
from palate.serve.app import create_app
from palate.serve.settings import ServeSettings

ENCODERS = {
    "streaming": {"kind": "streaming", "num_queries": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
    "recency": {
        "kind": "streaming",
        "num_queries": 8,
        "d_model": 16,
        "num_layers": 1,
        "num_heads": 2,
        "recency": True,
    },
    "uem": {"kind": "uem", "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16},
    "resampler": {"kind": "resampler", "num_queries": 6, "d_model": 16, "num_layers": 1, "num_heads": 2},
    "text": {"kind": "text", "max_length": 200},
    "universal": {"kind": "universal", "d_model": 16, "num_layers": 1, "num_heads": 2},
    "latent": {
        "kind": "universal",
        "d_model": 16,
        "num_layers": 1,
        "num_heads": 2,
        "latent": {"num_queries": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
    },
}
"""Small user encoders, by a name of each."""
SRC = Path(palate.__file__).parents[1]


def bytes_of(folder):
    """Return the bytes of all files in the folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@contextmanager
def listening(run, store, **settings):
    """Serve on a free port, in a thread; return the address."""
    app = create_app(ServeSettings(run=run, store=str(store), **settings))
    with app_in_thread(app) as url:
        yield url


class Server:
    """``palate serve`` in a separate process."""

    def __init__(self, process, url, log):
        self.process, self.url, self.log = process, url, log

    @property
    def said(self):
        return self.log.read_text()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Send SIGTERM, as an orchestrator does; return the exit status."""
        self.process.terminate()
        return self.process.wait(60)


def command(*arguments):
    return [sys.executable, "-m", "palate", "serve", *map(str, arguments)]


@contextmanager
def started(run, folder, *arguments, port=0, files=None):
    """Start a server and wait until it answers; it is killed at the end. ``files`` limits its open files."""
    log = folder / f"log-{time.monotonic_ns()}"
    environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "PALATE_STORE": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            command(run, "--port", port, *arguments),
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
            preexec_fn=files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))),
        )
    server = Server(process, "", log)
    try:
        deadline = time.monotonic() + 400
        while not server.url or not _ready(server.url):
            assert process.poll() is None, server.said
            assert time.monotonic() < deadline, server.said
            time.sleep(0.1)
            found = re.search(r"serving on (http://\S+)", server.said)
            server.url = found[1] if found else ""
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def _ready(url):
    try:
        return httpx.get(f"{url}/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False


def append(users, sent):
    """Add events as a request does."""
    return asyncio.run(users.append(sent))


def refusal(response, status):
    """Check the format of an error response, and return its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert set(said) == {"type", "title", "status", "detail"}
    assert said["status"] == status
    assert "\n" not in said["detail"]
    return said["detail"]


def sent(history):
    columns = zip(history.item_ids, history.ratings, history.timestamps, strict=True)
    return [dict(zip(("item_id", "rating", "timestamp"), row, strict=True)) for row in columns]


def prompts_of(model, histories):
    """Compute user prompts from scratch; a streaming encoder reads whole histories, as in training."""
    if hasattr(model.user_encoder, "init_state"):
        with torch.no_grad():
            return [model.user_encoder(model.events([one])).embeddings[0] for one in histories]
    return model.encode(histories).split()


def expected(model, histories, instruction=None):
    return [model.generate_from([prompt], instruction)[0] for prompt in prompts_of(model, histories)]


def ask(server, *questions):
    answered = server.post("/answers", json={"questions": list(questions)})
    assert answered.status_code == 200, answered.text
    return answered.json()["answers"]


def train_small_recommender(data, folder):
    """Train a recommender's run on a dataset, in a second."""
    settings = {"texts": False, "rounds": 1, "rating_rank": 2, "rating_iterations": 3}
    return train_recommender(Recipe(data={"path": data}, recommend=settings, train={"threads": 1}), folder)


def sharpen(run):
    """Make a run's model answer differently for different users, which its few training steps do not achieve."""
    model = load_model(run)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    shutil.rmtree(run / "model")
    model.save_pretrained(run / "model")
