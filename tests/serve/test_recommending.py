"""Recommendations, ratings and choices over HTTP equal the recommender's, for stored and given histories."""

import random
import subprocess

import pytest

import palate
from palate.errors import PalateError
from palate.recommend.files import load_recommender
from palate.recommend.state_bytes import pack_state, unpack_state
from palate.serve.run import serve as start_server
from palate.serve.schemas import SentItem
from palate.serve.settings import ServeSettings
from serving import command, refusal, sent, started, train_small_recommender

QUESTIONS = {
    "/recommendations": ({"k": 4}, "recommendations"),
    "/ratings": ({"item_ids": ["5", "9"]}, "ratings"),
    "/choices": ({"item_ids": ["5", "9"]}, "choices"),
}


@pytest.fixture(scope="module")
def recommender(recommender_run):
    return load_recommender(recommender_run)


@pytest.fixture
def alone(serve, recommender_run):
    """A server of a recommender without a language model."""
    return serve(of=recommender_run)


def asked(server, path, *users, **changes):
    fields, name = QUESTIONS[path]
    answered = server.post(path, json={"users": list(users), **fields, **changes})
    assert answered.status_code == 200, answered.text
    return answered.json()[name]


def history_of(data, at=0):
    return data.histories([data.user_ids[at]])[0]


def direct(recommender, path, history, **changes):
    """What the recommender itself says, as the server would."""
    fields, _ = QUESTIONS[path]
    ask = {
        "/recommendations": recommender.recommend,
        "/ratings": recommender.rate,
        "/choices": recommender.choose,
    }[path]
    (found,) = ask([history], **{**fields, **changes})
    return found


def close_to(expected):
    return pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("path", QUESTIONS)
def test_stored_users_and_given_histories_get_what_the_recommender_says(alone, recommender, tiny_data, path):
    history = history_of(tiny_data)
    alone.post("/users/ann/events", json=sent(history)).raise_for_status()
    stored, given = asked(alone, path, {"user_id": "ann"}, {"history": sent(history)})
    assert (stored.pop("user_id"), given.pop("user_id")) == ("ann", None)
    assert (stored.pop("version"), given.pop("version")) == (len(history), None)
    expected = direct(recommender, path, history)
    for one in (stored, given):
        assert one["personal"]
        if path == "/choices":
            assert one["item_id"] == expected.item_id
            assert one["probabilities"] == close_to(dict(expected.probabilities))
            assert one["by"] == "ratings"
        else:
            assert [item["item_id"] for item in one["items"]] == [item.item_id for item in expected.items]
            value = "score" if path == "/recommendations" else "rating"
            assert [item[value] for item in one["items"]] == close_to(
                [getattr(item, value) for item in expected.items]
            )


def test_a_state_grows_by_each_event_and_is_made_anew_where_only_the_history_can_tell(
    alone, recommender, tiny_data
):
    history = history_of(tiny_data)
    users = alone.app.app.state.service.users
    events = [{**event, "event_id": f"e{at}"} for at, event in enumerate(sent(history))]

    def ask(left):
        _, source = users.encoded_by(users.recommender, "ann")
        (found,) = asked(alone, "/recommendations", {"user_id": "ann"})
        expected = direct(recommender, "/recommendations", left)
        assert [one["item_id"] for one in found["items"]] == [one.item_id for one in expected.items]
        assert [one["score"] for one in found["items"]] == close_to([one.score for one in expected.items])
        return source

    alone.post("/users/ann/events", json=events[1:-2])
    assert ask(history.take(range(1, len(history) - 2))) == "anew"
    assert ask(history.take(range(1, len(history) - 2))) == "kept"
    alone.post("/users/ann/events", json=events[-2:])
    assert ask(history.take(range(1, len(history)))) == "advanced"
    alone.post("/users/ann/events", json=events[0])  # which came late
    assert ask(history) == "anew"
    alone.post("/users/ann/events", json={**events[3], "timestamp": 1_700_000_000, "event_id": "again"})
    assert ask(history.take([*range(3), *range(4, len(history)), 3])) == "anew"
    alone.delete("/users/ann/events", params={"event_id": ["again", "e0"]})
    assert ask(history.take(range(1, len(history)))) == "anew"


