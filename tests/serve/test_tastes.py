"""Tastes and catalogue on the page: estimates with intervals, text search, and the initial user."""

import pytest
import torch

from palate.model.model import load_model
from palate.recommend.files import load_recommender
from palate.serve import tasting
from serving import ask, refusal, sent


@pytest.fixture
def history(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:1])[0]


@pytest.fixture
def both(serve, recommender_run):
    return serve(recommender=recommender_run)


def test_a_taste_by_the_view_is_the_models_own_chances(server, model, history):
    taste = server.post("/tastes", json={"history": sent(history)}).json()
    with torch.no_grad():
        whole, nobody = (
            model.encode([one]).category_logits[0].sigmoid().tolist() for one in (history, history.take([]))
        )
    assert (taste["by"], taste["read"], taste["least"], taste["most"]) == ("view", len(history), 0, 1)
    assert [one["name"] for one in taste["categories"]] == list(model.settings.categories)
    for one, chances, everyone in zip(taste["categories"], whole, nobody, strict=True):
        for side, chance, anybody in zip(("liked", "disliked"), chances, everyone, strict=True):
            found = one[side]
            assert found["value"] == pytest.approx(chance, abs=1e-5)
            assert found["everyone"] == pytest.approx(anybody, abs=1e-5)
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert any(one["liked"]["high"] - one["liked"]["low"] > 1e-3 for one in taste["categories"])
    known = server.get("/items", params={"item_id": history.item_ids, "most": 1}).json()["items"]
    for one in taste["categories"]:
        assert one["count"] == sum(one["name"] in item["categories"] for item in known)


def test_its_course_is_the_taste_after_each_beginning(server, history):
    taste = server.post("/tastes", json={"history": sent(history)}).json()
    ends = [point["events"] for point in taste["course"]]
    assert len(ends) == tasting.POINTS
    assert ends == sorted(set(ends))
    assert ends[-1] == len(history)
    assert [one["liked"]["value"] for one in taste["categories"]] == pytest.approx(
        taste["course"][-1]["values"]
    )
    early = server.post("/tastes", json={"history": sent(history)[: ends[1]]}).json()
    assert [one["liked"]["value"] for one in early["categories"]] == pytest.approx(
        taste["course"][1]["values"], abs=1e-5
    )
    assert taste["course"][1]["timestamp"] == history.timestamps[ends[1] - 1]


def test_a_stored_users_taste_is_that_of_the_history_and_the_same_each_time(server, history):
    server.post("/users/ann/events", json=sent(history))
    first, again = (server.post("/tastes", json={"user_id": "ann"}).json() for _ in range(2))
    given = server.post("/tastes", json={"history": sent(history)}).json()
    assert first == again
    assert (first["user_id"], first["version"]) == ("ann", len(history))
    for one, other in zip(first["categories"], given["categories"], strict=True):
        for side in ("liked", "disliked"):
            assert one[side] == pytest.approx(other[side], abs=1e-5)
    assert "no user 'bob'" in refusal(server.post("/tastes", json={"user_id": "bob"}), 404)


@pytest.mark.parametrize("events", [0, 1])
def test_of_nobody_and_of_one_event_something_is_told_too(server, history, events):
    taste = server.post("/tastes", json={"history": sent(history)[:events]}).json()
    assert len(taste["course"]) == events
    for one in taste["categories"]:
        assert one["liked"]["low"] == pytest.approx(one["liked"]["value"])
        if not events:
            assert one["liked"]["value"] == pytest.approx(one["liked"]["everyone"], abs=1e-6)


@pytest.mark.parametrize("kind", [None, "uem"])
def test_without_a_view_the_recommenders_ratings_tell(serve, run_of, recommender_run, history, kind):
    server = (
        serve(of=recommender_run) if kind is None else serve(of=run_of(kind), recommender=recommender_run)
    )
    taste = server.post("/tastes", json={"history": sent(history)}).json()
    from palate.answers.tastes import CategoryTastes

    recommender = load_recommender(recommender_run)
    expected = CategoryTastes(recommender).ratings(recommender.state(history))
    assert (taste["by"], taste["least"], taste["most"]) == ("ratings", 1, 5)
    assert taste["like_above"] == recommender.facts.like_above
    for one, rated in zip(taste["categories"], expected, strict=True):
        assert (one["name"], one["count"]) == (rated.name, rated.count)
        assert one["rating"]["value"] == pytest.approx(rated.mean)
        assert one["rating"]["high"] - one["rating"]["value"] == pytest.approx(tasting.WIDTH * rated.sd)
        assert one["liked"] is one["disliked"] is None


