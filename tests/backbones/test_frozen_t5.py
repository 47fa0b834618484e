"""A frozen T5, or one with LoRA only: equals the bare model, and saves only what was trained."""

import pytest
import torch
from transformers import T5ForConditionalGeneration

from palate.config.recipe import PretrainedT5Settings
from palate.encoders.batch import window_tensors, windows_of
from palate.errors import RecipeError
from palate.model.weights import OF_THE_BACKBONE
from tiny import asked, assert_only_its_backbone_is_taken, pretrained_model, tiny_backbone
from tiny_causal import STREAMING

INSTRUCTION = "Which genres does this user like and dislike?"
TARGETS = ["The user likes Drama", "The user likes Comedy, Sci-Fi and doesn't like Action"]


def save_t5(folder, seed=0, own_output=False):
    """With an output layer of its own it is T5 v1.1 or Flan-T5, else the first T5."""
    made = tiny_backbone(seed)
    made.model.config.tie_word_embeddings = not own_output
    if own_output:
        made.model.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.model.shared.weight))
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["first", "v1.1"])
def folder(tmp_path, request):
    return save_t5(tmp_path / "t5", own_output=request.param)


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:3])


def t5_model(data, folder, train, **settings):
    return pretrained_model(data, PretrainedT5Settings(name=str(folder), train=train), STREAMING, **settings)


def learn(model, histories, steps=2):
    target = model.tokenizer(TARGETS, padding=True, return_tensors="pt")
    instruction = model.tokenizer([INSTRUCTION], return_tensors="pt")
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    for _ in range(steps):  # LoRA's first factor learns once the second is not zero
        optimizer.zero_grad()
        model.train()(
            **window_tensors(windows_of(histories[:2], model.table, model.settings.window)),
            rounds=[asked(instruction, target)],
        )["loss"].backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_without_prompts_it_is_the_bare_model(tiny_data, folder, train):
    model = t5_model(tiny_data, folder, train, task_prompt=0)
    bare = T5ForConditionalGeneration.from_pretrained(folder).eval()
    tokens = model.tokenizer([INSTRUCTION], return_tensors="pt")
    written = bare.generate(**tokens, max_new_tokens=12, do_sample=False)
    answer = model.generate_from(torch.zeros(1, 0, 32), INSTRUCTION)
    assert answer == model.tokenizer.batch_decode(written, skip_special_tokens=True)
    assert answer[0]


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_only_what_was_trained_is_saved_and_only_its_backbone_is_taken(
    tiny_data, histories, tmp_path, folder, train
):
    model = t5_model(tiny_data, folder, train)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    learn(model, histories)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    of_the_backbone = {name for name in moved if name.startswith(OF_THE_BACKBONE)}
    assert "task_prompt" in moved
    assert bool(of_the_backbone) is (train == "lora")
    assert all("lora_" in name for name in of_the_backbone)
    other = save_t5(tmp_path / "other", seed=7)
    assert_only_its_backbone_is_taken(model, histories, folder, other, "cannot be loaded as a T5")


def test_loras_first_answer_is_the_backbones_own(tiny_data, histories, folder):
    lora, frozen = (t5_model(tiny_data, folder, train).generate(histories) for train in ("lora", "frozen"))
    assert lora == frozen


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_it_learns(tiny_data, histories, folder, train):
    model = t5_model(tiny_data, folder, train, like_tokens=True)
    learn(model, histories, steps=1)
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert any(name.startswith("user_encoder.") and gradient.any() for name, gradient in gradients.items())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def lora_t5(data, folder, **settings):
    return pretrained_model(
        data, PretrainedT5Settings(name=str(folder), train="lora", **settings), STREAMING
    ).backbone


def adapted(backbone):
    """The modules that LoRA updates, by the ends of their names."""
    return {
        name.split(".lora_")[0].split(".")[-1] for name, _ in backbone.named_parameters() if "lora_" in name
    }


def test_lora_updates_every_linear_layer_with_a_scale_of_two_if_nothing_else_is_set(tiny_data, tmp_path):
    backbone = lora_t5(tiny_data, save_t5(tmp_path / "t5"), lora_r=4)
    config = backbone.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.0)
    assert adapted(backbone) == {"q", "k", "v", "o", "wi_0", "wi_1", "wo"}


def test_lora_takes_alpha_dropout_and_target_modules_as_peft_does(tiny_data, tmp_path):
    settings = {"lora_alpha": 32, "lora_dropout": 0.1, "lora_target_modules": ["q", "v"]}
    backbone = lora_t5(tiny_data, save_t5(tmp_path / "t5"), **settings)
    config = backbone.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 32, 0.1)
    assert adapted(backbone) == {"q", "v"}


def test_lora_refuses_modules_that_the_backbone_does_not_have(tiny_data, tmp_path):
    with pytest.raises(RecipeError, match=r"^model\.backbone\.lora_target_modules: .*q_proj"):
        lora_t5(tiny_data, save_t5(tmp_path / "t5"), lora_target_modules=["q_proj"])
