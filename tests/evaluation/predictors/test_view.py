"""The view in a template: a user encoder's decisions, without the language model."""

import numpy as np
import pytest
import torch

from palate.config.recipe import StreamingSettings, TaskSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.encoders.base import UserPrompt
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.view import ViewInTemplate, has_view
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics
from palate.tasks.targets import best_answers
from tiny import tiny_model

STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)
UEM = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=16, dropout=0.0)


@pytest.fixture
def task(tiny_data):
    return load_task(TaskSettings(), tiny_data.info)


@pytest.fixture
def asked(tiny_data):
    users = tiny_data.users("test")
    return users, draw_windows(tiny_data.interactions, users, 8, "random", np.random.default_rng(0))


def silent(model):
    """The backbone must not be asked."""

    def asked(*given, **named):
        raise AssertionError("the language model was asked")

    model.backbone.forward = model.backbone.generate = asked
    return model


def test_decided_names_are_written_as_they_were_decided(tiny_data, task, asked):
    users, windows = asked
    predictor = PersonalizedPredictor(silent(tiny_model(tiny_data, STREAMING)), "tiny", batch_size=2)
    named = {1: [[2, 0, -1], [1, -1, -1]], 0: [[-1, -1, -1], [4, 3, -1]]}
    parity = np.array([int(row.sum()) % 2 for row in windows.item_index])

    def user_prompt(some):
        which = [named[int(row.sum()) % 2] for row in some.item_index]
        return UserPrompt(
            torch.zeros(len(some), 1, 32),
            torch.ones(len(some), 1, dtype=torch.bool),
            named=torch.tensor(which),
        )

    predictor.model.user_prompt = user_prompt
    said = ViewInTemplate(predictor, tiny_data, task).predict(users, windows)
    texts = {
        1: "The user likes Drama, Action and doesn't like Comedy",
        0: "The user likes no genre and doesn't like Sci-Fi, Film-Noir",
    }
    assert said == [texts[one] for one in parity]


def test_without_decisions_it_is_the_best_answer_under_the_view(tiny_data, task, asked):
    users, windows = asked
    predictor = PersonalizedPredictor(silent(tiny_model(tiny_data, STREAMING)), "tiny")
    view = ViewInTemplate(predictor, tiny_data, task)
    assert view.name == "tiny, view in a template"
    with torch.inference_mode():
        chances = predictor.model.user_prompt(windows).category_logits.sigmoid().double().numpy()
    whole = category_statistics(tiny_data.interactions, tiny_data.category_matrix, tiny_data.rating_values)
    labels = task.labels(whole[tiny_data.users("train")])
    frequency = np.array(
        [
            [(half == label).any(axis=1).mean() for label in range(5)]
            for half in (labels.liked, labels.disliked)
        ]
    )
    assert view.predict(users, windows) == task.target_texts(best_answers(chances, frequency, 3))


def test_only_an_encoder_with_a_view_has_this_row(tiny_data, asked):
    _, windows = asked
    for settings, expected in ((STREAMING, True), (UEM, False)):
        assert has_view(PersonalizedPredictor(tiny_model(tiny_data, settings), "tiny"), windows) is expected