def test_where_nothing_tells_of_categories_it_is_said(serve, run_of, history):
    said = refusal(serve(of=run_of("uem")).post("/tastes", json={"history": sent(history)}), 404)
    assert said.startswith("tastes by category need a user encoder that predicts categories")


def test_a_new_item_of_the_history_counts(server, history):
    new = {"title": "Something new", "categories": ["Drama"], "rating": 5, "timestamp": 10**9}
    plain, more = (
        server.post("/tastes", json={"history": events}).json()
        for events in (sent(history), [*sent(history), new])
    )
    counts = [{one["name"]: one["count"] for one in taste["categories"]} for taste in (plain, more)]
    assert counts[1] == {name: count + (name == "Drama") for name, count in counts[0].items()}


def test_items_are_found_by_the_beginnings_of_their_words(both):
    def found(words, **more):
        return [one["title"] for one in both.get("/items", params={"words": words, **more}).json()["items"]]

    assert found("FILM 7") == ["Film 7 (1987)"]
    assert found("7 film") == ["Film 7 (1987)"]
    assert set(found("film 1", most=100)) == {
        f"Film {n} ({1980 + n % 20})"
        for n in range(60)
        if str(n).startswith("1") or f"{1980 + n % 20}"[0] == "1"
    }
    assert found("ilm") == found("  ") == found("no such film") == []
    assert len(found("film", most=3)) == 3
    dramas = both.get("/items", params={"words": "drama 1987"}).json()["items"]
    assert dramas
    assert all("Drama" in one["categories"] and "1987" in one["title"] for one in dramas)


def test_added_items_are_found_until_they_are_deleted(both):
    both.post(
        "/items", json={"items": [{"item_id": "x", "title": "Grüße aus Ulm (2024)", "categories": ["Drama"]}]}
    )
    for asked in ({"words": "grüsse"}, {"words": "GRÜSSE ulm"}, {"item_id": ["x", "unknown"], "most": 1}):
        assert both.get("/items", params=asked).json()["items"] == [
            {"item_id": "x", "title": "Grüße aus Ulm (2024)", "categories": ["Drama"]}
        ]
    both.delete("/items", params={"item_id": "x"})
    assert both.get("/items", params={"words": "grüsse"}).json()["items"] == []


@pytest.mark.parametrize("alone", [False, True])
def test_the_history_has_titles_and_categories(serve, recommender_run, history, tiny_data, alone):
    server = serve(of=recommender_run) if alone else serve()
    server.post("/users/ann/events", json=sent(history))
    rows = {row["item_id"]: row for row in tiny_data.items.iter_rows(named=True)}
    for event in server.get("/users/ann/history").json()["events"]:
        row = rows[event["item_id"]]
        assert event["title"] == f"{row['title']} ({row['year']})"
        assert event["categories"] == row["categories"]


def test_the_example_is_somebody_with_enough_to_see(both, history):
    made_up = both.get("/example").json()
    assert made_up["user_id"] is None
    ratings = {one["rating"] for one in made_up["history"]}
    assert ratings == {1.0, 5.0}
    events = [{"item_id": one["item_id"], "rating": one["rating"]} for one in made_up["history"]]
    assert ask(both, {"history": events})[0]["text"]
    for user, count in (("few", 2), ("some", 12), ("one", 1)):
        both.post(f"/users/{user}/events", json=sent(history)[:count])
    assert both.get("/example").json() == {"user_id": "some", "history": []}


@pytest.mark.parametrize("served", ["both", "model", "recommender", "uem"])
def test_each_kind_of_question_that_is_listed_can_be_asked(serve, run_of, recommender_run, history, served):
    server = {
        "both": lambda: serve(recommender=recommender_run),
        "model": serve,
        "recommender": lambda: serve(of=recommender_run),
        "uem": lambda: serve(of=run_of("uem")),
    }[served]()
    facts = server.get("/model").json()
    assert facts["item_noun"] == "movie"
    assert facts["category_field"] in ("genre", "category")
    for one in facts["questions"]:
        question = {
            "history": sent(history),
            "instruction": one["wording"],
            "item_ids": ["1", "2"][: one["items"]],
            "categories": facts["categories"][: one["categories"]],
        }
        (given,) = ask(server, question)
        assert given["kind"] in (one["kind"], None if one["kind"] == "preference" else one["kind"])
    kinds = {one["kind"] for one in facts["questions"]}
    assert ("recommendation" in kinds) == (served in ("both", "recommender"))
    assert (
        load_model(run_of("streaming")).settings.categories == tuple(facts["categories"]) or served == "uem"
    )
