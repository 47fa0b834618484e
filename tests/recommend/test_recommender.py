"""The recommender: fitting, requests, saving and loading."""

import json

import numpy as np
import polars as pl
import pytest

from palate.config.recipe import ItemSettings, Recipe, RecommendSettings
from palate.errors import DataError, OutputError, PalateError
from palate.recommend import fit, tuning
from palate.recommend.event_weights import EventWeights, event_matrix
from palate.recommend.fit import fit_recommender
from palate.recommend.parts import RECOMMENDER_FORMAT
from palate.recommend.recommender import Recommender
from palate.recommend.train import train_recommender
from palate.schema import History, Windows
from sequence_data import sequence_dataset
from small_dataset import small_dataset

SETTINGS = RecommendSettings(texts=False, rounds=2, rating_rank=4, rating_iterations=5, network_size=0)


def fitted(dataset, **settings):
    changed = SETTINGS.model_copy(update=settings)
    return fit_recommender(dataset, dataset.users("train"), changed, ItemSettings(), seed=1)


def empty(name="nobody"):
    return History(name, [], [], [])


@pytest.fixture(scope="module")
def films():
    return small_dataset()


@pytest.fixture(scope="module")
def recommender(films):
    return fitted(films)


@pytest.fixture(scope="module")
def history(films):
    return films.histories([films.user_ids[films.users("test")[0]]])[0]


