"""Batches of a model's predictor: limited by input vectors, in the training's precision."""

import numpy as np
import pytest
import torch

from palate.config.recipe import StreamingSettings, TextSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.encoders.batch import window_tensors
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.items.blocks import build_block_table
from palate.model.model import PersonalizedModel
from tiny import tiny_backbone, tiny_model, tiny_settings

UEM_TINY = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=16, dropout=0.0)


@pytest.fixture(scope="module")
def windows(tiny_data):
    users = np.arange(12)
    drawn = draw_windows(tiny_data.interactions, users, 10, "random", np.random.default_rng(0))
    drawn.length[:6] = [1, 2, 3, 4, 5, 0]
    return drawn


def asked_batches(model, monkeypatch):
    """The windows, inference mode and autocast of each batch that is answered."""
    seen = []

    def answer(some, instruction=None):
        seen.append((some, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return [""] * len(some)

    monkeypatch.setattr(model, "answer", answer)
    return seen


@pytest.mark.parametrize("budget", [1, 25, 40, 10_000])
@pytest.mark.parametrize("kind", ["text", "uem"])
def test_no_batch_is_wider_than_the_budget_unless_it_holds_one_window(
    tiny_data, windows, monkeypatch, kind, budget
):
    if kind == "text":
        settings = tiny_settings(tiny_data, TextSettings(max_length=60))
        model = PersonalizedModel(settings, tiny_backbone(), build_block_table(tiny_data)).eval()
    else:
        model = tiny_model(tiny_data, UEM_TINY)
    lengths = model.input_lengths(windows)
    read = model.user_encoder(model.catalogue(**window_tensors(windows))).mask.sum(dim=1)
    assert lengths.tolist() == (read + model.settings.task_prompt).tolist()
    seen = asked_batches(model, monkeypatch)
    assert (
        len(PersonalizedPredictor(model, "ours", 5, batch_tokens=budget).predict(np.arange(12), windows))
        == 12
    )
    sizes = [len(some) * int(model.input_lengths(some).max()) for some, *_ in seen]
    for (some, *_), size in zip(seen, sizes, strict=True):
        assert len(some) == 1 or size <= budget
        assert len(some) <= 5
    assert sum(len(some) for some, *_ in seen) == 12
    assert len(seen) == {1: 12, 10_000: 3}.get(budget, len(seen))


def test_answers_do_not_depend_on_the_budget(tiny_data, windows):
    model = tiny_model(tiny_data, UEM_TINY)
    whole, parts = (
        PersonalizedPredictor(model, "ours", batch_tokens=budget).predict(np.arange(12), windows)
        for budget in (None, 20)
    )
    assert parts == whole


def test_a_model_that_was_trained_in_bfloat16_is_asked_in_it(tiny_data, windows, monkeypatch):
    model = tiny_model(tiny_data, StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2))
    for bf16 in (True, False):
        predictor = PersonalizedPredictor(model, "ours", bf16=bf16)
        with monkeypatch.context() as patch:
            seen = asked_batches(model, patch)
            predictor.predict(np.arange(12), windows)
        assert [mode for _, mode, _ in seen] == [bf16]
        assert not bf16 or seen[0][2] == torch.bfloat16
        user = next(user for _, user in predictor.encoded(windows))
        assert user.embeddings.is_inference()
