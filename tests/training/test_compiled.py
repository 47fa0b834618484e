"""Compiled layers train as the others do, and leave no trace in the saved model."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from palate.errors import MismatchError
from palate.model.model import load_model
from palate.training.layers import compile_layers, layers_of
from palate.training.train import train_run
from tiny import tiny_recipe


@pytest.fixture(scope="module")
def make_recipe(tiny_data, tiny_sentence_encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda **train: tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, cache, train={"threads": 1, **train}
    )


def test_a_compiled_training_gives_the_weights_of_an_eager_one(make_recipe, tmp_path):
    eager = train_run(make_recipe(), tmp_path / "eager")
    compiled = train_run(
        make_recipe(torch_compile=True, torch_compile_backend="aot_eager"), tmp_path / "compiled"
    )
    expected, found = (load_model(run).state_dict() for run in (eager, compiled))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4, msg=name)


def test_layers_are_compiled_for_training_mode_alone():
    count = CompileCounter()
    model = nn.Sequential(nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)]))
    compile_layers(model, count)
    of_the_check = count.frame_count
    first, second = layers_of(model)
    model.eval()
    second(first(torch.ones(2, 3)))
    assert count.frame_count == of_the_check
    model.train()
    second(first(torch.ones(2, 3)))
    assert count.frame_count > of_the_check


def test_a_backend_that_cannot_compile_is_refused_before_the_training(make_recipe, tmp_path):
    with pytest.raises(MismatchError, match=r"'no-such-backend' on this machine.*train\.torch_compile=false"):
        train_run(make_recipe(torch_compile=True, torch_compile_backend="no-such-backend"), tmp_path / "run")
