"""Influences of a history's items: by the answer's tokens, or by the chances of a user encoder that decides."""

import numpy as np
import pytest

import palate
from palate.answers.tastes import views_of
from palate.evaluation.attribution import attribute


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    data = palate.prepare("example", tmp_path_factory.mktemp("shop") / "data")
    return palate.load_model("packaged", data=data, device="cpu"), data.histories(["jonas"])[0]


def test_where_the_user_encoder_decides_influences_are_those_on_its_chances(shop):
    model, history = shop
    found = attribute(model, history)
    assert found.by == "chances"
    likes = [one.name for one in views_of(model, [history])[0].liked]
    assert likes
    assert all(name in found.answer for name in likes)

    def chances(some):
        view = views_of(model, [some])[0]
        return sum(np.log(1 / (1 + np.exp(-view.log_odds[name][0]))) for name in likes)

    seen = model.visible(history)
    assert found.log_probability == pytest.approx(chances(seen), abs=1e-4)
    for out in (0, len(seen) // 2, len(seen) - 1):
        without = seen.take(row for row in range(len(seen)) if row != out)
        assert found.influence[out] == pytest.approx(chances(seen) - chances(without), abs=1e-4)
    assert len(np.unique(found.influence.round(3))) > len(seen) // 2  # each item counts by itself
    assert np.abs(found.influence).max() < 5


def test_an_answer_that_names_nothing_is_as_likely_as_that_nothing_is_named(shop):
    model, history = shop
    found = attribute(model, history, answer="")
    view = views_of(model, [model.visible(history)])[0]
    none = sum(-np.log1p(np.exp(odds)) for pair in view.log_odds.values() for odds in pair)
    assert found.log_probability == pytest.approx(none, rel=1e-4)


def test_of_another_question_it_is_the_answers_own_log_probability(shop):
    model, history = shop
    found = attribute(model, history, "Would this user like Indian?", answer="yes")
    assert found.by == "answer"