def test_a_state_survives_as_bytes(recommender, tiny_data):
    draw = random.Random(0)
    for at in range(3):
        history = history_of(tiny_data, at)
        cut = draw.randrange(len(history))
        state = recommender.state(history.take(range(cut)))
        again = recommender.added(unpack_state(pack_state(state)), history.take(range(cut, len(history))))
        assert recommender.recommend([again]) == recommender.recommend([recommender.added(
            state, history.take(range(cut, len(history))))])  # fmt: skip
    with pytest.raises(PalateError, match="not a recommender's state"):
        unpack_state(b"something else")


def test_someone_without_events_gets_the_populations_and_is_told(alone):
    alone.post("/users/ann/events", json={"item_id": "1", "rating": 4, "event_id": "only"})
    assert asked(alone, "/recommendations", {"user_id": "ann"})[0]["personal"]
    alone.delete("/users/ann/events", params={"event_id": "only"})
    for path in QUESTIONS:
        stored, given = asked(alone, path, {"user_id": "ann"}, {"history": []})
        assert (stored["personal"], given["personal"]) == (False, False)
        assert stored.get("items") == given.get("items")
    assert "no user 'bob' in the store" in refusal(
        alone.post("/recommendations", json={"users": [{"user_id": "bob"}]}), 404
    )


