"""The OpenAI-compatible routes, with the package ``openai``, and refusals."""

import json

import httpx
import openai
import pytest

KEY = "a key of sixteen or more".replace(" ", "-")


@pytest.fixture
def address(listening, events):
    url = listening()
    httpx.post(f"{url}/users/ann/events", json=events).raise_for_status()
    httpx.post(f"{url}/users/bob/events", json=[{**one, "rating": 6 - one["rating"]} for one in events])
    return url


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def name(client):
    (model,) = client.models.list().data
    assert (model.object, model.owned_by) == ("model", "palate")
    return model.id


def answers(address, user, instruction=None):
    question = {"user_id": user, **({"instruction": instruction} if instruction else {})}
    given = httpx.post(f"{address}/answers", json={"questions": [question]}, timeout=60).json()
    return given["answers"][0]["text"], given["model"]


def test_a_completion_is_the_answer_about_the_user(client, name, address, model):
    for user in ("ann", "bob"):
        text, identity = answers(address, user)
        found = client.completions.create(model=name, prompt="", user=user)
        (choice,) = found.choices
        assert (choice.text, choice.finish_reason, found.system_fingerprint) == (text, "stop", identity)
        written = len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        assert found.usage.completion_tokens == written
        asked = len(model.tokenizer(model.settings.instruction)["input_ids"])
        assert found.usage.prompt_tokens == asked + model.settings.task_prompt + 8  # vectors of the encoder
        assert found.usage.total_tokens == found.usage.prompt_tokens + written
    identified = client.completions.create(model=identity, prompt="", user="bob")
    assert identified.choices[0].text == text


def test_several_prompts_are_several_choices(client, name, address):
    found = client.completions.create(
        model=name, prompt=["", "What are the best and the worst genres for this user?"], user="ann"
    )
    assert [one.index for one in found.choices] == [0, 1]
    assert [one.text for one in found.choices] == [
        answers(address, "ann")[0],
        answers(address, "ann", "What are the best and the worst genres for this user?")[0],
    ]


@pytest.mark.parametrize(
    "content",
    [
        "What are the best and the worst genres for this user?",
        [{"type": "text", "text": "What are the best and the worst genres for this user?"}],
    ],
)
def test_a_chat_is_answered_by_its_last_message(client, name, address, content):
    messages = [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": content},
    ]
    found = client.chat.completions.create(model=name, messages=messages, user="ann", temperature=0.7)
    assert (
        found.choices[0].message.content
        == answers(address, "ann", "What are the best and the worst genres for this user?")[0]
    )
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].finish_reason == "stop"


