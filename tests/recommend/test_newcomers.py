"""New items are scored by their similarity to a history's items, tuned on items that are treated as new."""

from dataclasses import replace

import numpy as np
import pytest

from palate.config.recipe import ItemSettings, RecommendSettings
from palate.data.protocols import make_split
from palate.recommend.event_weights import EventWeights
from palate.recommend.fit import fit_recommender
from palate.recommend.held_out import HeldOut
from palate.recommend.newcomer_placing import FIRST, place_newcomers
from palate.recommend.newcomer_tuning import SimulatedNewItems, simulate_new_items, tune_newcomers
from palate.recommend.newcomers import LEAST, NewcomerWeights, likeness, newcomer_scores
from palate.recommend.recommender import Recommender
from palate.recommend.relations import PairRelation, VectorRelation
from palate.recommend.scorer import RelationWeights, Scorer, ScorerWeights
from palate.recommend.tuning import Fold, Grids
from palate.schema import Item, Windows
from small_dataset import small_dataset

TEXTS = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], np.float32)
CATEGORIES = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
RELATIONS = {
    "texts": VectorRelation(TEXTS, np.array([1, 0.5, 1, 0.5], np.float32)),
    "categories": VectorRelation(CATEGORIES),
}
SETTINGS = RecommendSettings(texts=False, rounds=1, rating_models=0, network_size=0)


def window(*items):
    row = np.array([items], np.int32)
    return Windows(row, np.zeros_like(row, np.uint8), np.zeros_like(row, np.int64), np.array([len(items)]))


def test_likeness_is_of_texts_and_categories_to_a_power():
    weights = NewcomerWeights(texts=0.75, power=2)
    found = likeness(RELATIONS, weights, np.array([0, 1]), np.array([2, 3]))
    assert found == pytest.approx(np.array([[0.75 * 0.6 + 0.25, 0.75], [0.75 * 0.8, 0.25]]) ** 2)
    alone = likeness({"categories": RELATIONS["categories"]}, weights, np.array([0]), np.array([2, 3]))
    assert alone == pytest.approx(np.array([[1, 0]]))


def test_how_much_of_a_text_is_kept_may_count():
    weights = NewcomerWeights(texts=1.0, power=1, length=1.0)
    found = likeness(RELATIONS, weights, np.array([0, 1]), np.array([2, 3]))
    assert found == pytest.approx(np.array([[0.6, 0.5], [0.8 * 0.5, 0]]))


def test_a_score_is_by_the_logarithm_of_the_sum_over_the_history():
    weights = NewcomerWeights(
        texts=1.0, power=1, level=2.0, offset=3.0, slope=0.5, events=EventWeights(decay=0.5)
    )
    found = newcomer_scores(weights, RELATIONS, window(1, 0), np.zeros(1, np.float32), np.array([2, 3]))
    sums = np.array([0.6 + 0.5 * 0.8, 1.0])
    assert found[0] == pytest.approx(3 + 0.5 * np.log(sums / 2 + LEAST), abs=1e-5)


def scorer(newcomers):
    nothing = PairRelation(np.zeros((4, 4), np.float32))
    relations = {"cooccurrence": nothing, **RELATIONS}
    weights = ScorerWeights(
        relations={name: RelationWeights(weight=0.1) for name in relations}, newcomers=newcomers
    )
    return Scorer(relations, np.zeros(4, np.float32), np.zeros(1, np.float32), weights, new=np.array([3]))


def test_only_new_items_are_scored_so_and_nobody_without_events_gets_one():
    plain, other = scorer(None), scorer(NewcomerWeights(offset=9.0))
    asked = window(0, 1)
    before, after = plain.scores(asked)[0], other.scores(asked)[0]
    assert after[:3] == pytest.approx(before[:3])
    assert after[3] > before[3] + 1
    assert other.of_items(asked, np.array([1, 3]))[0] == pytest.approx(after[[1, 3]])
    assert other.scores(window()) == pytest.approx(plain.scores(window()))


def test_histories_of_what_is_taken_for_new_hold_none_of_it():
    films = small_dataset()
    events = films.interactions
    taken = simulate_new_items(
        events, films.chosen(events), len(films.items), True, 50, np.random.default_rng(0)
    )
    assert len(taken.items) == int(0.1 * len(np.unique(events.item_index)))
    assert np.isin(taken.held_out.target, taken.items).all()
    windows = taken.held_out.windows
    assert not np.isin(windows.item_index[windows.mask], taken.items).any()
    few = events.of_users(np.arange(2))
    assert (
        simulate_new_items(few, films.chosen(few), len(films.items), True, 50, np.random.default_rng(0))
        is None
    )


