"""Random populations: valid data of every kind, determined by the seed."""

import numpy as np
import pytest

from palate.data.population import summarise_histories
from palate.pretraining.populations import Shape, draw_population, draw_shape


@pytest.fixture(scope="module")
def populations():
    rng = np.random.default_rng(0)
    return [draw_population(draw_shape(rng), rng) for _ in range(12)]


def test_every_item_has_one_to_eight_categories_and_those_that_they_lie_in(populations):
    for one in populations:
        number = one.category_matrix.sum(1)
        assert number.min() >= 1
        assert number.max() <= 16


def test_no_one_has_an_item_twice(populations):
    for one in populations:
        for start, end in zip(one.histories.offsets[:20], one.histories.offsets[1:21], strict=True):
            items = one.histories.item_index[start:end]
            assert len(set(items.tolist())) == len(items) > 0


def test_ratings_are_on_the_scale(populations):
    assert all(one.histories.rating_index.max() < len(one.rating_values) for one in populations)
    assert len({one.rating_values for one in populations}) > 3


def test_a_summary_of_each_is_finite(populations):
    for one in populations:
        made = summarise_histories(
            one.histories, one.category_matrix, one.rating_values, one.task, one.feedback
        )
        for part in (made.means, made.share, made.variety, made.factor, made.own, made.liked, made.disliked):
            assert np.isfinite(part).all()
        assert made.spread > 0


@pytest.mark.parametrize("feedback", ["ratings", "implicit"])
def test_the_same_seed_draws_the_same_people(feedback):
    first, second = (draw_population(Shape(9, 3, feedback), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.histories.item_index, second.histories.item_index)
    np.testing.assert_array_equal(first.histories.rating_index, second.histories.rating_index)
    assert (first.task.shares is None) == (feedback == "ratings")
