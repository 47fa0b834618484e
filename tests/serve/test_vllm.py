"""docs/engines.md's statements about vLLM hold for the real engine, on trained runs:  make test-engine.

PALATE_ENGINE_RUN and PALATE_ENGINE_DATA name a run of one's own and its data, in the place of the first trained here.
"""

import base64
import json
import os
from pathlib import Path

import httpx
import pytest
import torch
from vllm import PYTHON, vllm

import palate
from palate.export.write import as_prompt_embeds
from palate.serve.remote import EngineWriter
from palate.serve.settings import EngineSettings, Limits
from palate.training.train import train_run
from serving import ask, sent
from tiny import prepare_tiny, tiny_recipe
from tiny_causal import STREAMING, save_causal

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(PYTHON not in os.environ, reason="vLLM is not installed; run  make test-engine"),
]
OWN = os.environ.get("PALATE_ENGINE_RUN")
USERS = 50
CHAT = (
    "<s>{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
SECONDS = 1800.0
"""A busy machine is no failure."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixty users of made-up films."""
    if (given := os.environ.get("PALATE_ENGINE_DATA")) is not None:
        return palate.load_dataset(given)
    return prepare_tiny(tmp_path_factory.mktemp("data"), users=90)


@pytest.fixture(scope="module")
def people(data):
    return data.histories(data.user_ids[:USERS])


@pytest.fixture(scope="module")
def train(data, tiny_sentence_encoder, tmp_path_factory):
    """Trains a run around a backbone; a few hundred steps, by which it speaks in the task's sentences."""
    folder = tmp_path_factory.mktemp("runs")

    def trained(name, backbone, **settings):
        model = {
            "backbone": {"kind": "causal", "name": str(backbone), **settings},
            "user_encoder": STREAMING.model_dump(),
            "task_prompt": 4,
        }
        steps = {"max_steps": 150, "eval_steps": 150, "threads": 1, "learning_rate": 3e-3}
        cache = folder / "cache"
        train_run(
            tiny_recipe(data.path, tiny_sentence_encoder, cache, model=model, train=steps), folder / name
        )
        return folder / name

    return trained


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    # on a processor vLLM's attention has no heads of 8, and its worker ends at the first request
    return save_causal(tmp_path_factory.mktemp("base") / "backbone", template=CHAT, head_dim=32)


def backbone_of(run, out, data, weights="backbone", dtype="float32"):
    """The weights that an engine serves, as ``palate export --weights`` writes them."""
    palate.export_prompts(
        run, data.histories(data.user_ids[:1]), out, weights=weights, dtype=dtype, device="cpu"
    )
    return out / weights


def writer(run, url, name=None):
    limits = Limits(engine_seconds=SECONDS)
    return EngineWriter(palate.load_model(run), EngineSettings(url=url, model=name), limits)


def complete(url, **asked):
    """Ask the engine itself; gives the response."""
    return httpx.post(f"{url}/v1/completions", json={"temperature": 0, **asked}, timeout=SECONDS)


def tokens(answered):
    answered.raise_for_status()
    return [one["token_ids"] for one in answered.json()["choices"]]


@torch.inference_mode()
def prompts_of(model, people):
    whole = model.complete(model.encode(people))
    return [one[mask.bool()] for one, mask in zip(whole.embeddings, whole.mask, strict=True)]


def assert_serves(serve, run, url, people, name=None):
    """palate's server over the engine gives the model's own answers, free and under the grammar."""
    model = palate.load_model(run)
    server = serve(
        of=run,
        engine=EngineSettings(url=url, model=name),
        limits={"engine_seconds": SECONDS, "seconds": SECONDS, "questions": USERS},
    )
    ready = server.get("/ready")
    assert ready.status_code == 200, ready.text
    assert ready.json()["engine"]["checked"]
    for constrained in (False, True):
        model.constrained = server.app.app.state.service.served.model.constrained = constrained
        found = [one["text"] for one in ask(server, *({"history": sent(one)} for one in people))]
        assert found == model.generate(people), (run, constrained)
        said = (
            f"{len(found)} of {len(found)} users get the model's own text, {len(set(found))} different ones"
        )
        print(f"{run.name}, grammar {constrained}: {said}")
    return server


@pytest.mark.skipif(OWN is None, reason="no run of one's own is named")
def test_a_given_run_writes_its_models_answers(serve, data, people, tmp_path):
    run = Path(OWN)
    with vllm(backbone_of(run, tmp_path / "frozen", data), "float32", tmp_path / "frozen.log") as url:
        answers_as_it_is(serve, run, url, people)


@pytest.mark.skipif(OWN is not None, reason="a run of one's own is named")
def test_frozen_full_and_lora_merged_write_the_models_answers(serve, data, people, train, base, tmp_path):
    frozen, chat = (train(name, base, train="frozen", chat=name == "chat") for name in ("frozen", "chat"))
    lora = train("lora", base, train="lora", lora_r=4)
    full = train("full", base, train="full")
    adapter = backbone_of(lora, tmp_path / "adapter", data, weights="adapter")
    arguments = ("--enable-lora", "--lora-modules", f"taste={adapter}")
    with vllm(base, "float32", tmp_path / "frozen.log", *arguments) as url:
        answers_as_it_is(serve, frozen, url, people)
        adapters(url, lora, people)
        chat_completions(url, chat, people, tmp_path / "messages")
    for run, name in ((lora, "merged"), (full, "full")):
        with vllm(backbone_of(run, tmp_path / name, data), "float32", tmp_path / f"{name}.log") as url:
            assert_serves(serve, run, url, people)
            print(f"{name}, float32:", writer(run, url).fingerprint())
            assert not writer(frozen, url).fingerprint().same, "another run's weights are recognised"
    narrow = backbone_of(full, tmp_path / "narrow", data, dtype="bfloat16")
    with vllm(narrow, "bfloat16", tmp_path / "narrow.log") as url:
        found = writer(full, url).fingerprint()
        print("full, bfloat16:", found)
        assert found.same
        narrow_log_probabilities(url, palate.load_model(full), people)


def answers_as_it_is(serve, run, url, people):
    """A run around the engine's own backbone, in float32: answers, weights, batches, streams, and what is refused."""
    server = assert_serves(serve, run, url, people, "backbone")
    fingerprint = writer(run, url, "backbone").fingerprint()
    print("frozen, float32:", fingerprint)
    assert fingerprint.same_tokens
    assert fingerprint.apart < 1e-3
    model = palate.load_model(run)
    mixed_batches(url, model, people)
    streaming(server, people)
    what_is_wrong(url, model, people)


def mixed_batches(url, model, people):
    """Vectors and texts in one request and in one batch."""
    first, second = prompts_of(model, people[:2])
    asked = {"model": "backbone", "max_tokens": 6, "return_token_ids": True}
    alone = [
        tokens(complete(url, prompt_embeds=as_prompt_embeds(one), **asked))[0] for one in (first, second)
    ]
    (text,) = tokens(complete(url, prompt="The user likes", **asked))
    together = complete(
        url,
        prompt_embeds=[as_prompt_embeds(first), as_prompt_embeds(second)],
        prompt="The user likes",
        **asked,
    )
    assert tokens(together) == [*alone, text]
    beside = complete(url, prompt_embeds=as_prompt_embeds(first), prompt="", **asked)
    # an empty prompt is a prompt of its own, and refused if the tokenizer makes no token of it
    assert beside.status_code == 400 or len(beside.json()["choices"]) == 2


def streaming(server, people):
    questions = [{"history": sent(one)} for one in people[:3]]
    whole = [one["text"] for one in ask(server, *questions)]
    streamed = server.post("/answers", json={"questions": questions, "stream": True}).text
    assert "event: error" not in streamed
    assert all(f'"text": {json.dumps(text)}' in streamed for text in whole)
    assert streamed.count("event: piece") > 3


def what_is_wrong(url, model, people):
    """Shapes and dtypes are refused; NaN is not, and spoils what others are answered: palate does not send it."""
    (prompt,) = prompts_of(model, people[:1])
    asked = {"model": "backbone", "max_tokens": 6, "return_token_ids": True}
    expected = tokens(complete(url, prompt_embeds=as_prompt_embeds(prompt), **asked))
    wrong = {
        "one dimension": prompt[0],
        "two prompts": prompt[None].repeat(2, 1, 1),
        "another width": prompt[:, :-1],
        "integers": prompt.long(),
        "no vectors": prompt[:0],
        "too long": prompt[:1].repeat(600, 1),
    }
    for name, one in wrong.items():
        refused = complete(url, prompt_embeds=as_prompt_embeds(one), **asked)
        assert refused.status_code == 400, (name, refused.text)
        print(f"{name}: {refused.json()['error']['message'][:110]}")
    for text in ("no base64!", base64.b64encode(b"junk").decode()):
        assert complete(url, prompt_embeds=text, **asked).status_code == 400
    assert tokens(complete(url, prompt_embeds=as_prompt_embeds(prompt), **asked)) == expected
    spoiled = prompt.clone()
    spoiled[0] = torch.nan
    taken = complete(url, prompt_embeds=as_prompt_embeds(spoiled), **asked)
    after = [
        tokens(complete(url, prompt_embeds=as_prompt_embeds(prompt), **asked)) == expected for _ in range(8)
    ]
    print(f"NaN: {taken.status_code}; of 8 requests after it {sum(after)} are answered as before")
    assert httpx.get(f"{url}/health", timeout=SECONDS).is_success


def adapters(url, run, people):
    """LoRA as an adapter beside its base, with prompts as vectors."""
    found = writer(run, url, "taste").fingerprint()
    print(
        "LoRA as an adapter, float32:", found, "; its base alone:", writer(run, url, "backbone").fingerprint()
    )
    assert found.apart < 1e-2
    model = palate.load_model(run)
    own = model.generate(people[:10])
    asked = {"model": "taste", "max_tokens": model.settings.max_new_tokens, "return_token_ids": True}
    stops = {"stop_token_ids": [model.frame.end]}
    texts = [
        model.tokenizer.decode(ids, skip_special_tokens=True)
        for one in prompts_of(model, people[:10])
        for ids in tokens(complete(url, prompt_embeds=as_prompt_embeds(one), **asked, **stops))
    ]
    assert texts == own


def chat_completions(url, run, people, out):
    """Exported messages, which the engine puts its template around, are answered as whole prompts."""
    palate.export_prompts(run, people[:5], out, instructions=[""], api="chat", device="cpu")
    prompts = palate.read_prompts(out, run)
    whole = prompts_of(palate.load_model(run), people[:5])
    asked = {"model": "backbone", "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    for user_id, prompt in zip(prompts.user_ids, whole, strict=True):
        body = {**asked, "messages": [prompts.message(user_id)]}
        chat = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=SECONDS)
        assert tokens(chat) == tokens(complete(url, prompt_embeds=as_prompt_embeds(prompt), **asked))


def narrow_log_probabilities(url, model, people):
    """In bfloat16 the engine's log-probabilities of its answers lie within rounding of the model's in float32."""
    client, differences = writer_client(model, url), []
    for one, prompt in zip(people, prompts_of(model, people), strict=True):
        found = client.written(prompt, model.settings.max_new_tokens, [model.frame.end], likeliest=1)
        text = model.tokenizer.decode(found.token_ids, skip_special_tokens=True)
        told = sum(max(place.values()) for place in found.likeliest)
        if found.ended:
            own = float(model.log_likelihood(model.encode([one]), [text])[0])
            differences.append(abs(told - own) / len(found.token_ids))
    print(
        f"bfloat16: {len(differences)} answers, log-probabilities a token at most {max(differences):.3f} apart"
    )
    assert max(differences) < 0.1


def writer_client(model, url):
    return EngineWriter(model, EngineSettings(url=url), Limits(engine_seconds=SECONDS)).client
