"""Controls of a trained model: the input that each passes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.recipe import StreamingSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.evaluation.evaluate import Setting
from palate.evaluation.predictors.model_controls import PopulationPrompt, controls
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from tiny import tiny_model

SETTING = Setting(split="test", window=8, kind="random", seed=0)
UEM_TINY = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=16, dropout=0.0)
STREAMING_TINY = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)


@pytest.mark.parametrize("settings", [UEM_TINY, STREAMING_TINY], ids=["uem", "streaming"])
def test_the_population_prompt_is_the_mean_of_training_users_prompts(tiny_data, settings):
    predictor = PersonalizedPredictor(tiny_model(tiny_data, settings), "tiny")
    control = PopulationPrompt(predictor, tiny_data, SETTING)
    users = tiny_data.users("train")
    order = np.random.default_rng(0)
    some = order.choice(users, len(users), replace=False)
    windows = draw_windows(tiny_data.interactions, some, 8, "random", order)
    asked = []
    predictor.model.generate_from = lambda prompt: asked.append(prompt) or ["The same"]
    assert control.predict(tiny_data.users("test"), windows[:3]) == ["The same"] * 3
    with torch.inference_mode():
        alone = [predictor.model.user_prompt(windows[row : row + 1]).embeddings for row in range(len(some))]
    torch.testing.assert_close(asked[0], torch.cat(alone).mean(dim=0, keepdim=True), rtol=1e-4, atol=1e-5)


def test_ratings_that_are_all_the_same_are_not_shuffled(tiny_data):
    predictor = PersonalizedPredictor(tiny_model(tiny_data, UEM_TINY), "tiny")
    info = tiny_data.info.model_copy(update={"rating_values": (1.0,)})
    names = [one.name for one in controls(predictor, replace(tiny_data, info=info), SETTING)]
    assert names == ["tiny, another user's history", "tiny, no history", "tiny, population prompt"]


def test_every_control_answers_for_everybody(tiny_data):
    predictor = PersonalizedPredictor(tiny_model(tiny_data, UEM_TINY), "tiny")
    users = tiny_data.users("test")
    windows = draw_windows(tiny_data.interactions, users, 8, "random", np.random.default_rng(0))
    wrong = controls(predictor, tiny_data, SETTING)
    names = ["another user's history", "no history", "ratings shuffled", "population prompt"]
    assert [one.name for one in wrong] == [f"tiny, {name}" for name in names]
    answers = {one.name: one.predict(users, windows) for one in wrong}
    assert {len(one) for one in answers.values()} == {len(users)}
    assert len(set(answers["tiny, no history"])) == len(set(answers["tiny, population prompt"])) == 1
