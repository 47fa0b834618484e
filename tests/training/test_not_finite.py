"""A diverging training stops at that step with a remedy, and saves no model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from palate.cli import app
from palate.config.load import dump_recipe
from palate.errors import DataError, TrainingError
from palate.evaluation.dev import DevUsers
from palate.model.model import PersonalizedModel, load_model
from palate.runs.run import RunFolder
from palate.training.train import train_run
from palate.training.trainer import PersonalizedTrainer
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda **sections: tiny_recipe(tiny_data.path, tiny_sentence_encoder, cache, **sections)


def at_step(monkeypatch, step, change):
    """Change what a training step gives after so many steps."""
    original = PersonalizedTrainer.compute_loss

    def compute(trainer, model, *given, **named):
        loss = original(trainer, model, *given, **named)
        return change(loss, model) if trainer.state.global_step == step else loss

    monkeypatch.setattr(PersonalizedTrainer, "compute_loss", compute)


def nan_gradient(loss, model):
    """The same loss, whose gradient by one weight is infinite: the root's at 0."""
    return loss + (model.task_prompt.sum() * 0).sqrt()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda loss, _: loss * float("nan"), "the loss is nan at step 7 of 12"),
        (lambda loss, _: loss * float("inf"), "the loss is inf at step 7 of 12"),
        (nan_gradient, "the gradients are not finite at step 7 of 12"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_training(make_recipe, tmp_path, monkeypatch, change, said):
    at_step(monkeypatch, 6, change)
    with pytest.raises(TrainingError, match=said) as raised:
        train_run(make_recipe(), tmp_path / "run")
    assert "train.learning_rate (now 0.003)" in str(raised.value)
    run = RunFolder(tmp_path / "run")
    assert not run.model.exists()
    assert run.manifest.ended is None
    (checkpoint,) = run.checkpoints.glob("checkpoint-*")  # the last good one
    assert checkpoint.name == "checkpoint-4"
    assert all(
        bool(weight.isfinite().all()) for weight in load_file(checkpoint / "model.safetensors").values()
    )


def test_weights_that_are_not_finite_are_never_kept_as_the_best(make_recipe, tmp_path, monkeypatch):
    original = torch.optim.AdamW.step

    def step(optimizer, *given, **named):
        original(optimizer, *given, **named)
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].fill_(float("inf"))

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingError, match=r"the weights \S+ are not finite at step 2 of 1"):
        train_run(make_recipe(train={"max_steps": 1}), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert not run.model.exists()
    assert list(run.checkpoints.glob("*")) == []


def test_a_rate_that_is_far_too_high_ends_with_one_line_and_exit_code_2(make_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        dump_recipe(make_recipe(train={"learning_rate": 1e30, "max_steps": 40}))
    )
    done = CliRunner().invoke(app, ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "not finite" in done.stderr or "the loss is" in done.stderr
    assert "train.learning_rate (now 1e+30)" in done.stderr
    assert not (tmp_path / "run" / "model").exists()


def test_a_saved_model_with_a_weight_that_is_not_finite_is_refused(make_recipe, tmp_path):
    out = train_run(make_recipe(train={"max_steps": 1}), tmp_path / "run")
    path = out / "model" / "model.safetensors"
    weights = load_file(path)
    name = "user_encoder.norm.weight"
    weights[name][0] = float("nan")
    save_file(weights, path)
    with pytest.raises(DataError, match=rf"{path}: the weights {name} hold numbers that are not finite"):
        load_model(out)


def test_weights_that_are_not_finite_are_not_saved(make_recipe, tmp_path):
    model = load_model(train_run(make_recipe(train={"max_steps": 1}), tmp_path / "run"))
    with torch.no_grad():
        model.task_prompt[0, 0] = float("-inf")
    with pytest.raises(TrainingError, match="the weights task_prompt hold numbers that are not finite"):
        model.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_answers_that_nobody_can_read_are_told_as_such(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(PersonalizedModel, "answer", lambda _, windows, *__: ["blah"] * len(windows))
    lines = []
    out = train_run(make_recipe(), tmp_path / "run", report=lines.append)
    assert "dev F1 0.000 (100% of answers unreadable)" in next(line for line in lines if "step 4" in line)
    (warning,) = load_model(out).settings.training.warnings()
    assert "none of its answers about 6 dev users contains a label" in warning
    assert lines[-1] == f"warning: {warning}"


def test_a_finished_run_says_again_what_is_wrong_with_it(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(PersonalizedModel, "answer", lambda _, windows, *__: ["blah"] * len(windows))
    out = train_run(make_recipe(train={"max_steps": 1}), tmp_path / "run")
    lines = []
    train_run(make_recipe(train={"max_steps": 1}), out, report=lines.append)
    assert lines[0] == f"{out} is finished already"
    assert "train.max_steps (it had 1)" in lines[1]


def test_the_record_compares_with_what_knows_nothing_of_the_user(make_recipe, tmp_path, tiny_data):
    """By hand: the truth is what a predictor says that knows it, and its wrong history is a neighbour's truth."""
    from palate.tasks import load_task

    recipe = make_recipe()
    task = load_task(recipe.task, tiny_data.info)
    dev = DevUsers(recipe, tiny_data, task)
    examples = dev.examples[0]

    class Knows:
        name = "knows"

        def predict(self, users, windows):
            """The window tells whose it is: its items and its size are told apart by their sum."""
            rows = [
                next(row for row in range(len(examples)) if np_equal(examples.windows, row, windows, at))
                for at in range(len(windows))
            ]
            return task.target_texts(examples.truth[rows])

    def np_equal(first, row, second, at):
        return (
            first.length[row] == second.length[at]
            and (
                first.item_index[row, : first.length[row]] == second.item_index[at, : second.length[at]]
            ).all()
        )

    found = dev.compared(Knows())
    assert (found.f1, found.unreadable, found.users) == (1.0, 0.0, 6)
    assert found.another_user < 1
    assert 0 < found.population < 1


def test_curve_and_record_hold_only_what_was_measured(make_recipe, tmp_path):
    settings = {"max_steps": 8, "auxiliary_weight": 0.5, "auxiliary_only_ratio": 0.5, "eval_steps": 2}
    lines = []
    out = train_run(make_recipe(train=settings), tmp_path / "run", report=lines.append)
    curve = json.loads((out / "logs" / "curve.json").read_text())["scores"]
    assert [row["step"] for row in curve if row["f1"] is None] == [2, 4]  # the fifth is the backbone's first
    assert "step 2 of 8" in lines[1]
    assert "user encoder alone" in lines[1]
    assert not any("0.000, 0.0 minutes" in line for line in lines[:2])
    training = load_model(out).settings.training
    assert (training.steps, training.max_steps, training.ended_by, training.threads) == (8, 8, "steps", 1)
