"""Training with a frozen decoder-only backbone: rounds of questions, a sampled vocabulary, another run's encoder."""

import pytest
import torch
from safetensors.torch import load_file

from palate.config.load import dump_recipe
from palate.errors import RecipeError
from palate.model.model import load_model
from palate.training import token_sampler
from palate.training.train import train_run
from palate.training.trainer import PersonalizedTrainer
from tiny import tiny_recipe
from tiny_causal import save_causal

ENCODER = {"kind": "streaming", "num_queries": 6, "d_model": 16, "num_layers": 1, "num_heads": 2}


@pytest.fixture
def make(tiny_data, tiny_sentence_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(token_sampler, "EXACT_EVERY", 4)
    monkeypatch.setattr(token_sampler, "LIKELY", 30)
    backbone = save_causal(tmp_path / "backbone", "gemma3")

    def recipe(train=None, **model):
        content = {
            "backbone": {"kind": "causal", "name": str(backbone), "train": "frozen"},
            "user_encoder": ENCODER,
            "task_prompt": 2,
            "like_tokens": True,
            **model,
        }
        settings = {
            "max_steps": 9,
            "per_device_train_batch_size": 3,
            "eval_steps": 3,
            "eval_users": 4,
            "auxiliary_weight": 0.5,
            "answers": "view",
            "rounds": 3,
            "questions": {"preference": 0.5, "yes-no": 0.3, "rating": 0.2},
            "sampled_tokens": 60,
            **(train or {}),
        }
        return tiny_recipe(
            tiny_data.path,
            tiny_sentence_encoder,
            tmp_path / "cache",
            model=content,
            train=settings,
            evaluate={"window": 10, "batch_size": 8, "max_new_tokens": 24},
        )

    return recipe


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def test_a_training_that_was_cut_between_two_exact_steps_ends_as_if_nothing_had_happened(
    make, tmp_path, monkeypatch
):
    whole = train_run(make(), tmp_path / "whole")
    drawn, step = [], PersonalizedTrainer.training_step

    def cut(trainer, *arguments, **named):
        drawn.append(trainer.sampler.likely)
        if trainer.state.global_step == 7:
            raise KeyboardInterrupt
        return step(trainer, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PersonalizedTrainer, "training_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train_run(make(), tmp_path / "cut")
    assert [len(likely) for likely in drawn] == [0] + 7 * [30]
    assert drawn[1] == drawn[4] != drawn[5]  # step 4 scored all tokens again
    lines = []
    train_run(make(), tmp_path / "cut", report=lines.append)
    assert "resuming from checkpoint-6" in lines
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(tmp_path / "cut")[name], weight, atol=1e-6, rtol=1e-6)


def test_a_sampled_vocabulary_needs_output_embeddings_that_stay_as_they_are(make, tmp_path):
    backbone = make().model.backbone.model_dump() | {"train": "full"}
    with pytest.raises(
        RecipeError, match=r"train\.sampled_tokens needs a decoder-only backbone .* set it to 0"
    ):
        train_run(make(backbone=backbone), tmp_path / "full")


def test_a_user_encoder_goes_on_from_another_run_whatever_its_backbone(make, tmp_path):
    t5 = {"kind": "random-t5", "d_model": 48, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 400}
    settings = {"rounds": 1, "questions": {}, "sampled_tokens": 0, "learning_rate": 0.01}
    first = train_run(make(settings, backbone=t5, like_tokens=False), tmp_path / "first")
    taken = train_run(make({"max_steps": 0}, user_encoder_from=first), tmp_path / "taken")
    learnt, started = weights(first), weights(taken)
    same = {name for name in learnt if name in started and torch.equal(learnt[name], started[name])}
    assert {"user_encoder.reader.key.weight", "user_encoder.categories.weight"} <= same
    assert started["user_encoder.name"].shape[1] == 32 != learnt["user_encoder.name"].shape[1]
    assert load_model(taken).user_encoder.name.shape[1] == 32
    assert f"user_encoder_from: {first}" in dump_recipe(make(user_encoder_from=first))
