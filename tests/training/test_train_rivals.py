"""Trainings of rivals' encoders with palate's additions: simulated users, category logits, names, pretraining."""

import pytest
import torch

import palate
from palate.encoders.equipped import EquippedEncoder
from palate.errors import MismatchError
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.model.model import load_model
from palate.schema import Item
from palate.training.train import train_run
from tiny import tiny_recipe

EQUIPPED = {
    "kind": "equipped",
    "encoder": {"kind": "uem", "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16, "dropout": 0.0},
    "d_model": 16,
    "named": 2,
}
TAUGHT = {
    "max_steps": 6,
    "eval_steps": 3,
    "auxiliary_weight": 1.0,
    "auxiliary_only_ratio": 0.3,
    "answers": "view",
    "window_labels": 0.3,
}


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def make(encoder, **changes):
        model = {
            **tiny_recipe(tiny_data.path, tiny_sentence_encoder, cache).model.model_dump(),
            "user_encoder": encoder,
        }
        model |= changes
        return tiny_recipe(
            tiny_data.path,
            tiny_sentence_encoder,
            cache,
            model=model,
            simulation={"users": 20},
            train=TAUGHT,
        )

    return make


@pytest.fixture(scope="module")
def trained(make_recipe, tmp_path_factory):
    return train_run(make_recipe(EQUIPPED), tmp_path_factory.mktemp("equipped") / "run")


def test_an_equipped_rival_is_trained_saved_and_evaluated(trained, tiny_data):
    model = load_model(trained, device="cpu")
    assert isinstance(model.user_encoder, EquippedEncoder)
    assert not model.settings.binds
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    assert model.encode(histories).category_logits.shape == (3, len(tiny_data.categories), 2)
    assert len(model.generate(histories)) == 3
    table = palate.evaluate([str(trained), "rule"], tiny_data, windows=10, users="all", device="cpu")
    assert {"run", "run, view in a template", "rule"} <= set(table.names)


def test_a_new_item_is_read_with_its_categories_and_a_new_category_is_not(trained, tiny_data):
    model = load_model(trained, device="cpu")
    history = tiny_data.histories(tiny_data.user_ids[:1])[0]

    def read(*categories):
        more = model.with_items([Item("new", "A New Film", categories)])
        shown = type(history)("x", ["new"], [5.0], [0])
        return more.encode([shown]).embeddings

    drama, comedy = read("Drama"), read("Comedy")
    assert not torch.allclose(drama, comedy)
    assert torch.isfinite(read("Drama", "Cookery")).all()


def test_an_equipped_encoder_is_taken_from_another_run(trained, make_recipe, tmp_path, tiny_data):
    recipe = make_recipe(EQUIPPED, user_encoder_from=str(trained))
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": 0})})
    fresh = load_model(train_run(recipe, tmp_path / "fresh"), device="cpu")
    before = load_model(trained, device="cpu")
    for name in ("item.weight", "encoder.layers.block.0.layer.0.SelfAttention.q.weight"):
        torch.testing.assert_close(
            fresh.user_encoder.get_parameter(name), before.user_encoder.get_parameter(name)
        )
    assert not torch.equal(
        fresh.user_encoder.get_parameter("encoder.project.weight"),
        before.user_encoder.get_parameter("encoder.project.weight"),
    )
    other = {**EQUIPPED, "categories": False}
    with pytest.raises(MismatchError, match="user_encoder_from"):
        train_run(make_recipe(other, user_encoder_from=str(trained)), tmp_path / "other")


def test_a_single_vector_is_trained_in_its_plain_form(make_recipe, tmp_path, tiny_data):
    recipe = make_recipe({"kind": "pooled", "d_ff": 16})
    plain = {"max_steps": 4, "eval_steps": 2}
    train = recipe.train.model_validate({"per_device_train_batch_size": 4, **plain})
    run = train_run(recipe.model_copy(update={"train": train}), tmp_path / "run")
    predictor = PersonalizedPredictor(load_model(run, device="cpu"), "pooled")
    assert predictor.model.encode(tiny_data.histories(tiny_data.user_ids[:2])).embeddings.shape[1] == 1
