"""generate, export, evaluate and the server encode a history the same way, for every user encoder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load
from typer.testing import CliRunner

import palate
from bookshop import books, purchases, write_rows
from palate.cli.app import app
from palate.config.recipe import TaskSettings
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.data.windows import make_examples
from palate.encoders.batch import windows_of
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.model.answer import answer
from palate.model.model import load_model
from palate.schema import History, Windows
from palate.tasks import load_task
from palate.training.train import train_run
from palate.words import printable
from serving import ENCODERS, ask, sent, train_small_recommender
from tiny import tiny_recipe

KINDS = [
    "streaming", "recency", "uem", "resampler", "text", "universal", "latent", "like-tokens", "uem-like-tokens",
]  # fmt: skip
WINDOW = 10  # of the tiny runs


def long_history(data):
    """More events than any window, and most items rated twice."""
    first, second = data.histories(data.user_ids[:2])
    both = [
        *zip(first.item_ids, first.ratings, strict=True),
        *zip(second.item_ids, second.ratings, strict=True),
    ]
    both += [(item, 6 - rating) for item, rating in both[: len(both) // 2]]
    items, ratings = zip(*both, strict=True)
    return History("long", items, ratings, range(1_000, 1_000 + len(both)))


def short_history(data):
    (first,) = data.histories(data.user_ids[:1])
    return History("short", first.item_ids[:3], first.ratings[:3], range(3))


def repeated_history(data):
    items = data.item_ids
    return History("repeated", [items[0], items[1], items[0], items[2]], [1.0, 4.0, 5.0, 2.0], range(4))


HISTORIES = {"long": long_history, "short": short_history, "repeated": repeated_history}


@pytest.mark.parametrize("length", HISTORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_ask_reads_the_same(serve, run_of, tiny_data, tmp_path, kind, length):
    run, history = run_of(kind), HISTORIES[length](tiny_data)
    model = load_model(run)
    user = model.encode([history]).split()[0]
    text = model.generate([history])[0]

    written = tmp_path / "history.json"
    written.write_text(json.dumps(sent(history)))
    said = CliRunner().invoke(app, ["generate", str(run), "--history", str(written)])
    assert (said.exit_code, said.stdout.strip()) == (0, printable(text).strip()), said.output
    assert answer(run, history).text == text

    export_prompts(run, [history], tmp_path / "prompts")
    exported = read_prompts(tmp_path / "prompts").user_prompt(history.user_id)
    torch.testing.assert_close(exported, user.cpu(), atol=1e-5, rtol=0)

    server = serve(of=run)
    server.post(f"/users/{history.user_id}/events", json=sent(history)).raise_for_status()
    stored, given = ask(server, {"user_id": history.user_id}, {"history": sent(history)})
    assert (stored["text"], given["text"]) == (text, text)
    kept = server.get(f"/users/{history.user_id}/prompt")
    torch.testing.assert_close(load(kept.content)["user_prompt"], user.cpu(), atol=1e-5, rtol=0)

    windows = windows_of([model.visible(history)], model.table)
    assert PersonalizedPredictor(model, "ours").predict([0], windows) == [text]
    torch.testing.assert_close(model.user_prompt(windows).split()[0], user, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["streaming", "uem", "universal", "latent"])
def test_evaluate_asks_what_generate_asks(run_of, tiny_data, kind):
    """The newest window of a user of the data, as evaluate draws it, gives generate's answer about that user."""
    model = load_model(run_of(kind))
    task = load_task(TaskSettings(), tiny_data.info)
    window = WINDOW if model.max_events else 1_000
    examples = make_examples(tiny_data, task, "test", window, "recent", seed=0)
    windows = replace(
        examples.windows, complete=None
    )  # which only evaluate can know, not who asks about a user
    answers = PersonalizedPredictor(model, "ours").predict(examples.user_index, windows)
    users = [tiny_data.user_ids[index] for index in examples.user_index]
    assert len(set(answers)) > 1
    assert model.generate(tiny_data.histories(users)) == answers


