"""Training is bit-reproducible, whatever the time and the machine's load."""

import itertools
import multiprocessing
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from palate.data.dataset import load_dataset
from palate.runs.run import RunFolder
from palate.system.machine import reproducible
from palate.training import clock as clocks
from palate.training.batches import TrainingBatches
from palate.training.train import train_run
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda **sections: tiny_recipe(tiny_data.path, tiny_sentence_encoder, cache, **sections)


def everything(make_recipe, **train):
    """All that draws at random or adds in some order: dropout, simulated users, accumulation, the view's answers."""
    model = make_recipe().model.model_dump()
    model["backbone"]["dropout"] = model["user_encoder"]["dropout"] = 0.1
    settings = {
        "gradient_accumulation_steps": 2,
        "auxiliary_weight": 0.5,
        "auxiliary_only_ratio": 0.3,
        "answers": "view",
        "window_labels": 0.3,
    }
    return make_recipe(model=model, simulation={"users": 30}, train={"threads": 1, **settings, **train})


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def quiet(make_recipe, tmp_path_factory):
    return weights(train_run(everything(make_recipe), tmp_path_factory.mktemp("quiet") / "run"))


def test_a_clock_that_jumps_and_stands_still_changes_nothing(quiet, make_recipe, tmp_path, monkeypatch):
    jumps = itertools.accumulate(itertools.cycle([0.0, 0.0, 3600.0]))
    monkeypatch.setattr(clocks.time, "monotonic", lambda: next(jumps))
    assert weights(train_run(everything(make_recipe), tmp_path / "run")) == quiet


def test_pauses_change_nothing(quiet, make_recipe, tmp_path, monkeypatch):
    draw = TrainingBatches.__getitem__

    def late(batches, index):
        time.sleep(0.02 * (index % 3))
        return draw(batches, index)

    monkeypatch.setattr(TrainingBatches, "__getitem__", late)
    assert weights(train_run(everything(make_recipe), tmp_path / "run")) == quiet


def work_until(over):
    while not over.is_set():
        sum(range(10_000))


@pytest.mark.slow
def test_busy_neighbours_change_nothing(quiet, make_recipe, tmp_path):
    context = multiprocessing.get_context("spawn")
    over = context.Event()
    neighbours = [context.Process(target=work_until, args=(over,), daemon=True) for _ in range(2)]
    inside = threading.Thread(target=work_until, args=(over,), daemon=True)
    try:
        for one in (*neighbours, inside):
            one.start()
        assert weights(train_run(everything(make_recipe), tmp_path / "run")) == quiet
    finally:
        over.set()
        for one in neighbours:
            one.join()


def test_the_threads_of_the_caller_change_nothing_where_the_recipe_names_them(quiet, make_recipe, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        out = train_run(everything(make_recipe), tmp_path / "run")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert weights(out) == quiet
    assert RunFolder(out).manifest.machine.threads == 1


def test_several_threads_add_in_a_fixed_order():
    """A row that is gathered for many places is given the sum of their gradients."""

    def gradient():
        torch.manual_seed(0)
        rows = torch.randn(50, 64, requires_grad=True)
        places = torch.randint(50, (4000,))
        (rows[places] * torch.randn(4000, 64)).sum().backward()
        return rows.grad

    with reproducible(2, torch.device("cpu")):
        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))
    assert not torch.are_deterministic_algorithms_enabled()


def test_minutes_that_end_a_training_are_told_and_kept(make_recipe, tmp_path, monkeypatch):
    now = itertools.count(0.0, 0.5)  # half a second at each look
    monkeypatch.setattr(clocks.time, "monotonic", lambda: next(now))
    lines = []
    out = train_run(
        make_recipe(train={"max_steps": 1000, "max_minutes": 0.5}), tmp_path / "run", report=lines.append
    )
    (warning,) = [
        line for line in lines if line.startswith("warning: train.max_minutes=0.5 ended the training after")
    ]
    assert "of 1,000 steps" in warning
    from palate.model.config import model_settings

    training = model_settings(out).training
    assert training.ended_by == "minutes"
    assert f"warning: {training.warnings()[0]}" == warning


ROOT = Path(__file__).parents[2]
SHIPPED = [*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("src/palate/**/*.yaml")]


def keys_of(content):
    if isinstance(content, dict):
        yield from content
        for value in content.values():
            yield from keys_of(value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_recipe_ends_by_the_clock(path):
    assert "minutes" not in set(keys_of(yaml.safe_load(path.read_text())))


def test_minutes_that_were_enough_are_no_news(make_recipe, tmp_path):
    lines = []
    train_run(make_recipe(train={"max_minutes": 600.0}), tmp_path / "run", report=lines.append)
    assert not any("train.max_minutes" in line for line in lines)


def test_a_dataset_is_read_in_one_order(tiny_data):
    one, other = (load_dataset(tiny_data.path) for _ in range(2))
    assert one.user_ids == other.user_ids
    assert (one.interactions.item_index == other.interactions.item_index).all()
