"""One GPU per process, never DataParallel; several processes share the global batch."""

import pytest
import torch
from pydantic import ValidationError
from transformers import Trainer, TrainingArguments

from palate.config.recipe import TrainSettings
from palate.errors import RecipeError
from palate.training import train as training
from palate.training.devices import OneDevice
from palate.training.train import train_run
from tiny import tiny_recipe


@pytest.fixture
def eight_gpus(monkeypatch):
    """What transformers asks about GPUs, answered as on a machine with eight."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: torch.cuda.device_count()))


def test_transformers_sees_one_gpu_of_several(eight_gpus, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(lambda self: torch.device("cuda:0")))
    plain = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    ours = OneDevice.on(torch.device("cuda:0"), output_dir=str(tmp_path), report_to=[])
    assert (plain.n_gpu, ours.n_gpu) == (8, 1)
    assert (ours.device, ours.train_batch_size) == (torch.device("cuda:0"), ours.per_device_train_batch_size)


def test_a_model_is_never_wrapped_in_data_parallel(eight_gpus, tmp_path, monkeypatch):
    """The trainer of transformers wraps a model as soon as a process sees two GPUs; ours hands it over as it is."""
    model = torch.nn.Linear(2, 2)
    bare = lambda self, *_, **__: torch.nn.Module.__init__(self)  # noqa: E731 - it would look for GPUs
    monkeypatch.setattr(torch.nn.DataParallel, "__init__", bare)
    wrapped = {}
    for name, made in (("plain", TrainingArguments), ("ours", OneDevice)):
        arguments = made(output_dir=str(tmp_path / name), report_to=[], use_cpu=True)
        trainer = Trainer(model=model, args=arguments)
        wrapped[name] = type(trainer._wrap_model(model, training=True))
    assert wrapped == {"plain": torch.nn.DataParallel, "ours": torch.nn.Linear}


@pytest.mark.parametrize(
    ("processes", "most", "expected"),
    [
        (1, 128, (128, 1)),
        (8, 128, (16, 1)),
        (1, 8, (8, 16)),
        (8, 8, (8, 2)),
        (4, 24, (16, 2)),
        (2, 1, (1, 64)),
    ],
)
def test_processes_share_the_papers_batch_of_128(processes, most, expected):
    shared = TrainSettings(global_batch_size=128, per_device_train_batch_size=most).shared_by(processes)
    found = shared.per_device_train_batch_size, shared.gradient_accumulation_steps
    assert found == expected
    assert found[0] * found[1] * processes == 128
    assert shared.shared_by(processes) == shared


def test_without_a_global_batch_each_process_has_its_own():
    settings = TrainSettings(per_device_train_batch_size=8, gradient_accumulation_steps=2)
    assert settings.shared_by(8) == settings
    assert settings.windows_per_step == 16
    assert settings.model_copy(update={"global_batch_size": 128}).windows_per_step == 128


def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    tiny_data, tiny_sentence_encoder, tmp_path, monkeypatch
):
    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train={"global_batch_size": 8}
    )
    state = type(
        "State", (), {"num_processes": 3, "is_main_process": True, "wait_for_everyone": lambda self: None}
    )
    monkeypatch.setattr(training, "PartialState", state)
    with pytest.raises(RecipeError, match="global_batch_size is 8, which is not divisible by 3 processes"):
        train_run(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValidationError, match="set gradient_accumulation_steps=1 with it"):
        TrainSettings(global_batch_size=128, gradient_accumulation_steps=2)
