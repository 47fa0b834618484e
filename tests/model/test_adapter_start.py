"""The start of an adapter: the vector of an expected rating consists of the answers that it implies."""

import numpy as np
import pytest
import torch

from palate.backbones.load import load_backbone
from palate.config.recipe import ModelSettings
from palate.encoders.spoken import RATING_BUMPS
from palate.model.adapter import CONTRAST, SHARED, UNDECIDED, RatingScale, adapted
from palate.tasks.questions import YES_NO
from tiny import unbound_model
from tiny_causal import save_causal

SCALES = {
    "stars": RatingScale((1.0, 2.0, 3.0, 4.0, 5.0), 3.5),
    "uneven": RatingScale((0.0, 1.0, 2.0, 7.0), 2.0),
    "two": RatingScale((0.0, 1.0), 0.5),
}
GRID = torch.linspace(0, 1, RATING_BUMPS)


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    folder = save_causal(tmp_path_factory.mktemp("causal"), "gemma3")
    backbone = {"kind": "causal", "name": str(folder), "train": "frozen"}
    settings = ModelSettings(start="packaged", backbone=backbone)
    return (*load_backbone(settings.exchanged_backbone), settings)


@torch.no_grad()
def of_items(model, places):
    """The vectors of items by their expected ratings, before they are scaled, [P, E]."""
    entities = torch.zeros(len(places), 1, model.task_prompt.shape[-1])
    none = torch.full((len(places), 1), -1)
    return model.user_encoder.prompt.mentioned(entities, None, none, places[:, None], entities)[0][:, 0]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_an_expected_rating_starts_as_the_ratings_around_it_and_as_yes_or_no(exchanged, scale):
    backbone, source, settings = exchanged
    model = adapted(unbound_model(), backbone, source, settings, scale)
    values, mean = np.array(scale.values), model.token_like.mean
    yes, no, *words = (
        backbone.mean_embeddings([*YES_NO, *(f"{value:g}" for value in values)]) - mean
    ).double()
    basis = torch.stack([*words, (yes - no) / 2], dim=1).numpy()
    found, residual, *_ = np.linalg.lstsq(basis, (of_items(model, GRID) - mean).double().numpy().T)
    assert residual == pytest.approx(0, abs=1e-6)
    *ratings, liked = found  # [P] each
    weights = (np.stack(ratings) - SHARED / len(values)) / CONTRAST + 1 / len(values)
    expected = values[0] + GRID.numpy() * np.ptp(values)
    assert weights.sum(axis=0) == pytest.approx(1, abs=1e-4)
    assert values @ weights == pytest.approx(expected, abs=1e-3)
    assert ((weights > 1e-4).sum(axis=0) <= 2).all()
    steps = (expected - scale.like_above) / np.ptp(values) / UNDECIDED
    assert liked == pytest.approx(steps.clip(-1, 1), abs=1e-4)


def test_without_ratings_no_vector_starts_as_an_answer(exchanged):
    backbone, source, settings = exchanged
    model = adapted(unbound_model(), backbone, source, settings)
    about_user = backbone.mean_embeddings([" user"])[0]
    assert (of_items(model, GRID) - about_user).norm(dim=-1).max() < 0.5 * about_user.norm()
