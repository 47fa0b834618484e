"""The training loop of generative recommenders, on a single parameter: checkpoints, rates, patience, resumption."""

import pytest
import torch
from torch import nn

from palate.config.recipe import TrainSettings
from palate.errors import TrainingError
from palate.generative.staged_training import Stage, StagedTraining, StageScore


class Stopped(Exception):
    pass


def number():
    module = nn.Module()
    module.value = nn.Parameter(torch.zeros(1))
    return module


def train(module, stage, folder, report=lambda line: None, **settings):
    given = {"eval_steps": 2, "learning_rate": 0.1, "max_grad_norm": 1e9} | settings
    return StagedTraining(module, [stage], TrainSettings(**given), 0, folder, report).run()


def rising(module, dev, steps=6, rate=lambda step: 1.0):
    """A stage whose value rises by the learning rate at each step: Adam's steps on a constant gradient."""
    return Stage("rising", [module.value], steps, lambda step: -module.value.sum(), dev, rate)


def test_without_a_dev_score_the_last_weights_are_kept(tmp_path):
    module = number()
    progress = train(module, rising(module, None), tmp_path)
    assert module.value.item() == pytest.approx(0.6, rel=1e-3)
    assert progress.history == ()


@pytest.mark.parametrize("maximised", [False, True])
def test_the_weights_of_the_best_dev_score_are_kept(tmp_path, maximised):
    module, sign = number(), -1 if maximised else 1
    dev = StageScore(lambda: sign * abs(module.value.item() - 0.2), "distance", maximised)
    said = []
    progress = train(module, rising(module, dev), tmp_path, said.append)
    assert module.value.item() == pytest.approx(0.2, rel=1e-3)
    assert [(step, round(score, 2)) for _, step, score in progress.history] == [
        (0, sign * 0.2),
        (2, sign * 0.0),
        (4, sign * 0.2),
        (6, sign * 0.4),
    ]
    assert said[0] == f"stage rising, step 0 of at most 6: dev distance {sign * 0.2:.4f}"


def test_a_stage_ends_after_its_patience(tmp_path):
    module = number()
    progress = train(
        module, rising(module, StageScore(module.value.item), steps=20), tmp_path, early_stopping_patience=2
    )
    assert [step for _, step, _ in progress.history] == [0, 2, 4]
    assert module.value.item() == 0.0  # its start was the best


def test_the_learning_rate_follows_the_stages_factor(tmp_path):
    module = number()
    train(module, rising(module, None, rate=lambda step: 0.0 if step % 2 else 1.0), tmp_path)
    assert module.value.item() == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("scored", [False, True])
def test_an_interrupted_stage_resumes_to_the_same_weights(tmp_path, scored):
    def stage(module, until=None):
        def loss(step):
            if step == until:
                raise Stopped
            return ((module.value - torch.randn(1)) ** 2).sum()  # drawn by the step's seed

        dev = StageScore(lambda: -module.value.item()) if scored else None
        return Stage("noisy", [module.value], 7, loss, dev, lambda step: 1 / (step + 1))

    whole, parts = number(), number()
    train(whole, stage(whole), tmp_path / "whole")
    with pytest.raises(Stopped):
        train(parts, stage(parts, until=5), tmp_path / "parts")
    again, said = number(), []
    train(again, stage(again), tmp_path / "parts", said.append)
    assert said[0] == "resuming from the checkpoint: stage noisy, step 4 of at most 7"
    assert torch.equal(again.value, whole.value)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    module = number()
    broken = Stage("broken", [module.value], 3, lambda step: module.value.sum() / 0, None)
    with pytest.raises(TrainingError, match=r"the loss of step 1 of the stage broken is nan; set a lower"):
        train(module, broken, tmp_path)


def test_a_step_averages_its_batches(tmp_path):
    asked = []

    def loss_of(module):
        def loss(batch):
            asked.append(batch)
            return (module.value * (1.0 if batch % 2 else -3.0)).sum()

        return loss

    apart, together = number(), number()
    train(
        apart,
        Stage("apart", [apart.value], 2, loss_of(apart), None),
        tmp_path / "a",
        gradient_accumulation_steps=2,
    )
    assert asked == [0, 1, 2, 3]
    whole = Stage("whole", [together.value], 2, lambda step: -together.value.sum(), None)
    train(together, whole, tmp_path / "b")
    assert apart.value.item() == together.value.item() != 0
    assert train(number(), rising(number(), None, steps=0), tmp_path / "c", global_batch_size=6).steps == 0


def test_the_backbone_has_a_rate_of_its_own(tmp_path):
    module = nn.Module()
    module.model, module.other = number(), number()
    weights = [module.model.value, module.other.value]
    stage = Stage("both", weights, 3, lambda step: -sum(weights).sum(), None, backbone="model.")
    train(module, stage, tmp_path, backbone_learning_rate=0.01)
    assert weights[0].item() == pytest.approx(0.03, rel=1e-3)
    assert weights[1].item() == pytest.approx(0.3, rel=1e-3)


def test_bf16_is_mixed_precision(tmp_path):
    module, kinds = nn.Module(), []
    module.layer = nn.Linear(2, 2)

    def loss(step):
        found = module.layer(torch.ones(1, 2))
        kinds.append(found.dtype)
        return found.float().sum()

    for bf16 in (False, True):
        train(module, Stage("one", [*module.parameters()], 1, loss, None), tmp_path / str(bf16), bf16=bf16)
    assert kinds == [torch.float32, torch.bfloat16]
    assert module.layer.weight.dtype == torch.float32
