"""Cross-attention conditioning: every backbone's layers attend to the user's vectors beside the prompt."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from palate.backbones import conditioning
from palate.backbones.conditioning import Conditioning, attending
from palate.config.recipe import CausalSettings, ModelSettings, Recipe, TextSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.encoders.base import UserPrompt
from palate.errors import MismatchError
from palate.export.write import export_prompts
from palate.model.model import PersonalizedModel, load_model
from palate.training.train import train_run
from tiny import pretrained_model, tiny_backbone, tiny_model, tiny_recipe
from tiny_causal import save_causal

UEM_TINY = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=16, dropout=0.0)


def opened(model, gate=2.0):
    """With gates that are open, as after some training."""
    with torch.no_grad():
        for attention in model.conditioning.attentions:
            attention.gate.fill_(gate)
    return model


@pytest.fixture(scope="module", params=["t5", "llama"])
def model(request, tiny_data, tmp_path_factory):
    if request.param == "t5":
        return tiny_model(tiny_data, UEM_TINY, conditioning="cross-attention")
    settings = CausalSettings(name=str(save_causal(tmp_path_factory.mktemp("llama"))), train="frozen")
    return pretrained_model(tiny_data, settings, UEM_TINY, conditioning="cross-attention")


@pytest.fixture(scope="module")
def windows(tiny_data):
    drawn = draw_windows(tiny_data.interactions, np.arange(4), 9, "random", np.random.default_rng(0))
    drawn.length[:3] = [2, 5, 0]
    return drawn


def loss_of(model, user, texts):
    return -model.log_likelihood(user, texts)


def test_the_users_vectors_are_beside_the_prompt_and_not_in_it(model, windows):
    prompt = model.prompt(windows)
    frame = 0 if model.frame is None else len(model.frame.opening) + len(model.frame.closing)
    asked = len(model.tokenizer(model.settings.instruction)["input_ids"])
    assert len(set(prompt.lengths.tolist())) == 1
    assert abs(int(prompt.lengths[0]) - model.settings.task_prompt - frame - asked) <= 1
    assert prompt.attended[0].shape[:2] == windows.item_index.shape
    rows = torch.tensor([2, 0])
    assert torch.equal(prompt[rows].attended[1], prompt.attended[1][rows])


def test_with_closed_gates_the_backbone_is_as_it_was_and_with_open_ones_it_hears_the_user(model, windows):
    user, texts = model.user_prompt(windows), ["The user likes Drama"] * 4
    other = UserPrompt(user.embeddings.flip(0), user.mask.flip(0))
    opened(model, 0.0)
    torch.testing.assert_close(loss_of(model, user, texts), loss_of(model, other, texts))
    opened(model)
    assert not torch.allclose(loss_of(model, user, texts), loss_of(model, other, texts))


def test_a_user_is_heard_alone_as_in_a_batch(model, windows):
    opened(model)
    texts = ["The user likes Drama and doesn't like Comedy"] * 4
    together = loss_of(model, model.user_prompt(windows), texts)
    for row in range(4):
        one = windows[row : row + 1].trimmed()
        alone = loss_of(model, model.user_prompt(one), texts[:1])
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)
    answers = model.answer(windows)
    assert [model.answer(windows[row : row + 1].trimmed())[0] for row in range(4)] == answers


def test_only_while_it_runs_is_a_user_attended_to(model, windows):
    opened(model)
    prompt = model.prompt(windows)
    layers = model.conditioning.attentions
    hidden = torch.randn(4, 3, prompt.embeddings.shape[-1])
    heard = layers[0](hidden, *prompt.attended)
    assert heard.shape == hidden.shape
    with pytest.raises(ZeroDivisionError), attending(prompt.attended):
        raise ZeroDivisionError
    assert conditioning._ATTENDED.get() is None


def test_a_trained_rival_comes_back_from_disk(tiny_data, tiny_sentence_encoder, tmp_path):
    base = tiny_recipe(tiny_data.path, tiny_sentence_encoder, tmp_path / "cache")
    settings = {
        **base.model.model_dump(),
        "user_encoder": {"kind": "pooled", "num_vectors": 4, "d_ff": 16},
        "conditioning": "cross-attention",
    }
    recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", model=settings)
    run = train_run(recipe, tmp_path / "run")
    again = load_model(run, device="cpu")
    gates = [float(attention.gate.detach()) for attention in again.conditioning.attentions]
    assert all(gate != 0 for gate in gates)  # they have opened, by themselves
    again.save_pretrained(tmp_path / "model")
    copied = PersonalizedModel.from_pretrained(tmp_path / "model")
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    assert copied.generate(histories) == again.generate(histories)
    with pytest.raises(
        MismatchError, match=r"attends to the user's vectors in its layers, and other engines read prompts"
    ):
        export_prompts(run, histories, tmp_path / "prompts")
    assert not (tmp_path / "prompts").exists()


def test_every_second_layer_from_the_last(tiny_data):
    backbone = tiny_backbone(layers=3).model
    assert [len(Conditioning(backbone, every).attentions) for every in (1, 2, 3, 4)] == [3, 2, 1, 1]
    with pytest.raises(MismatchError, match="layers of a Linear are not known"):
        Conditioning(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"user_encoder": TextSettings()}, "requires user vectors"),
        ({"user_first": True}, "has no user prompt in the input"),
    ],
)
def test_what_has_no_vectors_to_attend_to_is_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        ModelSettings(conditioning="cross-attention", **settings)
    with pytest.raises(ValidationError, match=r"does not work with model\.conditioning=cross-attention"):
        Recipe(train={"gradient_checkpointing": True}, model={"conditioning": "cross-attention"})


def test_there_is_no_prefix_of_such_a_user(model, tiny_data):
    with pytest.raises(MismatchError, match="no prefix"):
        model.prefix(tiny_data.histories(tiny_data.user_ids[:1]))
