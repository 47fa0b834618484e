"""Free questions over HTTP: answered from the recommender, by the language model, or refused with 422."""

import json

import pytest

import palate
from palate.answers import load
from palate.answers.answerer import Answerer
from palate.answers.writer import load_writer
from palate.recommend.files import load_recommender
from serving import ask, listening, refusal, sent
from tiny_causal import save_causal


@pytest.fixture(autouse=True, scope="module")
def without_encoder():
    """As where no sentence encoder is installed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(load, "missing_modules", lambda extra: ["sentence_transformers"])
        load.question_matcher.cache_clear()
        yield
    load.question_matcher.cache_clear()


@pytest.fixture(scope="module")
def recommender(recommender_run):
    return load_recommender(recommender_run)


@pytest.fixture(scope="module")
def answerer(recommender):
    return Answerer(recommender, load.question_matcher, field="genre")


@pytest.fixture
def alone(serve, recommender_run):
    """A server of a recommender without a language model."""
    return serve(of=recommender_run)


@pytest.fixture
def history(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:1])[0]


WHY = "What should I recommend to this user and why?"


def test_stored_and_given_histories_get_the_answer_of_python(alone, answerer, history):
    alone.post("/users/ann/events", json=sent(history)).raise_for_status()
    (direct,) = answerer.answer([history], WHY, k=2)
    for who in ({"user_id": "ann"}, {"history": sent(history)}):
        (given,) = ask(alone, {**who, "instruction": WHY, "k": 2})
        assert given["text"] == direct.text
        assert (given["kind"], given["source"], given["by"]) == ("recommendation", "template", "next item")
        assert given["match"] == pytest.approx(direct.match)
        assert [one["item_id"] for one in given["chances"]] == [one.item_id for one in direct.chances]
        assert [one["item_id"] for one in given["reasons"]] == [one.item_id for one in direct.reasons]


def test_items_are_named_by_title_or_given_by_id(alone, recommender, history):
    title = recommender.items["title"][40]
    named = ask(
        alone, {"history": sent(history), "instruction": f'How many stars would they give "{title}"?'}
    )[0]
    given = ask(
        alone,
        {
            "history": sent(history),
            "instruction": "How many stars would they give {item}?",
            "item_ids": [recommender.item_ids[40]],
        },
    )[0]
    assert named["text"] == given["text"]
    assert named["entities"][0]["said"].strip('"') == title
    assert given["entities"][0]["said"] == ""


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (
            "What is the weather like?",
            "this is not a question about a user that can be answered; expected one about",
        ),
        ("What does user 42 like?", "the question is about 'user 42'"),
        ('Would they like "Nothing of the Kind"?', "no category or item is called 'Nothing of the Kind'"),
        ("Which genres does this user like?", "needs a user encoder that predicts categories; use  packaged"),
    ],
)
def test_what_cannot_be_answered_is_refused(alone, history, question, said):
    answered = alone.post(
        "/answers", json={"questions": [{"history": sent(history), "instruction": question}]}
    )
    assert said in refusal(answered, 422)


def test_a_refusal_lists_what_is_known_here(alone, history):
    body = {"questions": [{"history": sent(history), "instruction": "Who are you?"}]}
    said = refusal(alone.post("/answers", json=body), 422)
    assert "what to recommend to the user, and why (recommendation)" in said
    assert "(profile)" not in said


def test_a_language_model_alone_answers_what_it_was_trained_on(server, model, history):
    (given,) = ask(
        server, {"history": sent(history), "instruction": "Sort the genres this user likes and dislikes"}
    )
    assert (given["kind"], given["source"]) == ("preference", "model")
    assert given["text"] == model.generate([history], "Which genres does this user like and dislike?")[0]
    body = {"questions": [{"history": sent(history), "instruction": WHY}]}
    assert "needs a recommender; train one with  palate train" in refusal(
        server.post("/answers", json=body), 422
    )


def test_answers_are_streamed_in_one_piece(alone, history):
    body = {"questions": [{"history": sent(history), "instruction": WHY}], "stream": True}
    with alone.stream("POST", "/answers", json=body) as response:
        told = "".join(response.iter_text())
    (whole,) = ask(alone, {"history": sent(history), "instruction": WHY})
    assert [line for line in told.split("\n") if line.startswith("event")] == [
        "event: piece", "event: answer", "event: done",
    ]  # fmt: skip
    assert whole["text"] in told


def test_a_language_model_writes_the_sentences(serve, recommender_run, recommender, history, tmp_path):
    author = str(save_causal(tmp_path / "author"))
    server = serve(of=recommender_run, writer=author)
    (given,) = ask(server, {"history": sent(history), "instruction": WHY, "k": 2})
    writing = Answerer(recommender, load.question_matcher, field="genre", writer=load_writer(author, "cpu"))
    (direct,) = writing.answer([history], WHY, k=2)
    assert (given["source"], given["text"]) == ("written", direct.text)
    body = {"questions": [{"history": sent(history), "instruction": WHY, "k": 2}], "stream": True}
    with server.stream("POST", "/answers", json=body) as response:
        assert f'"text":{json.dumps(direct.text)}' in "".join(response.iter_text()).replace('": ', '":')


def test_scores_are_explained(alone, recommender, history):
    alone.post("/users/ann/events", json=sent(history)).raise_for_status()
    item = recommender.recommend([history], 1)[0].items[0].item_id
    for by in ("next item", "ratings"):
        found = alone.post("/explanations", json={"user_id": "ann", "item_id": item, "by": by}).json()
        assert found["source"] == "template"
        assert found["explanation"]["by"] == by
        named = [one["item_id"] for one in found["explanation"]["items"]]
        assert set(named) <= set(history.item_ids)
        assert all(one["title"] in found["text"] for one in found["explanation"]["items"])
    assert "is not known" in refusal(
        alone.post("/explanations", json={"user_id": "ann", "item_id": "?"}), 422
    )


def test_a_language_model_alone_says_what_explains(server):
    said = refusal(server.post("/explanations", json={"history": [], "item_id": "1"}), 422)
    assert "--recommender RUN2" in said


def test_costs_are_bounded(alone, history):
    question = {"history": sent(history), "instruction": WHY}
    said = refusal(alone.post("/answers", json={"questions": [{**question, "k": 11}]}), 422)
    assert "questions.0.k: found 11, expected at most 10" in said


def test_the_client_asks_and_explains(recommender_run, recommender, history, tmp_path):
    with listening(recommender_run, tmp_path / "users.sqlite") as url, palate.Client(url) as client:
        answer = client.ask(WHY, history=sent(history))
        assert answer["kind"] == "recommendation"
        item = answer["chances"][0]["item_id"]
        assert client.explanation(item, history=sent(history))["explanation"]["item_id"] == item
