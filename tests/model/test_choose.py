"""Choices: their probabilities equal the backbone's for the same embeddings."""

import pytest
import torch

from palate.config.recipe import StreamingSettings
from palate.data.windows import draw_windows
from palate.encoders.base import UserPrompt
from palate.model import generation
from palate.model.generation import Prefix
from tiny import tiny_model
from tiny_causal import causal_model, save_causal

STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)
DIFFERENT = [("yes", "no"), ("no", "maybe"), ("3", "5")]
ALIKE = [("Drama", "Drama Drama"), ("yes", "yes yes"), ("Drama", "Drama, Comedy")]


@pytest.fixture
def asked(tiny_data):
    import numpy as np

    users = tiny_data.users("train")[:3]
    windows = draw_windows(tiny_data.interactions, users, 6, "random", np.random.default_rng(0))
    return tiny_model(tiny_data, STREAMING), windows, ["Is it A?", "Is it B, or not?", "How many?"]


def likelihoods(model, windows, instruction, texts):
    """By a forward pass each, of one user and one text, without any of the batching."""
    found = []
    for text in texts:
        tokens = model.tokenizer([text], return_tensors="pt")
        prompt = model.prompt(windows, instruction)
        logits = model.backbone(
            inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, labels=tokens["input_ids"]
        ).logits.log_softmax(dim=-1)
        found.append(logits.gather(2, tokens["input_ids"][..., None]).flatten())
    return found


@torch.inference_mode()
@pytest.mark.parametrize(("choices", "first_only"), [(DIFFERENT, True), (ALIKE, False)])
def test_the_next_token_decides_where_it_can_and_all_tokens_else(asked, choices, first_only):
    model, windows, instructions = asked
    chances = model.choose(windows, choices, instructions)
    assert chances.shape == (3, 2)
    for row in range(3):
        alone = likelihoods(model, windows[row : row + 1], instructions[row], choices[row])
        scores = torch.stack([each[0] if first_only else each.sum() for each in alone])
        torch.testing.assert_close(chances[row], scores.softmax(dim=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("choices", [DIFFERENT, ALIKE])
@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only"])
def test_windows_that_are_read_once_answer_several_questions(asked, tiny_data, tmp_path, choices, kind):
    model, windows, instructions = asked
    if kind == "decoder-only":
        model = causal_model(tiny_data, save_causal(tmp_path / "backbone"))
    read = model.read(windows)
    assert isinstance(read, Prefix if kind == "decoder-only" else UserPrompt)
    for these in (instructions, instructions[::-1], instructions):
        chances = model.choose(read, choices, these)
        torch.testing.assert_close(chances, model.choose(windows, choices, these), atol=1e-5, rtol=1e-4)
        assert model.generate_after(read, these) == model.answer(windows, these)


def test_answers_that_begin_differently_take_one_pass_for_all(asked, monkeypatch):
    model, windows, instructions = asked
    passes, score = [], generation.score
    monkeypatch.setattr(generation, "score", lambda *given: passes.append(1) or score(*given))
    model.choose(windows, DIFFERENT, instructions)
    assert len(passes) == 1
    model.choose(windows, ALIKE, instructions)
    assert len(passes) == 3


def test_each_user_is_asked_their_own_question(asked):
    model, windows, instructions = asked
    together = model.answer(windows, instructions)
    assert together == [
        model.answer(windows[row : row + 1], instructions[row])[0] for row in range(len(windows))
    ]
