"""Serving through an engine: the model's own answers, constrained and streamed; engine errors."""

import asyncio
import json
import socket
from contextlib import ExitStack

import pytest
import torch

from engine import saved
from fake_engine import engine_listening
from palate.config.recipe import UniversalSettings
from palate.errors import EngineError, EngineTimeoutError, MismatchError, PalateError
from palate.model.model import load_model
from palate.serve.completions import CompletionsClient
from palate.serve.run import serve as start
from palate.serve.settings import ENGINE_KEY, EngineSettings, Limits, ServeSettings, read_engine
from serving import ask, refusal, sent
from tiny_causal import STREAMING, causal_model, save_causal


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("engine") / "backbone")


@pytest.fixture(scope="module", params=[False, True], ids=["free", "grammar"])
def causal_run(request, tiny_data, backbone, tmp_path_factory):
    model = causal_model(tiny_data, backbone, STREAMING)
    model.settings = model.settings.model_copy(update={"grammar": request.param})
    return saved(model, tmp_path_factory.mktemp("engine-run") / "run")


@pytest.fixture
def plain_run(tiny_data, backbone, tmp_path):
    return saved(causal_model(tiny_data, backbone, STREAMING), tmp_path / "run")


@pytest.fixture
def engines():
    """Starts fake engines."""
    with ExitStack() as stack:
        yield lambda folder, **named: stack.enter_context(engine_listening(folder, **named))


def serving_by(serve, run, by, **limits):
    return serve(of=run, engine=EngineSettings(url=by.url), limits={"engine": 4, **limits})


def people(data):
    return data.histories(data.user_ids[:6])


def test_answers_are_the_models_own(serve, causal_run, backbone, engines, tiny_data):
    engine, model = engines(backbone), load_model(causal_run)
    server = serving_by(serve, causal_run, engine)
    for one in people(tiny_data):
        server.post(f"/users/{one.user_id}/events", json=sent(one)).raise_for_status()
    expected = model.generate(people(tiny_data))
    found = ask(server, *({"user_id": one.user_id} for one in people(tiny_data)))
    assert [one["text"] for one in found] == expected
    assert model.constrained or len(set(expected)) > 1
    asked = [
        {"user_id": one.user_id, "instruction": "Which genres does this user like?"}
        for one in people(tiny_data)
    ]
    found = ask(server, *asked)
    assert [one["text"] for one in found] == model.generate(people(tiny_data), found[0]["instruction"])


def test_an_answer_that_keeps_to_the_grammar_takes_one_request(
    serve, causal_run, backbone, engines, tiny_data
):
    engine, model = engines(backbone), load_model(causal_run)
    server = serving_by(serve, causal_run, engine)
    (first, *_) = people(tiny_data)
    ask(server, {"history": sent(first)})  # which makes sure of the weights
    before = len(engine.asked)
    ask(server, {"history": sent(first)})
    asked = engine.asked[before:]
    assert [one.get("allowed_token_ids") for one in asked[:1]] == [None]
    assert model.constrained or len(asked) == 1
    assert all(one["temperature"] == 0 for one in asked)
    for one in asked[1::2]:
        assert one["max_tokens"] == 1
        assert len(one["allowed_token_ids"]) > 1


def test_names_that_the_user_encoder_decides_on_are_said(serve, backbone, engines, tiny_data, tmp_path):
    settings = UniversalSettings(d_model=16, num_layers=1, num_heads=2)
    from palate.training.train import train_run
    from tiny import tiny_recipe

    recipe = tiny_recipe(
        tiny_data.path,
        tmp_path,
        tmp_path / "cache",
        model={
            "backbone": {"kind": "causal", "name": str(backbone), "train": "frozen"},
            "user_encoder": settings.model_dump(),
            "task_prompt": 2,
            "grammar": True,
        },
        train={"max_steps": 1},
    )
    train_run(recipe, tmp_path / "run")
    server = serving_by(serve, tmp_path / "run", engines(backbone))
    model = load_model(tmp_path / "run")
    texts = [one["text"] for one in ask(server, *({"history": sent(one)} for one in people(tiny_data)))]
    assert texts == model.generate(people(tiny_data))


