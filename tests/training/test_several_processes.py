"""Training in several processes: the losses of one process, and resumption with any number of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from palate.config.load import dump_recipe
from palate.config.recipe import TrainSettings
from palate.training.train import train_run
from tiny import tiny_recipe
from tiny_causal import save_causal

STEPS = {"max_steps": 8, "eval_steps": 4, "eval_users": 4, "learning_rate": 1e-3}
PROGRAM = Path(__file__).with_name("launched.py")


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def make(accumulated, **train):
        given = {
            **STEPS,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": accumulated,
            **train,
        }
        recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, cache, train=given)
        model = recipe.model.model_dump()
        model["backbone"]["dropout"] = model["user_encoder"]["dropout"] = (
            0.0  # each process has its own noise
        )
        return recipe.model_copy(update={"model": type(recipe.model)(**model)})

    return make


def losses(run):
    content = json.loads((run / "logs" / "curve.json").read_text())
    return [(row["step"], row["loss"]) for row in content["losses"]]


def launched(recipe, out, processes, *arguments):
    """Train by ``torchrun``; gives what each process wrote."""
    file = out.with_suffix(".yaml")
    file.write_text(dump_recipe(recipe))
    command = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone", str(PROGRAM)]
    done = subprocess.run(
        [sys.executable, *command, str(file), str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done


@pytest.fixture(scope="module")
def alone(make_recipe, tmp_path_factory):
    """What one process comes to, that accumulates the batches of four."""
    return losses(train_run(make_recipe(4), tmp_path_factory.mktemp("alone") / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("processes", [2, 4])
def test_losses_are_those_of_one_process(make_recipe, alone, tmp_path, processes, sharded):
    recipe = make_recipe(4 // processes, shard_parameters=sharded)
    done = launched(recipe, tmp_path / "run", processes)
    assert done.returncode == 0, done.stderr[-2000:]
    found = losses(tmp_path / "run")
    assert [step for step, _ in found] == [step for step, _ in alone]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in alone], rel=2e-3)
    parts = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("part ")]
    assert parts == pytest.approx([1 / processes if sharded else 1.0] * processes, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_another_number_of_processes_goes_on(make_recipe, alone, tmp_path, sharded):
    """Two processes are killed after a checkpoint; one or four end the training."""
    run = tmp_path / "run"
    first = launched(make_recipe(1, global_batch_size=16, shard_parameters=sharded), run, 2, "die")
    assert first.returncode != 0
    assert (run / "checkpoints" / "checkpoint-4" / "complete.json").is_file()
    done = launched(make_recipe(1, global_batch_size=16, shard_parameters=sharded), run, 4)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resuming from checkpoint-4" in done.stdout
    assert [loss for _, loss in losses(run)] == pytest.approx([loss for _, loss in alone], rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["frozen", "lora"])
def test_around_a_backbone_that_is_not_trained(make_recipe, tmp_path, kind, sharded):
    """A decoder-only backbone, frozen or with LoRA, by two processes."""
    backbone = {
        "kind": "causal",
        "name": str(save_causal(tmp_path / "backbone")),
        "train": kind,
        "dtype": "float32",
    }

    def recipe(accumulated, **train):
        made = make_recipe(accumulated, **train)
        model = {**made.model.model_dump(), "backbone": backbone}
        return made.model_copy(update={"model": type(made.model)(**model)})

    alone = losses(train_run(recipe(2), tmp_path / "alone"))
    done = launched(recipe(1, shard_parameters=sharded), tmp_path / "run", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [loss for _, loss in losses(tmp_path / "run")] == pytest.approx(
        [loss for _, loss in alone], rel=2e-3
    )
    parts = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("part ")]
    assert parts == pytest.approx([0.5 if sharded else 1.0] * 2, rel=0.1)


def test_sharding_takes_an_optimizer_that_can():
    with pytest.raises(ValueError, match="shard_parameters"):
        TrainSettings(shard_parameters=True, optim="adafactor")


def test_a_whole_state_is_left_as_it_is():
    from palate.training.sharding import divided_state, whole_state

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert str(divided_state(whole_state(state), optimizer)) == str(state)