def test_the_nearest_item_counts_most_where_it_decides():
    """Each user has one item that is nearly the next one, and many that are a little like another new item."""
    rng = np.random.default_rng(0)
    new, users, size = np.arange(20), 60, 40
    vectors = rng.normal(size=(20, size))
    twins = vectors + 0.2 * rng.normal(size=(20, size))
    vague = 0.5 * vectors + 1.2 * rng.normal(size=(6, 20, size))
    table = np.concatenate([vectors, twins, *vague])
    unit = (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)
    relations = {
        "texts": VectorRelation(unit),
        "cooccurrence": PairRelation(np.zeros((160, 160), np.float32)),
    }
    target = rng.integers(20, size=users).astype(np.int32)
    other = (target + rng.integers(1, 20, users)) % 20
    rows = np.stack([20 + target, *(40 + 20 * part + other for part in range(6))], axis=1).astype(np.int32)
    windows = Windows(rows, np.zeros_like(rows, np.uint8), np.zeros_like(rows, np.int64), np.full(users, 7))
    held_out = HeldOut(windows, target)
    weights = ScorerWeights(relations={name: RelationWeights(weight=0.1) for name in relations})
    fold = Fold(Scorer(relations, np.ones(160, np.float32), np.zeros(1, np.float32), weights), held_out)
    told = []
    found = tune_newcomers(
        SimulatedNewItems(new, held_out), [fold], Grids(False, False, False), rng, told.append
    )
    assert found.power >= 3
    assert found.events.decay == 1
    scores = newcomer_scores(found, relations, windows, np.zeros(1, np.float32), new)
    assert (scores.argmax(axis=1) == target).mean() > 0.9
    assert "60 interactions with 20 items that are treated as new" in told[0]


def placed(related):
    """Users who chose an item that is like the one of their history, in a catalogue a tenth of which is new.

    Args:
        related: How much the chosen item is related to the history by who chose what; others are from 0 to 1.

    Returns:
        The first items of each user's list, the new items, the chosen ones, and what was said.
    """
    rng, items, users, size = np.random.default_rng(0), 200, 300, 32
    vectors = rng.normal(size=(items, size))
    target = rng.integers(items, size=users).astype(np.int32)
    read = (target ^ 1).astype(np.int32)  # items are alike by twos
    vectors[1::2] += vectors[::2]
    pairs = rng.random((items, items)).astype(np.float32)
    pairs[read, target] = related
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    relations = {"texts": VectorRelation(unit), "cooccurrence": PairRelation(pairs)}
    rows = read[:, None]
    windows = Windows(rows, np.zeros_like(rows, np.uint8), np.zeros_like(rows, np.int64), np.ones(users, int))
    weights = ScorerWeights(
        relations={name: RelationWeights(weight=float(name != "texts")) for name in relations}
    )
    plain = Scorer(relations, np.ones(items, np.float32), np.zeros(1, np.float32), weights)
    said = []
    found = place_newcomers(
        NewcomerWeights(texts=1.0), [Fold(plain, HeldOut(windows, target))], rng, said.append
    )
    new = np.sort(np.concatenate([np.arange(0, items, 20), np.arange(11, items, 20)]))
    scorer = replace(plain, weights=weights.model_copy(update={"newcomers": found}), new=new)
    return np.argsort(-scorer.scores(windows), axis=1)[:, :FIRST], new, target, said[0]


def test_new_items_are_found_in_no_more_of_the_first_places_than_they_have_of_the_choices():
    first, new, target, said = placed(0.0)
    asked = np.isin(target, new)
    assert (first[asked] == target[asked, None]).any(axis=1).mean() > 0.9
    assert np.isin(first, new).mean() < 0.11
    assert "of the top 10 places, 10.0% of the choices" in said


def test_no_new_item_is_above_one_that_is_surely_chosen():
    first, new, target, _ = placed(3.0)
    known = ~np.isin(target, new)
    assert (first[known, 0] == target[known]).all()


def test_items_that_a_protocol_holds_out_are_scored_as_added_ones_and_saved_so(tmp_path):
    films = small_dataset()
    training = make_split(films, "cold-items", seed=3).training
    settings = SETTINGS.model_copy(update={"held_out": 0.5})
    model = fit_recommender(training, training.users("train"), settings, ItemSettings())
    assert model.scorer.new.tolist() == np.flatnonzero(training.new_items).tolist()
    assert model.scorer.weights.newcomers is not None
    row = films.items.row(int(model.scorer.new[0]), named=True)
    twin = Item("twin", row["title"], tuple(row["categories"]), year=row["year"])
    history = films.histories([films.user_ids[0]])[0]
    new = set(films.items["item_id"].gather(model.scorer.new))
    known = history.take([at for at, item in enumerate(history.item_ids) if item not in new])
    model.save_pretrained(tmp_path / "model")
    for one in (model, Recommender.from_pretrained(tmp_path / "model")):
        grown = one.with_items([twin])
        (scores,) = grown.scores([known])
        assert scores[-1] == pytest.approx(scores[model.scorer.new[0]], abs=1e-5)
        unflagged = replace(grown, scorer=replace(grown.scorer, new=grown.scorer.new[:0]))
        assert unflagged.scores([known])[0][-1] != pytest.approx(scores[-1])