def test_an_answer_is_streamed_as_it_is_written(serve, causal_run, backbone, engines, tiny_data):
    engine = engines(backbone)
    server = serving_by(serve, causal_run, engine)
    (first, *_) = people(tiny_data)
    whole = ask(server, {"history": sent(first)})[0]["text"]
    streamed = server.post("/answers", json={"questions": [{"history": sent(first)}], "stream": True}).text
    assert streamed.count("event: piece") > 2
    assert f'"text": {json.dumps(whole)}' in streamed
    assert any(one.get("stream") for one in engine.asked)


def test_health_says_which_engine_and_model(serve, plain_run, backbone, engines):
    engine = engines(backbone, name="the-model")
    server = serving_by(serve, plain_run, engine)
    state = {"url": engine.url, "model": None, "checked": False}
    assert server.get("/health").json() == {"status": "alive", "engine": state}
    ready = {"status": "ready", "engine": {**state, "model": "the-model", "checked": True}}
    assert server.get("/ready").json() == ready
    assert server.get("/health").json()["engine"]["checked"]
    engine.name = "another"
    assert "no longer serves 'the-model'" in refusal(server.get("/ready"), 502)


def test_without_an_engine_health_says_none(server):
    assert server.get("/health").json() == {"status": "alive"}


def test_other_weights_are_refused(serve, plain_run, engines, tmp_path):
    other = engines(save_causal(tmp_path / "other", seed=5))
    server = serving_by(serve, plain_run, other)
    said = refusal(server.post("/answers", json={"questions": [{"history": []}]}), 502)
    assert "serves other weights as 'tiny'" in said
    assert "palate export RUN --weights backbone" in said
    assert refusal(server.get("/ready"), 502) == said
    with pytest.raises(EngineError, match="serves other weights"):
        start(
            ServeSettings(run=plain_run, store=str(tmp_path / "s"), engine=EngineSettings(url=other.url)),
            print,
        )


def test_bfloat16_is_the_same_weights(serve, plain_run, backbone, engines):
    engine = engines(backbone)
    for weight in engine.model.parameters():
        weight.data = weight.data.to(torch.bfloat16).float()
    assert serving_by(serve, plain_run, engine).get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("failing", "status", "said"),
    [
        ([500] * 3, 502, "failed (500: status 500 as asked for); its log says more"),
        ([400], 502, "refused the request (400: status 400 as asked for)"),
        ([401], 502, f"does not accept the API key (401); set {ENGINE_KEY}"),
        ([429] * 3, 503, "is busy (429); try again"),
        ([503] * 3, 503, "is busy (503); try again"),
    ],
)
def test_the_engines_faults_are_told_apart(serve, plain_run, backbone, engines, failing, status, said):
    engine = engines(backbone)
    server = serving_by(serve, plain_run, engine)
    question = {"questions": [{"history": []}]}
    assert server.get("/ready").status_code == 200
    engine.failing = list(failing)
    answered = server.post("/answers", json=question)
    assert said in refusal(answered, status)
    assert answered.headers.get("retry-after") == ("9" if status == 503 else None)
    streamed = [*failing]
    engine.failing = streamed
    pieces = server.post("/answers", json={**question, "stream": True}).text
    assert said in pieces
    assert "event: error" in pieces
    assert server.post("/answers", json=question).status_code == 200


def test_what_fails_once_is_asked_again(serve, plain_run, backbone, engines):
    engine = engines(backbone)
    server = serving_by(serve, plain_run, engine)
    server.get("/ready")
    engine.failing = [500, 503]
    assert server.post("/answers", json={"questions": [{"history": []}]}).status_code == 200
    assert not engine.failing


def test_an_engine_that_is_away_is_told_and_known_again(serve, plain_run, backbone, engines, tmp_path):
    question = {"questions": [{"history": []}]}
    with engine_listening(backbone) as engine:
        server = serving_by(serve, plain_run, engine)
        expected = server.post("/answers", json=question).json()["answers"]
        port = int(engine.url.rpartition(":")[2])
    for _ in range(2):  # a connection that was kept, and a new one
        assert "cannot be reached" in refusal(server.post("/answers", json=question), 502)
    assert not server.get("/health").json()["engine"]["checked"]
    assert "cannot be reached" in refusal(server.get("/ready"), 502)
    with engine_listening(save_causal(tmp_path / "other", seed=5), port=port):
        assert "serves other weights" in refusal(server.post("/answers", json=question), 502)
    with engine_listening(backbone, port=port):
        assert server.post("/answers", json=question).json()["answers"] == expected


