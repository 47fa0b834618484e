"""A model with its own decisions over HTTP: drafts, and vectors of categories."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from palate.model.model import load_model
from palate.schema import Item
from palate.serve.batcher import Batcher
from palate.serve.engine import ServedModel
from palate.serve.settings import Limits
from serving import ask, sent
from tiny import unbound_model


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_data):
    """A model bound to the data, whose answers are constrained, and questions about categories have vectors."""
    folder = tmp_path_factory.mktemp("universal") / "model"
    model = unbound_model(grammar=True).bind(tiny_data)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return load_model(run, device="cpu")


@pytest.fixture(scope="module")
def questions(model):
    one, other = model.settings.categories[:2]
    return [
        "",
        "Which genres does this user like?",
        f"Does this user like {one}?",
        f"Which does this user prefer, {one} or {other}?",
        "Name this user's favorite genres.",
    ]


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:5])


@pytest.fixture
def server(serve, run, histories):
    server = serve(of=run)
    for history in histories:
        events = sent(history)
        for part in (events[:-2], events[-2:]):  # the second time a state goes on
            assert server.post(f"/users/{history.user_id}/events", json=part).status_code == 200
            ask(server, {"user_id": history.user_id})
    return server


def worded(question):
    return {"instruction": question} if question else {}


def direct(model, histories, question):
    """What the model says, one user at a time."""
    return [model.generate([history], question)[0] for history in histories]


def test_stored_and_given_histories_are_answered_as_directly_alone(server, model, histories, questions):
    for question in questions:
        wanted = direct(model, histories, question)
        for history, text in zip(histories, wanted, strict=True):
            for source in ({"user_id": history.user_id}, {"history": sent(history)}):
                assert ask(server, {**source, **worded(question)})[0]["text"] == text


def test_and_in_a_batch_of_different_questions(server, model, histories, questions):
    together = [
        ({"user_id": history.user_id, **worded(question)}, history, question)
        for history in histories
        for question in questions
    ]
    answers = ask(server, *(asked for asked, _, _ in together))
    assert [answer["text"] for answer in answers] == [
        direct(model, [history], question)[0] for _, history, question in together
    ]
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda one: ask(server, one[0])[0]["text"], together))
    assert again == [answer["text"] for answer in answers]


def test_a_category_is_asked_about_with_its_vector(run, model, histories, questions):
    served = ServedModel(run, device="cpu")
    asked = served.asked(histories[0], questions[2])
    assert asked.question.entities
    assert asked.user.entities is not None
    wanted = model.complete(model.encode(histories[:1]), questions[2])
    assert served.model.complete(asked.user, asked.question).embeddings.equal(wanted.embeddings)


def test_a_kept_user_has_the_same_draft_and_vectors_as_one_encoded_anew(run, tiny_data, histories, questions):
    served = ServedModel(run, device="cpu")
    anew = served.model.encode(histories[:1])
    kept = served._encoded(1, anew, state_of(served.model, histories[0]))
    for question in questions:
        user = served.asked_of(kept, question).user
        assert user.embeddings.equal(anew.embeddings)
        assert user.named.equal(anew.named)
        assert (user.entities is not None) == bool(served.model.question(question).entities)
        assert user.entities is None or user.entities.equal(anew.entities)


def state_of(model, history):
    state = model.new_state()
    state.add(history)
    return state.to_bytes()


def test_drafts_are_checked_for_a_whole_batch_at_once(run, histories, monkeypatch):
    served = ServedModel(run, device="cpu")
    drafted = []
    kept = "palate.model.answering.kept_drafts"
    monkeypatch.setattr(kept, lambda *given: drafted.append(len(given[3])) or [True] * len(given[3]))
    questions = [served.asked(history, "") for history in histories]
    batcher = Batcher(Limits(batch=8))
    batcher.ask(questions)
    for one in questions:
        one.answer.result(20)
    batcher.stop()
    assert sum(drafted) == len(histories)


def test_categories_of_a_given_item_can_be_said_and_other_questions_of_the_batch_are_as_ever(
    run, model, histories
):
    served = ServedModel(run, device="cpu")
    new = Item("new", "New", ("Unheard of",), None, None)
    history = histories[0]
    longer = type(history)(
        "", [*history.item_ids, "new"], [*history.ratings, 5.0], [*history.timestamps, 2**31]
    )
    questions = [served.asked(history, ""), served.asked(longer, "", [new])]
    batcher = Batcher(Limits(batch=8))
    batcher.ask(questions)
    texts = [one.answer.result(20) for one in questions]
    batcher.stop()
    assert texts == [model.generate([history])[0], model.with_items([new]).generate([longer])[0]]