def test_answers_are_streamed_in_pieces(client, name, address):
    text, _ = answers(address, "ann")
    asked = {"model": name, "user": "ann", "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.completions.create(prompt="", **asked))
    pieces = [one.choices[0].text for one in chunks if one.choices]
    assert "".join(pieces) == text
    assert len(pieces) > 2
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert chunks[-1].choices == []
    whole = client.completions.create(model=name, prompt="", user="ann").usage
    assert chunks[-1].usage == whole
    said = list(client.chat.completions.create(messages=[{"role": "user", "content": ""}], **asked))
    assert "".join(one.choices[0].delta.content or "" for one in said if one.choices) == text
    assert said[-2].choices[0].finish_reason == "stop"
    assert said[-1].usage == whole
    assert len({one.id for one in said}) == 1


def test_an_answer_is_cut_where_it_may_be_no_longer(client, name, address, model):
    text, _ = answers(address, "ann")
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    expected = model.tokenizer.decode(ids[:3], skip_special_tokens=True)
    asked = {"model": name, "user": "ann"}
    found = client.completions.create(prompt="", max_tokens=3, **asked)
    assert (found.choices[0].text, found.choices[0].finish_reason) == (expected, "length")
    assert found.usage.completion_tokens == 3
    messages = [{"role": "user", "content": ""}]
    chat = client.chat.completions.create(messages=messages, max_completion_tokens=3, **asked)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == (expected, "length")
    chunks = list(client.completions.create(prompt="", max_tokens=3, stream=True, **asked))
    assert "".join(one.choices[0].text for one in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("changes", "kind", "param", "said"),
    [
        ({"user": "nobody"}, openai.NotFoundError, None, "'nobody'"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model", "'gpt-5' is not served; GET /v1/models"),
        ({"n": 2}, openai.BadRequestError, "n", "n: expected 1"),
        ({"stop": ["."]}, openai.BadRequestError, "stop", "stop: unknown field; leave it out"),
        ({"prompt": "x" * 2_001}, openai.BadRequestError, "instruction", "expected at most 2,000"),
        (
            {"prompt": ["What are the best and the worst genres for this user?"] * 33},
            openai.BadRequestError,
            "questions",
            "found 33, expected at most 32",
        ),
        ({"user": None}, openai.BadRequestError, "user", "user: "),
    ],
)
def test_what_is_wrong_is_said_in_openais_shape(client, name, changes, kind, param, said):
    asked = {"model": name, "prompt": "", "user": "ann", **changes}
    with pytest.raises(kind, match=said) as caught:
        client.completions.create(**asked)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert (caught.value.body["type"], caught.value.param) == ("invalid_request_error", param)


def test_a_chat_that_holds_more_than_text_is_refused(client, name):
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": picture}], user="ann"
        )
    last = [
        {"role": "user", "content": "What are the best and the worst genres for this user?"},
        {"role": "assistant", "content": "So"},
    ]
    with pytest.raises(openai.BadRequestError, match="the last message"):
        client.chat.completions.create(model=name, messages=last, user="ann")


def test_a_key_is_wanted_and_a_full_server_says_when_to_come_again(listening, tmp_path, events):
    (tmp_path / "keys").write_text(KEY)
    url = listening(key_file=tmp_path / "keys")
    headers = {"Authorization": f"Bearer {KEY}"}
    httpx.post(f"{url}/users/ann/events", json=events, headers=headers).raise_for_status()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="no known API key") as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
        (model,) = client.models.list().data
        assert client.completions.create(model=model.id, prompt="", user="ann").choices[0].text


def test_an_overloaded_server_answers_429(serve, events, monkeypatch):
    from palate.serve.batcher import Batcher, OverloadedError

    server = serve()
    server.post("/users/ann/events", json=events)
    (model,) = server.get("/v1/models").json()["data"]

    def full(self, questions):
        raise OverloadedError(128, 7)

    monkeypatch.setattr(Batcher, "ask", full)
    for asked in ({}, {"stream": True}):
        refused = server.post(
            "/v1/completions", json={"model": model["id"], "prompt": "", "user": "ann", **asked}
        )
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        assert refused.headers["content-type"] == "application/json"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_what_fails_in_a_stream_is_an_error_of_the_client(client, name, monkeypatch):
    from palate.serve import batcher

    def fail(batch):
        raise RuntimeError("a secret")

    monkeypatch.setattr(batcher, "_generated", fail)
    with pytest.raises(openai.APIError, match="the server failed; its log says more"):
        list(client.completions.create(model=name, prompt="", user="ann", stream=True))


def test_a_recommender_alone_has_no_model_to_complete(serve, recommender_run):
    server = serve(of=recommender_run)
    assert server.get("/v1/models").json() == {"object": "list", "data": []}
    refused = server.post("/v1/completions", json={"model": "x", "prompt": "", "user": "ann"})
    assert refused.status_code == 404
    assert "no language model" in refused.json()["error"]["message"]


def test_routes_that_do_not_exist_are_refused_in_openais_shape(server):
    refused = server.post("/v1/embeddings", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    document = server.get("/openapi.json").json()["paths"]
    for path in ("/v1/completions", "/v1/chat/completions"):
        responses = document[path]["post"]["responses"]
        assert "422" not in responses
        assert json.dumps(responses["400"]).count("OpenAIError")
