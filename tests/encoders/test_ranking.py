"""Vectors that name a user's top categories in order: selection, answers, and storage."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import ModelSettings, Recipe, StreamingSettings, TaskSettings
from palate.encoders.ranking import NOTHING, NamedCategories
from palate.model.build import build_model
from palate.model.model import PersonalizedModel
from palate.tasks import load_task
from tiny import TINY_T5, made_up_table

LABELS = 6


def in_order(odds, most):
    """The likeliest labels that are worth naming; then nothing."""
    ranked = sorted((at for at in range(LABELS) if odds[at] > NOTHING), key=lambda at: -odds[at])[:most]
    return ranked + [LABELS] * (most - len(ranked))


ODDS = st.permutations(range(-6, 6)).map(lambda many: [float(one) for one in many[:LABELS]])


@torch.no_grad()
@given(liked=ODDS, disliked=ODDS, most=st.integers(1, 7))
def test_each_place_chooses_the_next_that_is_worth_naming(liked, disliked, most):
    choices = NamedCategories(most, LABELS, 4).choices(torch.tensor([[*zip(liked, disliked, strict=True)]]))
    assert choices[0].argmax(dim=-1).tolist() == [in_order(liked, most), in_order(disliked, most)]


@torch.no_grad()
def test_a_vector_says_the_name_of_what_it_chose_and_its_half():
    named = NamedCategories(2, 3, 4)
    names, halves = torch.eye(4), torch.tensor([[2.0] * 4, [-2.0] * 4])
    named.start_from(names, halves)
    logits = torch.tensor(
        [[[9.0, -9.0], [6.0, -9.0], [-9.0, 9.0]]]
    )  # likes the first and the second, not the third
    liked_first, liked_second, disliked_first, disliked_second = named(logits)[0]
    for vector, name, half in [
        (liked_first, 0, 0),
        (liked_second, 1, 0),
        (disliked_first, 2, 1),
        (disliked_second, 3, 1),
    ]:
        torch.testing.assert_close(vector, names[name] + halves[half], atol=1e-3, rtol=0)


def test_it_learns_what_is_worth_naming():
    """Gradients reach every weight and the log-odds, and are finite where a choice is sure or a tie."""
    named = NamedCategories(3, LABELS, 4)
    logits = torch.randn(6, LABELS, 2) * torch.tensor([0.0, 1, 1, 1, 1, 30])[:, None, None]
    logits.requires_grad_()
    (named(logits) * torch.randn(6, 6, 4)).sum().backward()
    for name, weight in [*named.named_parameters(), ("logits", logits)]:
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("most", [1, 3])
def test_a_model_that_names_is_built_and_loaded_again(tiny_data, tmp_path, most):
    settings = StreamingSettings(num_queries=5, d_model=16, num_layers=1, num_heads=2, named=most)
    recipe = Recipe(model=ModelSettings(backbone=TINY_T5, user_encoder=settings, task_prompt=2))
    task = load_task(TaskSettings(), tiny_data.info)
    model = build_model(recipe, tiny_data, task, made_up_table(tiny_data)).eval()
    started = model.user_encoder.named.name
    words = [*(f" {name}" for name in tiny_data.categories), " nothing"]
    for name, word in zip(started, words, strict=True):
        ids = torch.tensor(model.tokenizer(word, add_special_tokens=False)["input_ids"])
        torch.testing.assert_close(name, model.embedded(ids).mean(dim=0))
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    prompts = model.encode(histories).embeddings
    assert prompts.shape[1] == settings.vectors == 5 + 2 * most
    model.save_pretrained(tmp_path / "model")
    loaded = PersonalizedModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.encode(histories).embeddings, prompts)
    assert loaded.generate(histories) == model.generate(histories)
