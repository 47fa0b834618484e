"""Upgrading the model of a running server: prepared in the background, compared, and rolled back."""

import time

import pytest

from palate.errors import DataError, MismatchError
from palate.model.model import load_model
from palate.serve.replacing import check_replaces
from palate.serve.run import serve as start
from palate.serve.settings import Limits, ServeSettings
from palate.serve.store.store import UserStore
from palate.serve.store.upgrading import Decision, Pair
from serving import ask, expected, refusal, sent, train_small_recommender

NAMES = ["ann", "bob", "eve"]
ALL = {"panel_changed": 1.0, "panel_f1_loss": 1.0}
"""Limits by which nothing is held back."""


@pytest.fixture
def old(run_of):
    return run_of("streaming")


@pytest.fixture
def new(run_of):
    return run_of("recency")


@pytest.fixture
def people(tiny_data):
    return dict(zip(NAMES, tiny_data.histories(tiny_data.user_ids[:3]), strict=True))


@pytest.fixture
def stored(serve, old, people):
    """A store of three users who have been answered by the old model."""
    server = serve(of=old)
    for name, history in people.items():
        assert server.post(f"/users/{name}/events", json=sent(history)).status_code == 200
    ask(server, *({"user_id": name} for name in people))
    server.__exit__(None, None, None)
    return people


def decided(server, reached=lambda state: state["phase"] == "decided"):
    while not reached(state := server.get("/upgrade").json()):
        assert state["phase"] != "failed", state["reason"]
        time.sleep(0.01)
    return state


def texts(server):
    return [one["text"] for one in ask(server, *({"user_id": name} for name in NAMES))]


def sources(server):
    lines = [
        line for line in server.get("/metrics").text.splitlines() if "palate_user_prompts_total{" in line
    ]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def test_the_new_model_answers_when_all_users_are_prepared(serve, stored, old, new):
    server = serve(of=new, previous=old, limits=ALL)
    state = decided(server)
    assert (state["serving"], state["users"], state["prepared"]) == ("new", 3, 3)
    assert state["old"] != state["new"]
    assert state["drift"]["users"] == 3
    assert 0 <= state["drift"]["f1_old"] <= 1
    before = sources(server)
    assert texts(server) == expected(load_model(new), list(stored.values()))
    after = sources(server)
    assert after["kept"] - before["kept"] == 3, "nobody waits for an encoding"
    assert server.get("/model").json()["model"] == state["new"]
    told = server.get("/metrics").text
    assert 'palate_upgrade_users{state="prepared"} 3.0' in told
    assert "palate_upgrade_serving 1.0" in told


def test_the_old_model_takes_over_again_and_knows_what_came_meanwhile(serve, stored, old, new, events):
    server = serve(of=new, previous=old, limits=ALL)
    decided(server)
    taken = server.post(
        "/users/ann/events", json={**events[0], "rating": 1.0, "timestamp": 2_000_000_000 - 10**9}
    )
    version = taken.json()["version"]
    back = server.post("/upgrade", json={"serve": "old"}).json()
    assert (back["serving"], back["reason"]) == ("old", "the old model was requested")
    assert back["drift"]["users"] == 3, "how the answers differ stays known"
    (answer,) = ask(server, {"user_id": "ann"})
    assert answer["version"] == version
    history = UserStore(server.app.app.state.service.store.database.url.database).history("ann").history
    assert [answer["text"]] == expected(load_model(old), [history])
    assert server.get("/model").json()["model"] == back["old"]
    server.__exit__(None, None, None)
    again = serve(of=new, previous=old, limits=ALL)
    assert decided(again)["serving"] == "old", "also after a restart"
    assert again.post("/upgrade", json={"serve": "new"}).json()["serving"] == "new"
    assert ask(again, {"user_id": "ann"})[0]["version"] == version


def test_a_model_whose_answers_drift_is_held_back(serve, stored, old, new, monkeypatch):
    async def said(service, _user_id):
        return service.name

    monkeypatch.setattr("palate.serve.drift._said", said)
    server = serve(of=new, previous=old, limits={"panel_changed": 0.0, "panel_f1_loss": 1.0})
    state = decided(server)
    assert state["serving"] == "old"
    assert state["reason"].startswith("held back: ")
    assert state["drift"]["alarms"] == ["100% of the answers change, expected at most 0%"]
    assert texts(server) == expected(load_model(old), list(stored.values()))
    assert "palate_upgrade_alarm 1.0" in server.get("/metrics").text
    assert server.post("/upgrade", json={"serve": "new"}).json()["serving"] == "new"
    assert texts(server) == expected(load_model(new), list(stored.values()))