def test_an_engine_that_does_not_answer_is_given_up(plain_run, backbone, engines):
    engine = engines(backbone)
    client = CompletionsClient(EngineSettings(url=engine.url), 1, seconds=0.2)
    engine.wait.clear()
    with pytest.raises(
        EngineTimeoutError, match=r"did not answer in 0.2 s; try again, or raise --limit engine_seconds"
    ):
        client.written(torch.zeros(3, 32), 2, [1])
    client.close()


def test_no_more_than_so_many_are_under_way_and_the_rest_are_refused(serve, plain_run, backbone, engines):
    engine = engines(backbone)
    server = serving_by(serve, plain_run, engine, engine=2, waiting=5)
    server.get("/ready")
    engine.most_at_once = 0
    assert server.post("/answers", json={"questions": [{"history": []}] * 20}).status_code == 200
    assert engine.most_at_once == 2
    service = server.app.app.state.service
    engine.wait.clear()
    held = [asyncio.run(service.prepare([_question()]))[0].question for _ in range(7)]
    service.batcher.ask(held[:2])
    while service.batcher.waiting:
        pass
    service.batcher.ask(held[2:])
    refused = server.post("/answers", json={"questions": [{"history": []}]})
    assert "5 questions are waiting already" in refusal(refused, 429)
    assert refused.headers["retry-after"] == "1"
    engine.wait.set()
    assert len({one.answer.result(20) for one in held}) == 1


def _question():
    from palate.serve.schemas import SentQuestion

    return SentQuestion(history=[])


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (torch.zeros(3), r"a prompt of torch.float32 \[3\], expected vectors"),
        (torch.zeros(0, 32), r"\[0, 32\], expected vectors"),
        (torch.zeros(3, 32, dtype=torch.long), "torch.int64"),
        (torch.full((3, 32), torch.nan), "values that are not finite"),
        (torch.full((3, 32), torch.inf), "values that are not finite"),
        (torch.full((3, 32), 1e30), "or too large"),
    ],
)
def test_what_no_engine_should_get_is_not_sent(backbone, engines, prompt, said):
    engine = engines(backbone)
    client = CompletionsClient(EngineSettings(url=engine.url), 1, seconds=20)
    with pytest.raises(MismatchError, match=said):
        client.written(prompt, 2, [1])
    assert not engine.asked
    client.close()


def test_the_engines_key_and_model_are_sent(backbone, engines, monkeypatch):
    engine = engines(backbone, name="one+two")
    with pytest.raises(
        EngineError, match="serves several models; name one of 'one', 'two' as --engine-model"
    ):
        CompletionsClient(EngineSettings(url=engine.url), 1, 20).written(torch.zeros(3, 32), 2, [1])
    with pytest.raises(EngineError, match="serves no model 'six'"):
        CompletionsClient(EngineSettings(url=engine.url, model="six"), 1, 20).written(
            torch.zeros(3, 32), 2, [1]
        )
    monkeypatch.setenv(ENGINE_KEY, "secret")
    CompletionsClient(EngineSettings(url=f"{engine.url}/v1", model="two"), 1, 20).written(
        torch.zeros(3, 32), 2, [1]
    )
    assert (engine.asked[-1]["model"], engine.asked[-1]["key"]) == ("two", "Bearer secret")


def test_runs_that_no_engine_can_write_for_are_refused_before_anything_listens(
    run, recommender_run, tmp_path
):
    engine = EngineSettings(url="http://127.0.0.1:9")
    for of, said in (
        (run, r"is an encoder-decoder.*leave --engine out.*recipes/gemma3-270m-packaged.yaml"),
        (recommender_run, "a recommender's run, which generates no text; leave --engine out"),
    ):
        with pytest.raises(MismatchError, match=said):
            start(ServeSettings(run=of, store=str(tmp_path / "users.sqlite"), engine=engine), print)
    assert not (tmp_path / "users.sqlite").exists()


def test_a_start_without_the_engine_is_refused(plain_run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    settings = ServeSettings(run=plain_run, store=str(tmp_path / "s"), engine=EngineSettings(url=url))
    with pytest.raises(EngineError, match=r"cannot be reached .*; start it, or give another --engine"):
        start(settings, print)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://me:secret@x", "http://x?key=1", ""])
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(PalateError, match="expected a URL like"):
        read_engine(url, None)
    with pytest.raises(PalateError, match="there is no --engine"):
        read_engine(None, "x")
    assert read_engine(None, None) is None
    assert read_engine("http://x/v1/", None).base == "http://x/v1"
    assert Limits().engine_seconds < Limits().seconds
