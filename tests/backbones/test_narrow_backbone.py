"""A backbone in bfloat16: trained parts stay in float32, and an engine's answers are equal."""

import json

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from engine import engine_answer, saved
from palate.config.recipe import CausalSettings
from palate.encoders.batch import windows_of
from palate.errors import MismatchError
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.model.model import load_model
from palate.training.norms import prompt_norms
from tiny import asked
from tiny_causal import causal_model, save_causal

FAMILIES = ["llama", "qwen3", "gemma2", "gemma3"]
TARGETS = ["The user likes Drama", "The user likes Comedy, Sci-Fi and doesn't like Action"]
CLOSE = 0.05
"""How far logits may lie from those of float32, as a share of the spread of the logits."""


@pytest.fixture(params=FAMILIES)
def folder(tmp_path, request):
    return save_causal(tmp_path / "hub", request.param)


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:3])


def narrow_model(data, folder, train="frozen", **settings):
    return causal_model(data, folder, train=train, dtype="bfloat16", **settings)


def loss_of(model, histories):
    from palate.encoders.batch import window_tensors

    target = model.tokenizer(TARGETS, padding=True, return_tensors="pt")
    instruction = model.tokenizer([model.settings.instruction], return_tensors="pt")
    return model(
        **window_tensors(windows_of(histories[:2], model.table, model.settings.window)),
        rounds=[asked(instruction, target)],
    )


def dtypes(model, which):
    return {weight.dtype for name, weight in model.named_parameters() if which(name)}


def test_only_the_backbone_is_narrow_and_a_saved_model_comes_back_so(tiny_data, histories, folder, tmp_path):
    model = narrow_model(tiny_data, folder, like_tokens=True)
    for one in (model, load_model(saved(model, tmp_path / "run"))):
        assert dtypes(one, lambda name: name.startswith("backbone.")) == {torch.bfloat16}
        assert dtypes(one, lambda name: not name.startswith("backbone.")) == {torch.float32}
        assert one.generate(histories) == model.generate(histories)
        assert one.encode(histories).embeddings.dtype == torch.float32
    assert json.loads((tmp_path / "run" / "config.json").read_text())["backbone"]["settings"]["dtype"] == (
        "bfloat16"
    )


def test_a_bare_one_in_bfloat16_answers_the_export_as_the_model_does(tiny_data, histories, folder, tmp_path):
    run = saved(narrow_model(tiny_data, folder), tmp_path / "run")
    export_prompts(run, histories, tmp_path / "out", instructions=[""], dtype="bfloat16")
    model, prompts = load_model(run), read_prompts(tmp_path / "out")
    bare = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    prompts.check_backbone(bare)
    found = [engine_answer(prompts, one.user_id, None, bare, model.tokenizer) for one in histories]
    assert found == [model.generate([one])[0] for one in histories]
    assert any(found)
    wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with pytest.raises(MismatchError, match="in bfloat16"):
        prompts.check_backbone(wide)


def test_its_logits_are_close_to_those_in_float32(tiny_data, histories, folder):
    narrow, wide = narrow_model(tiny_data, folder), causal_model(tiny_data, folder, train="frozen")
    wide.load_state_dict({n: w for n, w in narrow.state_dict().items() if "backbone." not in n}, strict=False)
    with torch.no_grad():
        (rough, exact) = (loss_of(model, histories) for model in (narrow, wide))
    found, wanted = rough["scores"][0][0], exact["scores"][0][0]
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()
    assert float((found.float() - wanted).std() / wanted.std()) < CLOSE
    torch.testing.assert_close(rough["loss"], exact["loss"], atol=0, rtol=CLOSE)


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_gradients_reach_what_is_trained_and_it_learns(tiny_data, histories, folder, train):
    model = narrow_model(tiny_data, folder, train).train()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    optimizer = torch.optim.AdamW(trained.values(), lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = loss_of(model, histories)["loss"]
        loss.backward()
        gradients = {name: weight.grad for name, weight in trained.items() if weight.grad is not None}
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        optimizer.step()
        losses.append(loss.item())
    heard = {name for name, gradient in gradients.items() if gradient.any()}
    assert "task_prompt" in heard
    assert any(name.startswith("user_encoder.") for name in heard)
    assert any("lora_A" in name for name in heard) is (train == "lora")
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert losses[-1] < losses[0]


def test_prompts_are_measured_as_in_float32(tiny_data, histories, folder):
    narrow, wide = (
        causal_model(tiny_data, folder, train="frozen", like_tokens=True, dtype=dtype)
        for dtype in ("bfloat16", "float32")
    )
    windows = windows_of(histories, narrow.table, 10)
    for part, norm in prompt_norms(wide, windows).items():
        assert prompt_norms(narrow, windows)[part].length == pytest.approx(norm.length, rel=0.01)


def test_a_prefix_and_a_batch_are_answered_too(tiny_data, histories, folder):
    model = narrow_model(tiny_data, folder)
    answers = model.generate_after(model.prefix(histories), "Why?")
    assert len(answers) == len(histories)
    chances = model.choose(
        windows_of(histories, model.table, 10), [("yes", "no")] * 3, "Does this user like Drama?"
    )
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(3))


def test_weights_that_are_trained_do_not_lie_in_bfloat16():
    with pytest.raises(
        ValidationError, match=r"for frozen weights, and train is 'full'; set train to frozen or lora"
    ):
        CausalSettings(dtype="bfloat16")
