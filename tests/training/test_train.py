"""Training end to end: the run's files, learning, and resumption after a kill."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

import palate
from palate.config.load import dump_recipe, load_recipe
from palate.config.recipe import SimulationSettings, TrainSettings, UEMSettings
from palate.data.dataset import load_dataset
from palate.errors import DataError, MismatchError, OutputError, RecipeError
from palate.evaluation.dev import DevScore, DevUsers
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.model.build import build_model, build_table
from palate.model.model import PersonalizedModel, load_model
from palate.runs.run import RunFolder, load_run
from palate.schema import Item
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics
from palate.training import batches
from palate.training import train as training
from palate.training.clock import Clock
from palate.training.train import train_run
from palate.training.trainer import PersonalizedTrainer
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    """Recipes over one dataset, one encoder and one cache of item vectors."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda **sections: tiny_recipe(tiny_data.path, tiny_sentence_encoder, cache, **sections)


def harder(make_recipe):
    """All that could make two trainings differ: dropout, simulated users, accumulation, odd logging steps."""
    model = make_recipe().model.model_dump()
    model["backbone"]["dropout"] = model["user_encoder"]["dropout"] = 0.1
    return make_recipe(
        model=model,
        simulation={"users": 30},
        train={
            "max_steps": 25,
            "eval_steps": 11,
            "gradient_accumulation_steps": 2,
            "auxiliary_weight": 0.5,
            "auxiliary_only_ratio": 0.1,
            "answers": "view",
            "window_labels": 0.3,
            "eval_users": 4,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
        },
        evaluate={"window": 10, "batch_size": 8, "max_new_tokens": 24},
    )


@pytest.fixture(scope="module")
def finished(make_recipe, tmp_path_factory):
    """A finished run, and what was told."""
    lines = []
    out = train_run(make_recipe(), tmp_path_factory.mktemp("finished") / "run", report=lines.append)
    return out, lines


@pytest.fixture(scope="module")
def uninterrupted(make_recipe, tmp_path_factory):
    return train_run(harder(make_recipe), tmp_path_factory.mktemp("whole") / "run")


def curve(run):
    """Losses and scores by step, without the time that they took."""
    content = json.loads((run / "logs" / "curve.json").read_text())
    return (
        [(row["step"], row["loss"]) for row in content["losses"]],
        [(row["step"], row["f1"]) for row in content["scores"]],
    )


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def assert_same_training(one, other):
    for first, second in zip(curve(one), curve(other), strict=True):
        assert [step for step, _ in first] == [step for step, _ in second]
        assert [value for _, value in first] == pytest.approx([value for _, value in second], abs=1e-6)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-6)


def test_a_run_holds_all_that_belongs_to_it(finished, make_recipe):
    out, _ = finished
    assert sorted(path.name for path in out.iterdir()) == ["logs", "manifest.json", "model", "recipe.yaml"]
    run = load_run(out)
    assert run.recipe == make_recipe()
    assert run.manifest.ended is not None
    assert run.manifest.seed == 0
    assert list((out / "logs").glob("events.out.tfevents.*"))
    losses, scores = curve(out)
    assert [step for step, _ in scores] == [4, 8, 12]
    assert losses[-1][0] == 12
    assert not list(out.rglob("*.bin")) + list(out.rglob("*.pt")) + list(out.rglob("*.pkl"))


def test_what_happens_is_told(finished):
    _, lines = finished
    assert lines[0].startswith("training on 30 users of ")
    assert sum(line.startswith("step ") for line in lines) == 3
    assert any(line.startswith("best dev F1 ") for line in lines)


def test_the_trained_model_answers(finished, tiny_data):
    model = load_model(finished[0])
    answers = model.generate(tiny_data.histories(tiny_data.user_ids[:3]))
    assert len(answers) == 3
    assert model.settings.data_fingerprint == tiny_data.info.fingerprint