@pytest.mark.parametrize("kind", ["streaming", "recency", "universal", "latent", "like-tokens"])
def test_a_state_is_what_encode_reads(run_of, tiny_data, kind):
    model = palate.load_model(run_of(kind), device="cpu")
    (history,) = tiny_data.histories(tiny_data.user_ids[:1])
    user = model.encode([history])
    state = model.new_state()
    for row in range(len(history)):
        state.add(history.take([row]))
    torch.testing.assert_close(state.prompt(), user.embeddings[0], atol=1e-5, rtol=0)
    chances = user.category_logits[0].sigmoid()
    torch.testing.assert_close(state.category_probabilities(), chances, atol=1e-5, rtol=0)
    assert len(state) == len(history)

    first, rest = history.take(range(5)), history.take(range(5, len(history)))
    one, other = model.new_state(), model.new_state()
    one.add(rest)
    other.add(first)
    other.merge(one)
    torch.testing.assert_close(other.prompt(), user.embeddings[0], atol=1e-5, rtol=0)
    other.remove(rest, remaining=first)
    torch.testing.assert_close(other.prompt(), model.encode([first]).embeddings[0], atol=1e-4, rtol=0)
    again = model.load_state(state.to_bytes())
    assert torch.equal(again.prompt(), state.prompt())


def test_an_encoder_without_a_state_says_so(run_of):
    with pytest.raises(palate.PalateError, match=r"'uem' user encoder keeps no state.*use encode\(\)"):
        load_model(run_of("uem")).new_state()


@pytest.fixture(scope="module")
def bought(tiny_sentence_encoder, tmp_path_factory):
    """Purchases of which some are repeated: the data, a language model's run and a recommender's."""
    place = tmp_path_factory.mktemp("repeated")
    items = write_rows(books(), place / "books.jsonl")
    events = write_rows(purchases(books()), place / "purchases.csv")
    data = prepare(events, place / "data", own=OwnData(items=str(items), repeats="keep"))
    model = {"user_encoder": ENCODERS["streaming"]}
    recipe = tiny_recipe(
        data.path, tiny_sentence_encoder, place / "cache", model=model, train={"max_steps": 2}
    )
    train_run(recipe, place / "run")
    return data, place / "run", train_small_recommender(data.path, place / "recommender")


def test_repeated_purchases_are_read_alike_everywhere(serve, bought, tmp_path):
    data, run, recommender_run = bought
    (history,) = data.histories(data.user_ids[:1])
    assert len(set(history.item_ids)) < len(history)
    written = tmp_path / f"{history.user_id}.json"
    written.write_text(json.dumps(sent(history)))
    server = serve(of=run, recommender=recommender_run)
    server.post(f"/users/{history.user_id}/events", json=sent(history)[:-3]).raise_for_status()
    who = [{"user_id": history.user_id}, {"history": sent(history)}]
    server.post("/recommendations", json={"users": who[:1]}).raise_for_status()
    server.get(f"/users/{history.user_id}/prompt").raise_for_status()
    server.post(f"/users/{history.user_id}/events", json=sent(history)[-3:]).raise_for_status()

    model = load_model(run)
    events = data.interactions.of_users(np.array([0]))
    columns = (events.item_index, events.rating_index, events.timestamp)
    trained = model.user_prompt(Windows(*(one[None] for one in columns), np.array([len(events)])))
    read = model.encode([history]).split()[0]
    torch.testing.assert_close(trained.split()[0], read, atol=1e-5, rtol=0)
    once = model.encode([history.latest()]).split()[0]
    assert not torch.allclose(once, read, atol=1e-4)
    kept = load(server.get(f"/users/{history.user_id}/prompt").content)["user_prompt"]
    torch.testing.assert_close(kept, read, atol=1e-5, rtol=0)
    text = model.generate([history])[0]
    said = CliRunner().invoke(app, ["generate", str(run), "--history", str(written)])
    assert said.stdout.strip() == printable(text).strip()
    assert [one["text"] for one in ask(server, *who)] == [text, text]

    recommender = palate.load_recommender(recommender_run)
    (expected,) = recommender.recommend([history], seen=True)
    wanted = [(one.item_id, pytest.approx(one.score, rel=1e-4)) for one in expected.items]
    lists = server.post("/recommendations", json={"users": who, "seen": True}).json()["recommendations"]
    for asked in (["--history", str(written)], ["--user", history.user_id]):
        shown = CliRunner().invoke(app, ["recommend", str(recommender_run), *asked, "--seen", "--json"])
        lists.append(json.loads(shown.stdout))
    for one in lists:
        assert [(item["item_id"], item["score"]) for item in one["items"]] == wanted
    counted = recommender.state(history).count
    assert counted == len(history)