def test_lists_are_made_as_they_are_wished(alone, recommender, tiny_data):
    history = history_of(tiny_data)
    user = {"history": sent(history)}
    category = recommender.facts.categories[0]
    of_category = {
        row["item_id"] for row in recommender.items.iter_rows(named=True) if category in row["categories"]
    }
    (found,) = asked(alone, "/recommendations", user, k=50, categories=[category], seen=True)
    assert {one["item_id"] for one in found["items"]} == of_category
    (unseen,) = asked(alone, "/recommendations", user, k=60)
    assert not {one["item_id"] for one in unseen["items"]} & set(history.item_ids)
    years = dict(zip(recommender.items["item_id"], recommender.items["year"], strict=True))
    (recent,) = asked(alone, "/recommendations", user, k=60, since=1990)
    assert all(years[one["item_id"]] >= 1990 for one in recent["items"])
    plain, diverse = (
        [one["item_id"] for one in asked(alone, "/recommendations", user, k=8, diversity=share)[0]["items"]]
        for share in (0, 0.9)
    )
    assert plain[0] == diverse[0]
    assert plain != diverse


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/recommendations", {"users": []}, "users: List should have at least 1 item"),
        ("/recommendations", {"users": [{}]}, "users.0: expected either user_id or history"),
        ("/recommendations", {"users": [{"history": []}], "k": 0}, "k: expected greater than or equal to 1"),
        ("/recommendations", {"users": [{"history": []}], "k": 13}, "k: found 13, expected at most 12"),
        ("/recommendations", {"users": [{"history": []}], "diversity": 2}, "diversity: "),
        ("/recommendations", {"users": [{"history": []}], "most": 2}, "most: unknown field"),
        ("/recommendations", {"users": [{"history": []}], "categories": ["Dramma"]}, "'Dramma' is not a category"),
        ("/recommendations", {"users": [{"history": []}] * 3}, "users: found 3, expected at most 2"),
        (
            "/recommendations",
            {"users": [{"history": [{"item_id": str(item), "rating": 4} for item in range(1, 6)]}]},
            "users.0.history: found 5 events, expected at most 4",
        ),
        ("/ratings", {"users": [{"history": []}], "item_ids": []}, "neither item_ids nor items"),
        (
            "/ratings",
            {"users": [{"history": []}], "item_ids": ["1"] * 13},
            "item_ids and items: found 13, expected at most 12",
        ),
        (
            "/ratings",
            {"users": [{"history": []}], "items": [{"item_id": f"n{at}", "title": "New"} for at in range(4)]},
            "items: found 4, expected at most 3",
        ),
        ("/ratings", {"users": [{"history": []}], "items": [{"item_id": "n"}]}, "items.0.title: is missing"),
        (
            "/ratings",
            {"users": [{"history": []}], "items": [{"item_id": "1", "title": "Another"}]},
            "item '1' is already known with another title",
        ),
        ("/choices", {"users": [{"history": []}], "items": [{"item_id": "n", "title": "N"}]}, "at least two"),
        ("/ratings", {"users": [{"history": []}], "item_ids": ["none"]}, "1 item id is not known: 'none'"),
        ("/choices", {"users": [{"history": []}], "item_ids": [1]}, "expected at least two different items"),
        ("/choices", {"users": [{"history": []}]}, "neither item_ids nor items"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(serve, recommender_run, path, body, said):
    server = serve(of=recommender_run, limits={"questions": 2, "events": 4, "listed": 12, "new_items": 3})
    assert said in refusal(server.post(path, json=body), 422)


def test_a_recommender_alone_says_what_it_serves(alone, recommender, tiny_data):
    told = alone.get("/model").json()
    assert (told["card"], told["instruction"]) == (None, None)
    assert told["recommender"]["data"] == tiny_data.info.name
    assert told["items"] == told["recommender"]["items"] == len(recommender.item_ids)
    alone.post("/users/ann/events", json={"item_id": "1", "rating": 4})
    title, year = recommender.items.select("title", "year").row(0)
    assert alone.get("/users/ann/history").json()["events"][0]["title"] == f"{title} ({year})"
    for path, body in (
        ("/answers", {"questions": [{"user_id": "ann"}]}),
        ("/views", {"user_id": "ann"}),
        ("/attributions", {"user_id": "ann"}),
    ):
        said = refusal(alone.post(path, json=body), 404)
        assert "has a recommender and no language model" in said
        assert "palate serve RUN --recommender RUN2" in said
    assert "no language model" in refusal(alone.get("/users/ann/prompt"), 404)
    assert "the rating 9 is not on the model's scale" in refusal(
        alone.post("/users/ann/events", json={"item_id": "1", "rating": 9}), 422
    )
    assert alone.get("/ready").json() == {"status": "ready"}


def test_a_language_model_alone_says_how_to_recommend(server):
    assert server.get("/model").json()["recommender"] is None
    for path, (fields, _) in QUESTIONS.items():
        said = refusal(server.post(path, json={"users": [{"history": []}], **fields}), 404)
        assert "has a language model and no recommender; start  palate serve RUN --recommender RUN2" in said


def test_both_together_share_the_users(serve, recommender_run, events):
    server = serve(recommender=recommender_run)
    server.post("/users/ann/events", json=events)
    assert (
        server.post("/answers", json={"questions": [{"user_id": "ann"}]}).json()["answers"][0]["version"] == 8
    )
    assert asked(server, "/recommendations", {"user_id": "ann"})[0]["version"] == 8
    server.post("/users/ann/events", json={"item_id": "1", "rating": 5})
    assert asked(server, "/recommendations", {"user_id": "ann"})[0]["version"] == 9
    metrics = server.get("/metrics").text
    assert 'palate_recommender_states_total{source="advanced"}' in metrics
    assert 'route="/recommendations"' in metrics


NEW = [
    {"item_id": "x", "title": "New", "categories": ["Drama"]},
    {"item_id": "y", "title": "Newer", "categories": ["Comedy", "Drama"]},
]


@pytest.mark.parametrize("together", [False, True])
def test_items_that_are_added_are_rated_and_recommended_and_events_about_them_read(
    serve, recommender_run, recommender, events, together
):
    def start():
        return serve(recommender=recommender_run) if together else serve(of=recommender_run)

    server, other = start(), start()
    for one in (server, other):
        asked(one, "/recommendations", {"history": events})
    other.post("/items", json={"items": NEW[:1]}).raise_for_status()
    server.post("/items", json={"items": NEW}).raise_for_status()
    server.post("/users/ann/events", json=[*events, {"item_id": "y", "rating": 5}]).raise_for_status()
    expected = recommender.with_items([SentItem(**one).item() for one in NEW])
    history = expected_history(server, "ann")
    for one in (server, other, start()):
        (listed,) = asked(one, "/recommendations", {"user_id": "ann"}, k=62)
        (found,) = expected.recommend([history], k=62)
        assert [item["item_id"] for item in listed["items"]] == [item.item_id for item in found.items]
        assert "x" in [item["item_id"] for item in listed["items"]]
        (rated,) = asked(one, "/ratings", {"user_id": "ann"}, item_ids=["x", "y", "1"])
        assert [item["rating"] for item in rated["items"]] == close_to(
            [item.rating for item in expected.rate([history], ["x", "y", "1"])[0].items]
        )
        assert one.get("/model").json()["recommender"]["items"] == 62
    said = refusal(
        server.post("/items", json={"items": [{**NEW[0], "title": "Other"}]}), 409 if together else 422
    )
    assert "already known" in said


@pytest.mark.parametrize("path", ["/ratings", "/choices"])
def test_new_items_are_described_in_the_request_and_known_in_it_alone(alone, recommender, events, path):
    alone.post("/users/ann/events", json=events).raise_for_status()
    grown = recommender.with_items([SentItem(**one).item() for one in NEW])
    history = expected_history(alone, "ann")
    (found,) = asked(alone, path, {"user_id": "ann"}, item_ids=["1"], items=NEW)
    asks = {"/ratings": grown.rate, "/choices": grown.choose}
    (expected,) = asks[path]([history], ["1", "x", "y"])
    if path == "/ratings":
        assert [(one["item_id"], one["title"]) for one in found["items"]][1:] == [
            ("x", "New"),
            ("y", "Newer"),
        ]
        assert [one["rating"] for one in found["items"]] == close_to([one.rating for one in expected.items])
        assert [one["sd"] for one in found["items"]] == close_to([one.sd for one in expected.items])
    else:
        assert found["probabilities"] == close_to(dict(expected.probabilities))
    assert alone.get("/model").json()["recommender"]["items"] == 60
    again = alone.post(path, json={"users": [{"user_id": "ann"}], "item_ids": ["1", "x"]})
    assert "1 item id is not known: 'x'" in refusal(again, 422)


def test_items_of_a_given_history_may_be_described_too(alone, recommender, events):
    watched = {**NEW[0], "rating": 5}
    grown = recommender.with_items([SentItem(**NEW[0]).item()])
    ids, ratings = ([event[name] for event in events] for name in ("item_id", "rating"))
    history = palate.History("", [*ids, "x"], [*ratings, 5.0], list(range(len(ids) + 1)))
    untimed = [{"item_id": e["item_id"], "rating": e["rating"]} for e in events]
    (listed,) = asked(alone, "/recommendations", {"history": [*untimed, watched]}, k=60)
    (expected,) = grown.recommend([history], k=60)
    assert [one["item_id"] for one in listed["items"]] == [one.item_id for one in expected.items]
    assert "x" not in [one["item_id"] for one in listed["items"]]
    (rated,) = asked(alone, "/ratings", {"history": [*untimed, watched]}, item_ids=[], items=[NEW[0]])
    assert rated["items"][0]["rating"] == close_to(grown.rate([history], ["x"])[0].items[0].rating)
    other = {"history": [{**watched, "title": "Something else"}]}
    clash = alone.post("/ratings", json={"users": [other], "items": [NEW[0]]})
    assert "item 'x' is given twice with different texts; give each its own id" in refusal(clash, 409)


def test_an_item_that_another_server_has_added_can_be_rated(serve, recommender_run):
    server, other = serve(of=recommender_run), serve(of=recommender_run)
    other.post("/items", json={"items": NEW}).raise_for_status()
    (found,) = asked(server, "/ratings", {"history": []}, item_ids=["x", "1"])
    assert found["items"][0]["title"] == "New"


def expected_history(server, user_id):
    found = server.get(f"/users/{user_id}/history").json()["events"]
    return palate.History(
        user_id, *([event[name] for event in found] for name in ("item_id", "rating", "timestamp"))
    )


def test_requests_that_are_too_many_are_told_to_come_again(serve, recommender_run):
    server = serve(of=recommender_run, limits={"waiting": 1})
    turns = server.app.app.state.service.recommending._turns
    turns._waiting = 0
    answered = server.post("/recommendations", json={"users": [{"history": []}]})
    assert "are waiting already; try again" in refusal(answered, 429)
    assert answered.headers["retry-after"] == "1"


def test_a_deleted_user_leaves_no_state(alone, tmp_path):
    alone.post("/users/ann-of-the-test/events", json={"item_id": "1", "rating": 4})
    asked(alone, "/recommendations", {"user_id": "ann-of-the-test"})
    data = b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
    assert b"ann-of-the-test" in data
    alone.delete("/users/ann-of-the-test")
    data = b"".join(path.read_bytes() for path in tmp_path.glob("users.sqlite*"))
    assert b"ann-of-the-test" not in data
    assert b"rating_index" not in data  # a field of states


def test_the_client_recommends_rates_and_chooses(listening, recommender, tiny_data):
    history = history_of(tiny_data)
    with palate.Client(listening()) as client:
        client.add_events("ann", sent(history))
        listed = client.recommend("ann", k=3, categories=[recommender.facts.categories[0]])
        assert len(listed["items"]) <= 3
        users = [{"user_id": "ann"}, {"history": sent(history)}]
        one, other = client.recommendations(users, k=3, seen=True)
        assert one["items"] == other["items"]
        rated = client.rate(["5", "9"], history=sent(history))
        assert [item["item_id"] for item in rated["items"]] == ["5", "9"]
        assert client.ratings(users, ["5"])[0]["items"][0]["rating"] == close_to(rated["items"][0]["rating"])
        chosen = client.choose(["5", "9"], "ann")
        assert chosen["item_id"] in chosen["probabilities"]
        assert len(client.choices(users, ["5", "9"])) == 2


def test_two_models_of_other_catalogues_are_not_served(run, recommender_run, tmp_path):
    folder = tmp_path / "other"
    rows = [f"u{user},{item},{1 + (user + item) % 5}" for user in range(12) for item in range(6)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,rating", *rows]))
    palate.prepare(tmp_path / "events.csv", out=folder, min_ratings=2)
    other = train_small_recommender(folder, tmp_path / "other-run")

    def said(**settings):
        with pytest.raises(PalateError) as caught:
            start_server(ServeSettings(store=str(tmp_path / "users.sqlite"), port=0, **settings), print)
        return str(caught.value)

    assert f"{other} has another catalogue than {run}: " in said(run=run, recommender=other)
    assert "is a recommender's run, with which --recommender cannot be used" in said(
        run=recommender_run, recommender=other
    )
    assert "--backbone cannot be used" in said(run=recommender_run, backbone="x")
    assert not (tmp_path / "users.sqlite").exists()


@pytest.mark.slow
def test_the_command_serves_a_recommender_alone(recommender_run, tmp_path):
    with started(recommender_run, tmp_path, "--store", tmp_path / "users.sqlite") as server:
        client = palate.Client(server.url)
        client.add_events("ann", [{"item_id": "1", "rating": 5}])
        assert client.recommend("ann")["personal"]
    refused = subprocess.run(
        command(recommender_run, "--recommender", recommender_run), capture_output=True, text=True
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