def test_each_run_logs_to_its_own_folder(finished, make_recipe, tmp_path):
    before = sorted((finished[0] / "logs").iterdir())
    out = train_run(make_recipe(train={"max_steps": 1}), tmp_path / "second")
    assert list((out / "logs").glob("events.out.tfevents.*"))
    assert sorted((finished[0] / "logs").iterdir()) == before


def test_a_finished_run_is_left_as_it_is(finished, make_recipe):
    out, _ = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    lines = []
    assert train_run(make_recipe(), out, report=lines.append) == out
    assert lines[0] == f"{out} is finished already"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_run_of_another_recipe_is_refused(finished, make_recipe):
    with pytest.raises(OutputError, match=r"another recipe \(differs in train.max_steps\)"):
        train_run(make_recipe(train={"max_steps": 13}), finished[0])


def test_data_that_is_not_there_is_told_before_a_folder_is_made(make_recipe, tmp_path):
    with pytest.raises(DataError, match=r"dataset.json: the file is missing"):
        train_run(make_recipe(data={"path": tmp_path / "absent"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_else_is_refused(make_recipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="is not empty"):
        train_run(make_recipe(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("windows.longest=4", r"'windows.longest' is 4, must be at least windows.shortest, which is 5"),
        ("windows.shortest=11", r"'windows.longest' is 10, must be at least windows.shortest, which is 11"),
        ("model.user_encoder.num_heads=3", r"heads' is 3, must divide d_model, which is 16"),
        ("model.user_encoder.num_queries=1", r"queries' is 1, expected greater than or equal to 2"),
    ],
)
def test_sizes_that_do_not_fit_are_told_with_the_recipe(make_recipe, tmp_path, override, said):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(make_recipe()))
    with pytest.raises(RecipeError, match=said):
        load_recipe(tmp_path / "recipe.yaml", [override])


def test_the_same_recipe_gives_the_same_model(finished, make_recipe, tmp_path):
    assert_same_training(finished[0], train_run(make_recipe(), tmp_path / "again"))


KILLED = """
import sys, time
from pathlib import Path
from palate.config.load import load_recipe
from palate.training.train import train_run
from palate.training.batches import TrainingBatches

draw = TrainingBatches.__getitem__

def slow(batches, index):
    if index == 36:  # of step 19
        print("here", flush=True)
        time.sleep(60)
    return draw(batches, index)

TrainingBatches.__getitem__ = slow
train_run(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_training_ends_as_if_nothing_had_happened(uninterrupted, make_recipe, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(dump_recipe(harder(make_recipe)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        process.kill()
        assert said == "here\n", process.stderr.read()
    assert [path.name for path in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-11"]
    lines = []
    train_run(load_recipe(tmp_path / "recipe.yaml"), out, report=lines.append)
    assert "resuming from checkpoint-11" in lines
    assert_same_training(uninterrupted, out)
    run = load_run(out)
    assert len(run.manifest.resumed) == 1
    assert run.manifest.ended is not None
    assert not run.checkpoints.exists()


class Power(Exception):
    """It went out."""


def cut(*_, **__):
    raise Power


def test_a_checkpoint_that_was_cut_is_swept(uninterrupted, make_recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    save = PersonalizedTrainer._save_optimizer_and_scheduler

    def cut_the_second(trainer, folder):
        if trainer.state.global_step == 22:
            raise Power
        save(trainer, folder)

    with monkeypatch.context() as patch:
        patch.setattr(PersonalizedTrainer, "_save_optimizer_and_scheduler", cut_the_second)
        with pytest.raises(Power):
            train_run(harder(make_recipe), out)
    assert (out / "checkpoints" / "checkpoint-22").is_dir()
    lines = []
    train_run(harder(make_recipe), out, report=lines.append)
    assert "resuming from checkpoint-11" in lines
    assert_same_training(uninterrupted, out)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(PersonalizedModel, "save_pretrained"), (training, "_save_curve"), (RunFolder, "finish")],
)
def test_a_run_that_was_cut_at_its_end_is_ended(finished, make_recipe, tmp_path, monkeypatch, owner, name):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(Power):
            train_run(make_recipe(), out)
    train_run(make_recipe(), out)
    assert_same_training(finished[0], out)
    run = load_run(out)
    assert run.manifest.ended is not None
    assert not run.checkpoints.exists()


def test_best_weights_that_were_half_written_do_not_count(finished, make_recipe, tmp_path, monkeypatch):
    """Cut while better weights are written: those of the last checkpoint's best must still be whole."""
    out = tmp_path / "run"
    save = PersonalizedModel.save_weights

    def half(self, path):
        save(self, path)
        if path.name.startswith((".best", "best")) and list(path.parent.glob("checkpoint-*")):
            path.write_bytes(path.read_bytes()[:100])
            raise Power

    scores = iter([0.5, 0.6])
    monkeypatch.setattr(DevUsers, "score", lambda *_: DevScore(next(scores, 0.0), 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(PersonalizedModel, "save_weights", half)
        with pytest.raises(Power):
            train_run(make_recipe(), out)
    scores = iter([0.4, 0.3])  # after all, the first were the best
    lines = []
    train_run(make_recipe(), out, report=lines.append)
    assert sum(" at step 4 (" in line for line in lines) == 1
    assert load_model(out).generate([]) == []


def test_patience_ends_a_training_that_no_longer_improves(make_recipe, tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    kept = []

    def score(_, predictor):
        if isinstance(predictor, PersonalizedPredictor):
            kept.append({name: weight.clone() for name, weight in predictor.model.state_dict().items()})
        return DevScore(next(scores, 0.0), 0.0)

    monkeypatch.setattr(DevUsers, "score", score)
    lines = []
    recipe = make_recipe(train={"max_steps": 10, "eval_steps": 1, "early_stopping_patience": 2})
    out = train_run(recipe, tmp_path / "run", report=lines.append)
    assert [round(value, 3) for _, value in curve(out)[1]] == [0.2, 0.5, 0.4, 0.5]
    assert sum(" at step 2 (" in line for line in lines) == 1
    saved = load_model(out).state_dict()
    assert all(torch.equal(saved[name], kept[1][name]) for name in saved)


def test_time_that_is_up_ends_the_training(make_recipe, tmp_path):
    out = train_run(make_recipe(train={"max_steps": 10**6, "max_minutes": 0.01}), tmp_path / "run")
    _, scores = curve(out)
    assert 0 < scores[-1][0] < 10**6


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optim": "adamw_torch"},
        {"optim": "adafactor", "scale_parameter": False},
        {"optim": "adafactor", "learning_rate": 5e-2},  # of the weights' own size
    ],
)
def test_the_loss_falls(make_recipe, tmp_path, optimizer):
    recipe = make_recipe(
        train={
            "max_steps": 60,
            "eval_steps": 60,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 16,
            **optimizer,
        }
    )
    losses, _ = curve(train_run(recipe, tmp_path / "run"))
    assert losses[-1][1] < 0.5 * losses[0][1]
    assert np.isfinite([loss for _, loss in losses]).all()


def test_adafactor_moves_weights_by_a_share_of_their_size_unless_its_rate_is_absolute(make_recipe, tmp_path):
    """T5's form: of a matrix, the first step's root mean square is the rate times the matrix's own."""

    def moved(scale):
        train = {"optim": "adafactor", "scale_parameter": scale, "learning_rate": 1e-2, "warmup_ratio": 0.0}
        steps = (
            weights(
                train_run(make_recipe(train={**train, "max_steps": steps}), tmp_path / f"{scale}-{steps}")
            )
            for steps in (0, 1)
        )
        before, after = (made["user_encoder.project.weight"] for made in steps)
        return float((after - before).square().mean().sqrt() / before.square().mean().sqrt()), float(
            before.square().mean().sqrt()
        )

    (scaled, _), (fixed, size) = moved(True), moved(False)
    assert scaled == pytest.approx(1e-2, rel=0.3)
    assert fixed == pytest.approx(1e-2 / size, rel=0.3)


@pytest.mark.parametrize("part", ["backbone", "task_prompt"])
def test_another_rate_is_that_parts(make_recipe, tmp_path, part):
    def moved(**rates):
        name = "-".join(map(str, rates.values()))
        made = make_recipe(train={"max_steps": 1, "warmup_ratio": 0.0, **rates})
        one = train_run(made, tmp_path / name)
        return weights(one)

    slow = moved(learning_rate=1e-2, **{f"{part}_learning_rate": 1e-9})
    fast = moved(learning_rate=1e-2)
    changed = {name.split(".")[0] for name in slow if not torch.allclose(slow[name], fast[name], atol=1e-4)}
    assert changed == {part}


def trainer_of(monkeypatch):
    """The trainers that :func:`train` makes, as they are made."""
    made = []
    original = training._trainer

    def remember(*arguments):
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(training, "_trainer", remember)
    return made


def test_accumulated_batches_make_one_step(make_recipe, tmp_path, monkeypatch):
    """Two batches of a step give the mean of their losses and of their gradients."""
    made = trainer_of(monkeypatch)
    gradients = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *a, **k: gradients.append(clip(*a, **k)) or gradients[-1]
    )
    rates = {"max_steps": 1, "gradient_accumulation_steps": 2, "learning_rate": 1e-9, "max_grad_norm": 1e9}
    out = train_run(make_recipe(train=rates), tmp_path / "run")
    trainer = made[0]
    model = trainer.model.train()
    model.zero_grad()
    losses = []
    for index in range(2):
        loss = trainer.compute_loss(model, dict(trainer.train_dataset[index]))
        (loss / 2).backward()
        losses.append(float(loss.detach()))
    norm = torch.stack(
        [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
    ).norm()
    assert curve(out)[0][0][1] == pytest.approx(sum(losses) / 2, rel=1e-3)
    assert float(gradients[0]) == pytest.approx(float(norm), rel=1e-3)


def test_the_user_encoder_learns_alone_at_first(make_recipe, tmp_path, monkeypatch):
    made = trainer_of(monkeypatch)
    settings = {"max_steps": 4, "auxiliary_weight": 0.5, "auxiliary_only_ratio": 0.5, "learning_rate": 1e-9}
    train_run(make_recipe(train=settings), tmp_path / "run")
    trainer = made[0]

    def learns(step, part):
        trainer.state.global_step = step
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, dict(trainer.train_dataset[0])).backward()
        return any(weight.grad is not None and bool(weight.grad.any()) for weight in part.parameters())

    model = trainer.model
    assert [learns(0, part) for part in (model.user_encoder, model.backbone)] == [True, False]
    assert [learns(2, part) for part in (model.user_encoder, model.backbone)] == [True, True]


def test_the_backbone_learns_the_answers_of_the_view_where_the_recipe_says_so(
    make_recipe, tmp_path, monkeypatch
):
    made = trainer_of(monkeypatch)
    train_run(
        make_recipe(train={"max_steps": 2, "auxiliary_weight": 0.5, "answers": "view"}), tmp_path / "run"
    )
    trainer = made[0]
    batch = trainer.train_dataset[0]
    (one,) = batch["rounds"]
    flipped = {name: one[name].flip(0) for name in ("target", "target_mask")}
    other = {**batch, "rounds": [{**one, **flipped}]}
    trainer.model.eval()
    assert trainer.compute_loss(trainer.model, dict(batch)) == trainer.compute_loss(
        trainer.model, dict(other)
    )
    monkeypatch.setattr(trainer, "settings", trainer.settings.model_copy(update={"answers": "truth"}))
    assert trainer.compute_loss(trainer.model, dict(batch)) != trainer.compute_loss(
        trainer.model, dict(other)
    )


def test_nothing_is_asked_while_the_user_encoder_learns_alone(make_recipe, tmp_path):
    settings = {
        "max_steps": 8,
        "auxiliary_weight": 0.5,
        "auxiliary_only_ratio": 0.5,
        "eval_steps": 2,
        "early_stopping_patience": 1,
    }
    out = train_run(make_recipe(train=settings), tmp_path / "run")
    scores = json.loads((out / "logs" / "curve.json").read_text())["scores"]
    assert [row["f1"] for row in scores if row["step"] < 4] == [None]
    assert scores[-1]["step"] >= 6  # and patience has not begun before


def test_an_encoder_without_a_view_of_its_own_takes_no_auxiliary_loss(make_recipe, tmp_path):
    recipe = make_recipe(train={"auxiliary_weight": 0.5})
    model = recipe.model.model_dump()
    model["user_encoder"] = {"kind": "uem", "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16}
    with pytest.raises(
        MismatchError, match=r"train.auxiliary_weight needs a user encoder that predicts categories"
    ):
        train_run(make_recipe(train={"auxiliary_weight": 0.5}, model=model), tmp_path / "run")


@pytest.mark.parametrize("kind", ["uem", "streaming"])
def test_a_handful_of_users_is_learnt_by_heart(make_recipe, tmp_path, monkeypatch, kind, tiny_data):
    few = tiny_data.users("train")[:4]
    original = batches.real_source
    monkeypatch.setattr(batches, "real_source", lambda *given: replace(original(*given), users=few))
    model = make_recipe().model.model_dump()
    if kind == "uem":
        model["user_encoder"] = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=32, dropout=0.0)
    recipe = make_recipe(
        model=model,
        windows={"kind": "recent", "shortest": 10, "longest": 10},
        train={"max_steps": 300, "eval_steps": 300, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        evaluate={"window": 10, "batch_size": 8, "max_new_tokens": 32},
    )
    out = train_run(recipe, tmp_path / "run")
    losses, _ = curve(out)
    assert losses[-1][1] < 0.1
    task = load_task(recipe.task, tiny_data.info)
    statistics = category_statistics(
        tiny_data.interactions, tiny_data.category_matrix, tiny_data.rating_values
    )
    truth = task.target_texts(task.labels(statistics[few]))
    seen = [one.latest(10) for one in tiny_data.histories([tiny_data.user_ids[user] for user in few])]
    assert load_model(out).generate(seen) == truth


def test_a_relative_encoder_is_found_from_any_folder_and_said_to_be_missed_where_it_moved(
    tiny_data, tiny_sentence_encoder, tmp_path, monkeypatch
):
    place = tmp_path / "there"
    shutil.copytree(tiny_sentence_encoder, place / "encoder")
    monkeypatch.chdir(place)
    out = train_run(
        tiny_recipe(tiny_data.path, "encoder", place / "cache", train={"max_steps": 0}), Path("run")
    )
    monkeypatch.chdir(tmp_path)
    film = Item("new", "A new film")
    assert load_model(place / out).with_items([film]).table.unknown(["new"]) == []
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match=r"there/encoder' is neither .* restore the folder"):
        load_model(tmp_path / "elsewhere" / out).with_items([film])


def test_incomplete_checkpoints_are_swept_and_the_newest_whole_one_is_taken(tmp_path):
    kept = {"seconds": 12.5, "best_score": 0.25, "best_step": 4, "worse": 1}
    for step in (4, 8, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step < 12:
            (tmp_path / f"checkpoint-{step}" / "complete.json").write_text(json.dumps(kept))
    (tmp_path / "best-4.safetensors").mkdir()  # where a file is to be written
    trainer = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(tmp_path), should_save=True),
        clock=Clock(TrainSettings()),
        sampler=None,
    )
    assert PersonalizedTrainer.resume(trainer) == str(tmp_path / "checkpoint-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    assert trainer.clock.seconds == pytest.approx(12.5, abs=1)
    assert (trainer.best_score, trainer.best_step, trainer.worse) == (0.25, 4, 1)


def test_two_processes_train_one_model_on_batches_of_their_own(make_recipe, tmp_path):
    """With two processes, one batch each makes the step that accumulating two batches makes in one."""
    recipe = harder(make_recipe)
    model = recipe.model.model_dump()
    model["backbone"]["dropout"] = model["user_encoder"]["dropout"] = 0.0  # each process has its own noise
    alone = recipe.model_copy(update={"model": type(recipe.model)(**model)})
    changed = {**alone.train.model_dump(), "gradient_accumulation_steps": 1}
    shared = alone.model_copy(update={"train": TrainSettings(**changed)})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(shared))
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "palate", "train"]
    done = subprocess.run(
        [sys.executable, *command, str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Rounding differs, and Adam enlarges it where gradients are near 0: losses tell other batches, weights do not.
    one, two = curve(train_run(alone, tmp_path / "one"))[0], curve(tmp_path / "two")[0]
    assert [step for step, _ in two] == [step for step, _ in one]
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=2e-3)


def test_a_time_limit_is_for_one_process(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        training, "PartialState", lambda **_: SimpleNamespace(is_main_process=True, num_processes=2)
    )
    with pytest.raises(
        RecipeError, match=r"train\.max_minutes is supported for one process only.*train\.max_steps"
    ):
        train_run(make_recipe(train={"max_minutes": 1.0}), tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3: file write failed"),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_later(make_recipe, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(PersonalizedModel, "save_weights", fail)
        with pytest.raises(OutputError, match=r"disk full while writing .*run: free space and run it again"):
            train_run(make_recipe(), tmp_path / "run")
    assert (train_run(make_recipe(), tmp_path / "run") / "model").is_dir()


def as_text(make_recipe, train=None, **backbone):
    model = make_recipe().model.model_dump()
    model["backbone"] |= backbone
    model["user_encoder"] = {"kind": "text", "max_length": 150}
    return make_recipe(model=model, train=train or {})


def loss_of(run):
    return [row["loss"] for row in json.loads((run / "logs" / "curve.json").read_text())["losses"]]


def test_histories_as_text_are_trained_and_asked_like_any_other(make_recipe, tmp_path, tiny_data):
    out = train_run(as_text(make_recipe, attention="local", local_radius=15), tmp_path / "run")
    answer = palate.load_model(out).generate(
        [palate.History("someone", tiny_data.item_ids[:3], [1.0, 5.0, 5.0], [1, 2, 3])]
    )
    assert len(answer) == 1
    assert loss_of(out)[-1] < loss_of(out)[0]


def test_checkpointed_gradients_are_the_same_gradients(make_recipe, tmp_path):
    plain, checkpointed = (
        train_run(as_text(make_recipe, train={"gradient_checkpointing": on}), tmp_path / str(on))
        for on in (False, True)
    )
    assert loss_of(checkpointed) == pytest.approx(loss_of(plain), rel=1e-4)


def test_without_steps_the_model_is_saved_as_it_starts(make_recipe, tmp_path):
    recipe = as_text(make_recipe, train={"max_steps": 0})
    out = train_run(recipe, tmp_path / "run")
    started = build_model(
        recipe,
        data := load_dataset(recipe.data.path),
        load_task(recipe.task, data.info),
        build_table(recipe, data),
    )
    wanted = started.state_dict()
    found = palate.load_model(out).state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_text_has_no_vectors_to_simulate_users_from(make_recipe, tmp_path):
    recipe = as_text(make_recipe).model_copy(update={"simulation": SimulationSettings(users=10)})
    with pytest.raises(RecipeError, match=r"simulation.users: users are simulated .*; set it to 0"):
        train_run(recipe, tmp_path / "run")
