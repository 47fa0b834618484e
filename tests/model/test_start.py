"""Initialising a user encoder from another run: weights taken, and mismatches refused."""

import pytest
import torch

from palate.config.recipe import ResamplerSettings, StreamingSettings
from palate.errors import DataError, MismatchError
from palate.model.start import start_user_encoder
from tiny import tiny_model
from tiny_causal import STREAMING, causal_model, save_causal


@pytest.fixture
def run(tiny_data, tmp_path):
    model = tiny_model(tiny_data, STREAMING, seed=3)
    model.save_pretrained(tmp_path / "run" / "model")
    return tmp_path / "run", model.user_encoder


@pytest.mark.parametrize("named", [0, 2])
def test_what_is_known_of_users_is_taken_and_what_speaks_to_the_backbone_is_not(
    tiny_data, tmp_path, run, named
):
    folder, theirs = run
    own = STREAMING.model_copy(update={"named": named})
    model = causal_model(tiny_data, save_causal(tmp_path / "backbone"), own, train="frozen")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    start_user_encoder(model, folder)
    for name, weight in model.user_encoder.state_dict().items():
        mine = name.split(".")[0] in {"project", "name", "liking", "named"}
        source = before[f"user_encoder.{name}"] if mine else theirs.state_dict()[name]
        assert torch.equal(weight, source), name
    others = {name: weight for name, weight in model.state_dict().items() if "user_encoder" not in name}
    assert all(torch.equal(weight, before[name]) for name, weight in others.items())


@pytest.mark.parametrize(
    "other",
    [
        StreamingSettings(num_queries=5, d_model=16, num_layers=1, num_heads=2),
        ResamplerSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2),
    ],
)
def test_another_user_encoder_is_refused(tiny_data, run, other):
    with pytest.raises(
        MismatchError, match=r"model\.user_encoder_from: .*run has a user encoder .*leave it out"
    ):
        start_user_encoder(tiny_model(tiny_data, other), run[0])


def test_other_categories_are_refused(tiny_data, run):
    model = tiny_model(tiny_data, STREAMING, categories=tiny_data.categories[::-1])
    with pytest.raises(MismatchError, match=r"has categories .*Action"):
        start_user_encoder(model, run[0])


def test_queries_that_mean_other_categories_are_refused(tiny_data, run):
    model = tiny_model(tiny_data, STREAMING)
    model.user_encoder.category_of_query = model.user_encoder.category_of_query.flip(0)
    with pytest.raises(MismatchError, match=r"the queries of .*run are of other categories"):
        start_user_encoder(model, run[0])


def test_a_damaged_run_is_refused(tiny_data, run):
    weights = run[0] / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match="copy it again"):
        start_user_encoder(tiny_model(tiny_data, STREAMING), run[0])
