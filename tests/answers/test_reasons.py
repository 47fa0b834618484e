"""Reasons are what lowers the score when left out; the oracle scores shortened histories from scratch."""

import itertools

import numpy as np
import pytest

from palate.answers.reasons import explain, scorer_without
from palate.errors import DataError
from palate.schema import History


@pytest.fixture(scope="module")
def history(films):
    return films.histories([films.user_ids[films.users("test")[0]]])[0].latest(14)


@pytest.fixture(scope="module")
def item(recommender, history):
    return recommender.recommend([history], 1)[0].items[0].item_id


def score_of(recommender, history, item, by):
    """The score of a history as anyone would compute it."""
    if by == "ratings":
        expected = recommender.ratings.expected(
            recommender.state(history).ratings, recommender.index_of([item])[None]
        )
        return float(expected.mean[0, 0])
    return float(recommender.scores([history])[0][recommender.index_of([item])[0]])


def without(history, item_ids):
    return history.take(row for row, one in enumerate(history.item_ids) if one not in item_ids)


@pytest.mark.parametrize("by", ["next item", "ratings"])
def test_scores_without_events_are_those_of_the_history_without_them(recommender, history, item, by):
    state = recommender.state(history)
    score = scorer_without(recommender, state, int(recommender.index_of([item])[0]), by)
    gone = np.zeros((3, len(history)), dtype=bool)
    gone[1, [2, 5]] = gone[2, -1] = True
    for row, left in zip(gone, score(gone), strict=True):
        kept = history.take(np.flatnonzero(~row))
        assert left == pytest.approx(score_of(recommender, kept, item, by), abs=1e-4)


@pytest.mark.parametrize("by", ["next item", "ratings"])
def test_the_first_reason_is_the_best_of_all_and_each_lowers_the_score(recommender, history, item, by):
    found = explain(recommender, recommender.state(history), item, by)
    whole = score_of(recommender, history, item, by)
    drops = {
        one: whole - score_of(recommender, without(history, [one]), item, by) for one in history.item_ids
    }
    named = [one.item_id for one in found.items]
    assert 1 <= len(named) <= 3
    assert set(named) <= set(history.item_ids)
    assert drops[named[0]] == pytest.approx(max(drops.values()), abs=1e-4)
    assert all(one.influence > 0 for one in found.items)
    assert found.score == pytest.approx(whole, abs=1e-4)
    assert found.without == pytest.approx(score_of(recommender, without(history, named), item, by), abs=1e-4)
    assert sum(one.influence for one in found.items) == pytest.approx(found.score - found.without, abs=1e-4)


def test_together_they_lower_the_score_about_as_much_as_any_three(recommender, history, item):
    found = explain(recommender, recommender.state(history), item, "ratings")
    lowest = min(
        score_of(recommender, without(history, three), item, "ratings")
        for three in itertools.combinations(history.item_ids, len(found.items))
    )
    assert found.score - found.without >= 0.9 * (found.score - lowest)


def test_reasons_against_raise_the_score_when_they_are_left_out(recommender, history, item):
    found = explain(recommender, recommender.state(history), item, "ratings", against=True)
    assert found.items
    assert found.without > found.score
    assert all(one.influence < 0 for one in found.items)


def test_categories_are_the_items_own_and_the_historys(recommender, history, item):
    found = explain(recommender, recommender.state(history), item)
    own = recommender.items["categories"][int(recommender.index_of([item])[0])].to_list()
    assert len(found.categories) <= 2
    assert {one.name for one in found.categories} <= set(own)
    assert all(one.count >= 1 and one.influence > 0 for one in found.categories)


def test_nothing_is_named_where_there_is_no_history(recommender, item):
    empty = explain(recommender, recommender.state(History("me", [], [], [])), item)
    assert (empty.items, empty.categories, empty.without) == ((), (), empty.score)


def test_an_unknown_item_is_refused(recommender, history):
    with pytest.raises(DataError, match="is not known"):
        explain(recommender, recommender.state(history), "nothing")
