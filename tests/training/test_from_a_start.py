"""Training from a model without a catalogue: improves on dev users, or keeps the initial weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from palate.backbones.spelling import spelled
from palate.config.load import load_recipe
from palate.config.recipe import ModelSettings
from palate.encoders.estimates import PopulationInputs, Reading
from palate.errors import RecipeError
from palate.evaluation.dev import DevScore, DevUsers
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.view import ViewInTemplate
from palate.model.config import model_settings
from palate.model.model import load_model
from palate.tasks import load_task
from palate.training.train import _trained_part, train_run
from tiny import tiny_recipe, unbound_model
from tiny_causal import save_causal

RECIPES = Path(__file__).parents[2] / "recipes"
TRAIN = {"max_steps": 4, "eval_steps": 2, "auxiliary_weight": 1.0}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "model"
    unbound_model(grammar=True, max_new_tokens=48).save_pretrained(folder)
    return folder


def trained(start, data, tmp_path, model=None, encoder="none", **train):
    recipe = tiny_recipe(data.path, tmp_path / encoder, tmp_path / "cache", train={**TRAIN, **train})
    recipe = recipe.model_copy(
        update={"evaluate": recipe.evaluate.model_copy(update={"max_new_tokens": None})}
    )
    said = []
    recipe = recipe.model_copy(update={"model": ModelSettings(start=str(start), **(model or {}))})
    train_run(recipe, tmp_path / "run", report=said.append, device="cpu")
    return tmp_path / "run", said


def weights_that_differ(first, second):
    theirs = second.state_dict()
    return {
        ".".join(name.split(".")[:2])
        for name, weight in first.state_dict().items()
        if not torch.equal(weight, theirs[name])
    }


def test_only_what_reads_statistics_is_trained(start, tiny_data, tmp_path, monkeypatch):
    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    run, said = trained(start, tiny_data, tmp_path)
    assert "dev F1 0.100 before the training" in said
    model = load_model(run, device="cpu")
    assert weights_that_differ(load_model(start, device="cpu"), model) == {"user_encoder.network"}
    assert model_settings(run).training.best_step == 4
    assert model.settings.data_fingerprint == tiny_data.info.fingerprint
    histories = tiny_data.histories(tiny_data.user_ids[:2])
    assert all(text.startswith("The user likes") for text in model.generate(histories))


def test_a_start_that_no_step_is_better_than_is_kept(start, tiny_data, tmp_path, monkeypatch):
    scores = iter([0.3, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    run, said = trained(start, tiny_data, tmp_path, learning_rate=1.0)
    assert any(
        line.startswith("no step was surely better than the start, which is kept: dev F1 0.300")
        for line in said
    )
    assert weights_that_differ(load_model(start, device="cpu"), load_model(run, device="cpu")) == set()


def test_a_step_that_is_better_by_chance_alone_does_not_replace_the_start(
    start, tiny_data, tmp_path, monkeypatch
):
    outcomes = np.zeros((3, 1, 40, 3, 2), dtype=np.bool_)  # a score's, of one window and 40 users
    outcomes[:, :, :, 2, 0] = True
    outcomes[0, :, :20, :2, 0] = True
    outcomes[1, :, 1:22, :2, 0] = True  # 2 users better, 1 worse
    outcomes[2, :, :20, :2, 0] = True
    scores = iter([DevScore(0.667, 0.0, outcomes[0]), DevScore(0.689, 0.0, outcomes[1])])
    last = DevScore(0.667, 0.0, outcomes[2])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: next(scores, last))
    run, _ = trained(start, tiny_data, tmp_path / "chance", learning_rate=1.0)
    assert model_settings(run).training.best_step == 0
    outcomes[2, :, :35, :2, 0] = True
    scores = iter([DevScore(0.667, 0.0, outcomes[0])])
    last = DevScore(0.933, 0.0, outcomes[2])
    run, _ = trained(start, tiny_data, tmp_path / "sure", learning_rate=1.0)
    assert model_settings(run).training.best_step == 2


def test_weights_are_chosen_by_what_the_user_encoder_decides_and_the_record_is_of_the_answers(
    start, tiny_data, tmp_path, monkeypatch
):
    asked = []

    def score(_, predictor):
        asked.append(type(predictor).__name__)
        return _score(0.1 * len(asked))

    monkeypatch.setattr("palate.training.train.DevUsers.score", score)
    trained(start, tiny_data, tmp_path)
    assert asked[:3] == ["ViewInTemplate"] * 3  # the start, steps 2 and 4
    assert asked[3] == "PersonalizedPredictor"


def _score(f1):
    return DevScore(f1, 0.0)


def test_a_start_is_a_whole_model_of_the_universal_kind(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="start is a complete model, but task_prompt is also given"):
        ModelSettings(start="packaged", task_prompt=3)
    recipe = tiny_recipe(
        tiny_data.path,
        tmp_path / "none",
        tmp_path / "cache",
        model={"user_encoder": {"kind": "text"}},
        train={"max_steps": 0},
    )
    train_run(recipe, tmp_path / "other", device="cpu")
    with pytest.raises(RecipeError, match="has a 'text' user encoder, whose weights are of one catalogue"):
        trained(tmp_path / "other", tiny_data, tmp_path)


def frozen(folder):
    return {"kind": "causal", "name": str(folder), "train": "frozen"}


def test_another_backbone_that_is_not_trained_gets_an_adapter(start, tiny_data, tmp_path, monkeypatch):
    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    backbone = frozen(save_causal(tmp_path / "backbone", "gemma3"))
    settings = {"backbone": backbone, "task_prompt": 3, "task_prompt_text": " genres of this user"}
    untrained, _ = trained(start, tiny_data, tmp_path / "none", settings, max_steps=0)
    run, _ = trained(start, tiny_data, tmp_path, settings, answers="decided")
    before, model, own = (load_model(one, device="cpu") for one in (untrained, run, start))
    assert weights_that_differ(before, model) == {"task_prompt", "user_encoder.prompt"}
    for name, weight in own.user_encoder.network.state_dict().items():
        assert torch.equal(weight, model.user_encoder.network.state_dict()[name])
    assert not any((run / "model").glob("backbone*"))  # its weights are its own makers'
    histories = tiny_data.histories(tiny_data.user_ids[:2])
    user = model.encode(histories)
    tokens = model.embedded(torch.arange(model.vocab_size))
    decided = int(user.named[0, 0, 0])
    assert decided >= 0
    for token in spelled(model.tokenizer, [tiny_data.categories[decided]])[0]:
        assert (user.embeddings[0] - tokens[token]).norm(dim=-1).min() < 1e-5
    assert all(text.startswith("The user likes") for text in model.generate(histories))
    bound = load_model(run, data=tiny_data, device="cpu")
    assert bound.generate(histories) == model.generate(histories)


def test_an_adapter_without_a_task_prompt_is_trained_too(start, tiny_data, tmp_path):
    backbone = frozen(save_causal(tmp_path / "backbone"))
    untrained, _ = trained(
        start, tiny_data, tmp_path / "none", {"backbone": backbone, "task_prompt": 0}, max_steps=0
    )
    run, _ = trained(start, tiny_data, tmp_path, {"backbone": backbone, "task_prompt": 0}, answers="decided")
    kept = model_settings(run).training.best_step
    differ = weights_that_differ(load_model(untrained, device="cpu"), load_model(run, device="cpu"))
    assert differ == ({"user_encoder.prompt"} if kept else set())


def test_what_an_adapter_cannot_be_made_for_is_refused(start, tiny_data, tmp_path):
    with pytest.raises(
        ValueError, match=r"with start, the backbone must be frozen; set backbone\.train=frozen"
    ):
        ModelSettings(start="packaged", backbone={"kind": "causal", "name": "some", "train": "lora"})
    with pytest.raises(ValueError, match="start is a complete model, but user_first is also given"):
        ModelSettings(start="packaged", user_first=True, backbone=frozen("some"))
    recipe = tiny_recipe(tiny_data.path, tmp_path, tmp_path / "cache", train={"answers": "decided"})
    with pytest.raises(
        RecipeError, match="a 'streaming' user encoder makes no decisions; set it to 'view' or"
    ):
        train_run(recipe, tmp_path / "run", device="cpu")


def test_latent_queries_are_added_to_a_start_and_trained_with_it(
    start, tiny_data, tiny_sentence_encoder, tmp_path, monkeypatch
):
    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr("palate.training.train.DevUsers.score", lambda *_: _score(next(scores, 0.3)))
    latent = {"num_queries": 5, "d_model": 16, "num_heads": 2}
    added = {
        "user_encoder": {
            "kind": "universal",
            "d_model": 16,
            "num_layers": 1,
            "num_heads": 2,
            "latent": latent,
        }
    }
    untrained, _ = trained(start, tiny_data, tmp_path / "none", added, tiny_sentence_encoder, max_steps=0)
    run, _ = trained(start, tiny_data, tmp_path, added, tiny_sentence_encoder)
    before, model = (load_model(one, device="cpu") for one in (untrained, run))
    assert weights_that_differ(before, model) == {"user_encoder.network", "user_encoder.latent"}
    plain = load_model(start, data=tiny_data, device="cpu")
    histories = tiny_data.histories(tiny_data.user_ids[:3])
    expected = plain.user_encoder.network(
        Reading.of(plain.user_encoder._read(plain.events(histories)).counts, _inputs(plain))
    )[0]
    found = before.train().user_encoder(before.events(histories)).category_logits
    torch.testing.assert_close(found, expected)
    other = {"user_encoder": {**added["user_encoder"], "num_layers": 3}}
    with pytest.raises(RecipeError, match="in more than latent; give only latent"):
        trained(start, tiny_data, tmp_path / "other", other, tiny_sentence_encoder)


def test_the_recipe_with_latent_queries_fits_the_packaged_model(tiny_data, tiny_sentence_encoder, tmp_path):
    encoder = load_recipe(RECIPES / "own-data-latent.yaml").model.user_encoder
    added = {"user_encoder": encoder.model_dump(exclude_unset=True)}
    run, _ = trained("packaged", tiny_data, tmp_path, added, tiny_sentence_encoder, max_steps=0)
    latent = load_model(run, device="cpu").settings.user_encoder.latent
    assert latent.num_queries == encoder.latent.num_queries


def _inputs(model):
    return PopulationInputs.of([model.summary])


def test_an_adapter_is_compared_by_its_answers(start, tiny_data, tmp_path):
    recipe = tiny_recipe(tiny_data.path, tmp_path, tmp_path / "cache")
    predictor = PersonalizedPredictor(load_model(start, data=tiny_data, device="cpu"), "ours")
    dev = DevUsers(recipe, tiny_data, load_task(recipe.task, tiny_data.info))
    compared = []
    for beside in ({}, {"backbone": frozen("some")}):
        settings = ModelSettings(start=str(start), **beside)
        compared.append(_trained_part(recipe.model_copy(update={"model": settings}), predictor, dev))
    assert [type(one) for one in compared] == [ViewInTemplate, PersonalizedPredictor]
    # under the grammar, which the start has, they would be the user encoder's decisions
    assert (predictor.model.constrained, compared[1].model.constrained) == (True, False)
