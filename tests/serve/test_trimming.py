"""Cached encodings of models that are no longer served can be deleted; others and events stay."""

from typer.testing import CliRunner

from palate.cli import app
from palate.serve.store import store as store_module
from palate.serve.store.changes import Event
from palate.serve.store.keeping import Encoded
from palate.serve.store.store import UserStore
from serving import ask


def test_other_models_encodings_go_in_parts_and_out_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "AT_ONCE", 2)
    store = UserStore(tmp_path / "users.sqlite")
    names = [f"user{number}" for number in range(5)]
    store.append({name: [Event("a", 1.0)] for name in names})
    for name in names:
        found = store.encoded(name, "old")
        for model in ("old", "older", "new"):
            store.keep(found.key, model, Encoded(1, f"the prompt of {model}.".encode())).result()
    assert store.trim({"new"}) == 10
    assert all(store.encoded(name, "new").kept == Encoded(1, b"the prompt of new.") for name in names)
    assert all(store.encoded(name, "old").kept is None for name in names)
    assert all(store.history(name).version == 1 for name in names)
    assert store.trim({"new"}) == 0
    store.close()
    assert b"the prompt of old" not in (tmp_path / "users.sqlite").read_bytes()


def test_the_command_keeps_what_the_named_runs_have_made(serve, run, run_of, tmp_path, events):
    place = tmp_path / "users.sqlite"
    for of in (run, run_of("resampler")):
        server = serve(of=of)
        assert server.post("/users/ann/events", json=events).status_code == 200
        ask(server, {"user_id": "ann"})

    def trimmed(*runs):
        done = CliRunner().invoke(app, ["store", "trim", *map(str, runs), "--store", str(place)])
        assert done.exit_code == 0, done.output
        return done.stdout.split(",")[0]

    assert trimmed(run, run_of("resampler")) == "deleted 0 encodings of other models"
    assert trimmed(run) == "deleted 1 encoding of other models"
    assert trimmed(run) == "deleted 0 encodings of other models"