@pytest.fixture(scope="module")
def chains():
    """Users who walk along a ring of 30 items, each next item following the one before."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 30, 300)
    return sequence_dataset([[(start + step) % 30 for step in range(rng.integers(3, 9))] for start in starts])


@pytest.fixture(scope="module")
def rows_of_two():
    """Users whose next item depends on the last two in a way that no relation between two items tells."""
    rng = np.random.default_rng(0)
    sequences = []
    for _ in range(400):
        a, b = rng.integers(0, 4, 2)
        sequences.append([a, 4 + b, 8 + (a + b) % 4 + 4 * int(a > 1)])
    return fitted(sequence_dataset(sequences), network_size=16, network_epochs=30, network_learning_rate=0.02)


def test_it_learns_what_follows_what(chains):
    recommender = fitted(chains)
    walks = [History(str(start), [f"{chains.item_ids[(start + step) % 30]}" for step in range(4)], [1.0] * 4, [0] * 4)
             for start in range(30)]  # fmt: skip
    found = recommender.recommend(walks, k=1)
    next_ones = [chains.item_ids[(start + 4) % 30] for start in range(30)]
    assert np.mean([one.items[0].item_id == item for one, item in zip(found, next_ones, strict=True)]) > 0.9


def test_the_weights_rank_held_out_items_better_than_popularity(chains):
    said = []
    fit_recommender(chains, chains.users("train"), SETTINGS, ItemSettings(), 1, said.append)
    (line,) = (line for line in said if line.startswith("round 1"))
    assert float(line.split()[3]) > 0.8  # of items that are all as popular


def test_a_network_that_finds_held_out_items_no_better_is_left_out(chains):
    said = []
    trained = SETTINGS.model_copy(update={"network_size": 4, "network_epochs": 1})
    recommender = fit_recommender(chains, chains.users("train"), trained, ItemSettings(), 1, said.append)
    assert "network: left out, because it does not improve NDCG on held-out interactions" in said
    assert recommender.scorer.network is None


def test_a_sample_of_a_large_catalogue_is_enough_to_learn_the_weights(chains, monkeypatch):
    monkeypatch.setattr(tuning, "COLUMNS", 12)
    recommender = fitted(chains, network_size=4, network_epochs=1)
    walk = History("walker", chains.item_ids[:4], [1.0] * 4, [0] * 4)
    assert recommender.recommend([walk], k=1)[0].items[0].item_id == chains.item_ids[4]


def test_a_network_that_finds_them_better_counts_and_is_saved(rows_of_two, tmp_path):
    recommender = rows_of_two
    assert recommender.scorer.weights.network > 0
    recommender.save_pretrained(tmp_path / "model")
    again = Recommender.from_pretrained(tmp_path / "model")
    asked = [History("a", ["0", "1"], [1.0, 1.0], [0, 1]), empty()]
    assert again.recommend(asked, k=5) == recommender.recommend(asked, k=5)


def test_too_few_held_out_interactions_leave_the_weights_as_they_start(films):
    said = []
    fit_recommender(films, films.users("train")[:12], SETTINGS, ItemSettings(), 1, said.append)
    assert "12 held-out interactions are too few to tune the weights, which keep their initial values" in said


def test_all_of_few_users_are_held_out_in_turn(chains):
    said = []
    fit_recommender(chains, chains.users("train"), SETTINGS, ItemSettings(), 1, said.append)
    assert any(line.endswith("on 300 held-out interactions") for line in said)


def test_histories_in_the_order_of_a_sorted_file_count_as_sets():
    rng = np.random.default_rng(0)
    liked = [rng.choice(15, 6, replace=False) + 15 * (user % 2) for user in range(200)]
    said = []
    data = sequence_dataset([sorted(one) for one in liked])
    recommender = fit_recommender(data, data.users("train"), SETTINGS, ItemSettings(), 1, said.append)
    assert any(line.startswith("no order: histories follow one order of the items") for line in said)
    assert "succession" not in recommender.scorer.relations
    assert "succession" in fitted(data, ordered=True).scorer.relations
    shuffled = sequence_dataset([list(one) for one in liked])
    assert "succession" in fitted(shuffled).scorer.relations


def test_seen_items_are_left_out_unless_they_are_asked_for(recommender, history):
    (unseen,) = recommender.recommend([history], k=80)
    (every,) = recommender.recommend([history], k=80, seen=True)
    assert not {one.item_id for one in unseen.items} & set(history.item_ids)
    assert len(every.items) == 80
    assert sum(one.share for one in every.items) == pytest.approx(1, abs=1e-4)
    assert unseen.personal


def test_someone_without_events_gets_the_most_popular_items_and_is_told_so(recommender, films):
    (found,) = recommender.recommend([empty()], k=5)
    train = films.interactions.of_users(films.users("train"))
    counts = np.bincount(train.item_index, minlength=80)
    assert not found.personal
    assert [counts[films.item_ids.index(one.item_id)] for one in found.items] == sorted(counts)[::-1][:5]


def test_filters_by_category_and_year(recommender, films, history):
    (found,) = recommender.recommend([history], k=5, categories=["War"])
    for one in found.items:
        assert "War" in films.items["categories"][films.item_ids.index(one.item_id)]
    with pytest.raises(DataError, match="'Wart' is not a category of small; did you mean 'War'"):
        recommender.recommend([history], categories=["Wart"])
    with pytest.raises(DataError, match="no years"):
        recommender.recommend([history], since=1990)


def test_only_items_of_a_year_or_later(films, history):
    years = pl.Series("year", range(1940, 2020), dtype=pl.Int32)
    dated = type(films)(
        films.info, films.interactions, films.user_ids, films.items.with_columns(years), films.split_of_user
    )
    (found,) = fitted(dated).recommend([history], k=100, since=2000)
    assert found.items
    assert all(int(one.item_id[1:]) >= 60 for one in found.items)


def test_a_diverse_list_starts_with_the_best_item_and_is_less_alike(recommender, history):
    plain, diverse = (recommender.recommend([history], k=8, diversity=one)[0].items for one in (0.0, 0.7))

    def likeness(items):
        index = np.array([recommender.item_ids.index(one.item_id) for one in items])
        return recommender.scorer.relations["categories"].among(index).mean()

    assert plain[0] == diverse[0]
    assert likeness(diverse) < likeness(plain)


def test_a_state_answers_as_the_history_and_grows_with_it(recommender, history):
    state = recommender.state(history.take(range(10)))
    state = recommender.added(state, history.take(range(10, len(history))))
    assert recommender.recommend([state], k=10) == recommender.recommend([history], k=10)
    grown, whole = (recommender.rate([one], ["i0", "i7"])[0].items for one in (state, history))
    assert [one.rating for one in grown] == pytest.approx([one.rating for one in whole])
    assert [one.sd for one in grown] == pytest.approx([one.sd for one in whole])


def test_interactions_are_removed_from_a_state_exactly(recommender, history):
    state = recommender.removed(recommender.state(history), history.take([2, 5]))
    left = recommender.state(history.take([place for place in range(len(history)) if place not in (2, 5)]))
    assert recommender.recommend([state], k=10, seen=False) == recommender.recommend([left], k=10)
    assert [one.rating for one in recommender.rate([state], ["i0"])[0].items] == pytest.approx(
        [one.rating for one in recommender.rate([left], ["i0"])[0].items]
    )
    with pytest.raises(DataError, match="1 of the interactions to remove are not in the state of"):
        recommender.removed(left, history.take([2]))


def test_a_state_that_holds_only_the_newest_interactions_says_that_none_can_be_removed(films, history):
    short = fitted(films, history=5)
    with pytest.raises(DataError, match=r"holds the newest 5 of .* rebuild it from the history"):
        short.removed(short.state(history), history.take([0]))


def test_a_batch_answers_as_each_alone(recommender, films):
    users = films.histories([films.user_ids[user] for user in films.users("test")[:5]])
    together = recommender.recommend(users, k=5)
    alone = [recommender.recommend([user], k=5)[0] for user in users]
    assert [[one.item_id for one in each.items] for each in together] == [
        [one.item_id for one in each.items] for each in alone
    ]


def test_ratings_are_nearer_to_the_truth_than_the_items_means(recommender, films):
    users = films.histories([films.user_ids[user] for user in films.users("test")])
    known = [user.take(range(len(user) - 5)) for user in users]
    errors, by_mean = [], []
    (population,) = recommender.rate([empty()], films.item_ids)
    means = {one.item_id: one.rating for one in population.items}
    for user, part in zip(users, known, strict=True):
        (found,) = recommender.rate([part], user.item_ids[-5:])
        errors += [one.rating - true for one, true in zip(found.items, user.ratings[-5:], strict=True)]
        by_mean += [
            means[item] - true for item, true in zip(user.item_ids[-5:], user.ratings[-5:], strict=True)
        ]
        assert all(0 <= one.chance <= 1 and 0.5 <= one.rating <= 5 for one in found.items)
    assert not population.personal
    assert np.square(errors).mean() < np.square(by_mean).mean()


def test_it_chooses_what_it_rates_highest(recommender, history):
    items = ["i1", "i5", "i9"]
    (choice,) = recommender.choose([history], items)
    (rated,) = recommender.rate([history], items)
    assert choice.item_id == max(rated.items, key=lambda one: one.rating).item_id
    assert choice.by == "ratings"
    assert sum(choice.probabilities.values()) == pytest.approx(1)
    with pytest.raises(PalateError, match="at least two different items"):
        recommender.choose([history], ["i1", "i1"])


def test_without_ratings_or_categories_it_says_what_is_missing_and_chooses_by_what_comes_next(chains):
    recommender = fitted(chains)
    walk = History("walker", chains.item_ids[:4], [1.0] * 4, [0] * 4)
    (choice,) = recommender.choose([walk], [chains.item_ids[4], chains.item_ids[17]])
    assert (choice.item_id, choice.by) == (chains.item_ids[4], "next item")
    with pytest.raises(DataError, match="made-up has no ratings"):
        recommender.rate([walk], chains.item_ids[:1])
    assert [line.split(":")[0] for line in recommender.facts.missing] == [
        "no categories",
        "no item texts",
        "no ratings",
        "no times",
    ]


def test_texts_that_are_left_out_are_not_called_missing(films):
    said = []
    fit_recommender(films, films.users("train"), SETTINGS, ItemSettings(), 1, said.append)
    assert (
        "recommend.texts is false: items without interactions are scored from their categories alone" in said
    )


def test_repeated_events_count_each_time_newer_ones_more():
    windows = Windows(
        np.array([[0, 2, 0]], np.int32), np.zeros((1, 3), np.uint8), np.zeros((1, 3), np.int64), np.array([3])
    )
    weight = EventWeights(decay=0.5).of(windows, np.zeros(1, np.float32))
    assert event_matrix(windows, weight, 3).toarray().tolist() == [[1.25, 0, 0.5]]


def test_time_and_ratings_weigh_events():
    day = 86_400
    windows = Windows(
        np.array([[0, 1]], np.int32), np.array([[0, 1]], np.uint8), np.array([[0, 10 * day]]), np.array([2])
    )
    weights = EventWeights(decay=1.0, days=10.0, rating=0.5)
    found = weights.of(windows, np.array([-1.0, 2.0], np.float32))
    assert found[0] == pytest.approx([0.5 * np.exp(-1), 2.0])


def test_what_is_saved_answers_the_same(recommender, history, tmp_path):
    recommender.save_pretrained(tmp_path / "model")
    again = Recommender.from_pretrained(tmp_path / "model")
    assert again.recommend([history], k=20) == recommender.recommend([history], k=20)
    assert again.rate([history], ["i3"]) == recommender.rate([history], ["i3"])
    assert json.loads((tmp_path / "model" / "recommender.json").read_text())["weights"]["relations"]
    with pytest.raises(OutputError, match="not empty"):
        recommender.save_pretrained(tmp_path / "model")


@pytest.mark.parametrize("file", ["recommender.json", "recommender.safetensors", "items.parquet"])
def test_a_damaged_file_is_named(recommender, tmp_path, file):
    recommender.save_pretrained(tmp_path / "model")
    content = (tmp_path / "model" / file).read_bytes()
    (tmp_path / "model" / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=file):
        Recommender.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    with pytest.raises(DataError, match=file):
        Recommender.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("step", [-1, 1])
def test_a_recommender_of_another_format_is_refused(recommender, tmp_path, step):
    recommender.save_pretrained(tmp_path / "model")
    header = tmp_path / "model" / "recommender.json"
    written = json.loads(header.read_text()) | {
        "format": RECOMMENDER_FORMAT + step,
        "fields": "of another day",
    }
    header.write_text(json.dumps(written))
    with pytest.raises(DataError) as refused:
        Recommender.from_pretrained(tmp_path / "model")
    assert str(refused.value) == (
        f"{header}: format {RECOMMENDER_FORMAT + step}, but this palate reads format {RECOMMENDER_FORMAT}; train the "
        "recommender again"
    )


def test_the_same_seed_gives_the_same_recommender(films, recommender):
    again = fitted(films)
    assert again.scorer.weights == recommender.scorer.weights
    assert (again.ratings.items == recommender.ratings.items).all()


def test_an_interrupted_training_goes_on_after_the_weights_with_the_same_result(films, tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(
        update={"rounds": 1, "network_size": 8, "network_epochs": 2, "rating_models": 2}
    )

    def trained(place):
        train_recommender(Recipe(recommend=settings), tmp_path / place, dataset=films)
        return tmp_path / place

    whole = trained("whole")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "_ratings", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained("part")
    monkeypatch.setattr(fit, "_tuned", lambda *rest: pytest.fail("the weights are learned again"))
    part = trained("part")
    for name in ("recommender.json", "recommender.safetensors"):
        assert (part / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()


def test_an_unknown_item_and_a_rating_off_the_scale_are_refused(recommender):
    with pytest.raises(DataError, match="'nothing'"):
        recommender.recommend([History("a", ["nothing"], [3.0], [0])])
    with pytest.raises(DataError, match="the rating 7 is not on the model's scale"):
        recommender.recommend([History("a", ["i1"], [7.0], [0])])
