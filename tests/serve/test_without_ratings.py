"""Events of data without ratings: ratings may be omitted, with the same effect everywhere."""

import json

import pytest

from bookshop import books, purchases, write_rows
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.model.model import load_model
from palate.schema import History
from palate.training.train import train_run
from serving import refusal
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def shop(tiny_sentence_encoder, tmp_path_factory):
    """A run on purchases, and the items of one customer."""
    place = tmp_path_factory.mktemp("purchases")
    items = write_rows(books(), place / "books.jsonl")
    events = write_rows(purchases(books()), place / "purchases.csv")
    prepare(events, place / "data", own=OwnData(items=str(items)))
    model = {
        "user_encoder": {
            "kind": "streaming",
            "num_queries": 8,
            "d_model": 16,
            "num_layers": 1,
            "num_heads": 2,
        }
    }
    train_run(
        tiny_recipe(
            place / "data", tiny_sentence_encoder, place / "cache", model=model, train={"max_steps": 2}
        ),
        place / "run",
    )
    data = load_dataset(place / "data")
    return place / "run", data.histories(data.user_ids[:1])[0].item_ids[:12]


def test_events_without_ratings_are_taken_in_and_asked_about(serve, shop):
    run, bought = shop
    server = serve(of=run)
    events = [{"item_id": item, "timestamp": number} for number, item in enumerate(bought)]
    assert server.get("/model").json()["unrated"] == 1.0
    assert server.post("/users/ann/events", json=events).json()["new"] == len(bought)
    kept = server.get("/users/ann/history").json()["events"]
    assert [(one["item_id"], one["rating"]) for one in kept] == [(item, 1.0) for item in bought]
    line = {"user_id": "bob", "item_id": bought[0]}
    many = server.post("/events", content=json.dumps(line), headers={"Content-Type": "application/x-ndjson"})
    assert many.json()["users"][0]["new"] == 1
    history = History("ann", bought, [1.0] * len(bought), list(range(len(bought))))
    expected = load_model(run).generate([history])[0]
    questions = [{"user_id": "ann"}, {"history": [{"item_id": item} for item in bought]}]
    answers = server.post("/answers", json={"questions": questions}).json()["answers"]
    assert [one["text"] for one in answers] == [expected, expected]
    assert "the rating 3 is not on the model's scale; expected one of 1, 2" in refusal(
        server.post("/users/ann/events", json={"item_id": bought[0], "rating": 3}), 422
    )


def test_a_model_of_ratings_wants_them(server):
    said = "rating is missing, expected a number"
    events = [{"item_id": "1", "rating": 4}, {"item_id": "2"}]
    assert refusal(server.post("/users/ann/events", json=events), 422) == f"1: {said}"
    given = {"questions": [{"history": events}]}
    assert refusal(server.post("/answers", json=given), 422) == f"history.1: {said}"
    assert server.get("/users/ann/history").status_code == 404