def test_a_loss_of_f1_is_an_alarm_too(serve, stored, old, new, monkeypatch):
    monkeypatch.setattr(
        "palate.serve.drift.panel_f1", lambda service, _: 0.9 - 0.3 * (service.name == new.name)
    )
    state = decided(serve(of=new, previous=old, limits={"panel_changed": 1.0}))
    assert state["serving"] == "old"
    assert state["drift"]["alarms"] == ["F1 falls from 0.900 to 0.600, expected a loss of at most 0.05"]


def test_all_servers_of_a_store_follow(serve, stored, old, new):
    first, second = (serve(of=new, previous=old, limits=ALL) for _ in range(2))
    decided(first)
    decided(second)
    first.post("/upgrade", json={"serve": "old"})
    decided(second, lambda state: state["serving"] == "old")
    assert texts(first) == texts(second) == expected(load_model(old), list(stored.values()))


def test_a_deleted_user_is_gone_from_both_models(serve, stored, old, new):
    server = serve(of=new, previous=old, limits=ALL)
    decided(server)
    server.delete("/users/ann")
    for which in ("new", "old"):
        server.post("/upgrade", json={"serve": which})
        asked = server.post("/answers", json={"questions": [{"user_id": "ann"}]})
        assert "no user 'ann'" in refusal(asked, 404)
    store = server.app.app.state.service.store
    state = server.get("/upgrade").json()
    assert [store.upgrades.progress(state[which]) for which in ("old", "new")] == [(2, 2), (2, 2)]


def test_a_recommender_alone_takes_anothers_place(serve, stored, recommender_run, tiny_data, tmp_path):
    other = train_small_recommender(tiny_data.path, tmp_path / "other")
    server = serve(of=other, previous=recommender_run, limits=ALL)
    state = decided(server)
    assert (state["serving"], state["prepared"], state["drift"]["f1_old"]) == ("new", 3, None)


def test_a_server_of_one_model_says_how_to_start_with_two(server):
    assert "palate serve NEW --previous OLD" in refusal(server.get("/upgrade"), 404)
    assert "palate serve NEW --previous OLD" in refusal(server.post("/upgrade", json={"serve": "new"}), 404)


def test_what_cannot_take_anothers_place_is_refused(old, new, recommender_run, tmp_path):
    def check(**settings):
        check_replaces(ServeSettings(store=str(tmp_path / "users.sqlite"), **settings))

    with pytest.raises(MismatchError, match="is the new run itself; give the run that was served before"):
        check(run=old, previous=old)
    with pytest.raises(MismatchError, match="is a recommender's; give runs of the same kind"):
        check(run=old, previous=recommender_run)
    with pytest.raises(MismatchError, match="--recommender is given alone"):
        check(run=new, previous=old, recommender=recommender_run)
    with pytest.raises((MismatchError, DataError), match="gone"):
        start(ServeSettings(run=new, previous=tmp_path / "gone", store=str(tmp_path / "users.sqlite")), print)
    check(run=new, previous=old)


def test_the_first_decision_holds_unless_another_is_asked_for(store):
    pair = Pair("a", "b")
    assert store.upgrades.decision(pair) is None
    first = Decision("old", "held back", '{"x": 1}')
    assert store.upgrades.decide(pair, first, overwrite=False) == first
    assert store.upgrades.decide(pair, Decision("new", "prepared"), overwrite=False) == first
    assert store.upgrades.decide(pair, Decision("new", "asked for"), overwrite=True) == Decision(
        "new", "asked for", '{"x": 1}'
    )
    assert store.upgrades.decision(Pair("b", "a")) is None


def test_limits_of_the_panel_are_checked():
    with pytest.raises(ValueError, match="panel_changed"):
        Limits(panel_changed=2.0)


def test_a_deleted_user_goes_out_of_the_exports_of_both_runs(serve, stored, old, new, tmp_path, people):
    from dataclasses import replace

    import palate

    mine = [replace(history, user_id=name) for name, history in people.items()]
    for number, run in enumerate((old, new)):
        palate.export_prompts(run, mine, tmp_path / f"prompts{number}", device="cpu")
    server = serve(of=new, previous=old, limits=ALL)
    gone = server.delete("/users/ann").json()
    assert gone["exports"] == [str(tmp_path / "prompts1"), str(tmp_path / "prompts0")]
    assert gone["left"] == []
    for number in range(2):
        assert palate.read_prompts(tmp_path / f"prompts{number}").user_ids == ["bob", "eve"]
    assert server.delete("/users/ann").json() == {"user_id": "ann", "events": 0, "exports": [], "left": []}
