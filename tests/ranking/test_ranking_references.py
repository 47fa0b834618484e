"""Reference rankers against manual calculations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.registry import rankers
from palate.data.assemble import items_table
from palate.data.item_numbers import first_appearances
from palate.data.protocols import make_split
from palate.data.windows import draw_windows
from palate.errors import DataError
from palate.ranking.references import full_cross_entropy
from palate.ranking.score import RankingTest
from palate.schema import Item
from sequence_data import sequence_dataset


def fitted(name, data, **settings):
    kind = rankers.find(name)
    if name == "sasrec":
        settings = {"hidden_size": 8, "max_epochs": 1, **settings}
    ranker = kind.build(kind.settings(**settings))
    ranker.fit(data, lambda one: 0.0)
    return ranker


def windows(*histories, items=6):
    data = sequence_dataset(list(histories), items=items)
    users = np.arange(len(histories))
    return draw_windows(data.interactions, users, 100, "recent", np.random.default_rng(0))


DATA = sequence_dataset([[0, 1, 2], [0, 1], [1, 3], [4]], items=6)


def shelf(titles, categories, histories):
    """Users with these histories of items with titles and a category each."""
    data = sequence_dataset(histories, items=len(titles))
    items = items_table(
        [
            Item(str(at), title, (name,))
            for at, (title, name) in enumerate(zip(titles, categories, strict=True))
        ]
    )
    info = data.info.model_copy(update={"categories": tuple(sorted(set(categories)))})
    return replace(data, items=items, info=info)


CATEGORISED = shelf([*"012345"], ["Crime", "Travel"] * 3, [[0, 1, 2], [0, 1], [1, 3], [4]])


@pytest.mark.parametrize("name", ["popularity", "item-knn", "ease", "sasrec", "largest-id"])
def test_fitting_leaves_the_order_of_the_interactions_to_whoever_comes_after(name):
    data = sequence_dataset([[3, 0, 2], [5, 1], [4, 0, 4, 1]], items=6)
    before = data.interactions.item_index.copy()
    fitted(name, data)
    assert data.interactions.item_index.tolist() == before.tolist() != sorted(before.tolist())


def test_popularity_counts_interactions():
    assert fitted("popularity", DATA).scores(windows([0])).tolist() == [[2, 3, 1, 1, 1, 0]]


def test_item_knn_weighs_the_newest_most():
    ranker = fitted("item-knn", DATA, shrinkage=1, decay=0.5)
    [scores] = ranker.scores(windows([0, 3]))
    similar_to_0, similar_to_3 = 2 / (np.sqrt(2 * 3) + 1), 1 / (np.sqrt(3 * 1) + 1)
    assert scores[1] == pytest.approx(0.5 * similar_to_0 + 1 * similar_to_3)
    assert scores[2] == pytest.approx(0.5 * 1 / (np.sqrt(2 * 1) + 1))
    assert scores[0] == scores[3] == scores[4] == scores[5] == 0


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    [scores] = fitted("ease", DATA, regularization=2).scores(windows([0, 3]))
    chosen = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    for item in range(6):
        others = np.delete(chosen, item, axis=1)
        weights = np.linalg.solve(others.T @ others + 2 * np.eye(5), others.T @ chosen[:, item])
        history = np.delete(np.array([1, 0, 0, 1, 0, 0]), item)
        assert scores[item] == pytest.approx(history @ weights, abs=1e-6)


def test_ease_refuses_more_items_than_fit_into_memory():
    with pytest.raises(DataError, match="ease inverts a matrix of 30,001 times 30,001 items"):
        fitted("ease", sequence_dataset([[0, 1]], items=30_001))


def test_the_largest_id_is_followed_by_the_next():
    scores = fitted("largest-id", DATA).scores(windows([3, 1], [5]))
    assert np.argsort(-scores[0], kind="stable")[:2].tolist() == [4, 5]
    assert len(set(scores[0][:4])) == 1
    assert len(set(scores[1])) == 1


def test_ids_from_training_data_are_by_first_appearance():
    data = sequence_dataset([[3, 1], [1, 0]], items=5)
    assert first_appearances(data.interactions, 5).tolist() == [2, 1, 3, 0, 4]


@pytest.mark.filterwarnings("ignore:OpenBLAS")
@pytest.mark.parametrize("name", rankers.kinds)
def test_candidates_have_the_scores_that_they_have_among_all_items(name):
    ranker, seen = fitted(name, CATEGORISED), windows([0, 1], [4])
    listed = np.array([[2, 3], [5, -1]])
    every, some = ranker.scores(seen), ranker.scores(seen, listed)
    assert every.shape == (2, 6)
    assert some[0] == pytest.approx(every[0, [2, 3]], abs=1e-6)
    assert some[1, 0] == pytest.approx(every[1, 5], abs=1e-6)


@pytest.mark.filterwarnings("ignore:OpenBLAS")
@pytest.mark.parametrize("name", rankers.kinds)
def test_padding_changes_nothing(name):
    ranker = fitted(name, CATEGORISED)
    alone, beside = ranker.scores(windows([1])), ranker.scores(windows([1], [0, 1, 2, 3, 4]))
    assert beside[0] == pytest.approx(alone[0], abs=1e-5)


def test_the_cross_entropy_in_chunks_equals_torchs_in_value_and_gradient(monkeypatch):
    monkeypatch.setattr(full_cross_entropy, "_LOGITS_AT_ONCE", 50)
    generator = torch.Generator().manual_seed(0)
    states, items = (torch.randn(size, 4, generator=generator, requires_grad=True) for size in (11, 20))
    targets = torch.randint(20, (11,), generator=generator)
    found = full_cross_entropy.full_cross_entropy(states, items, targets)
    (3 * found).backward()
    gradients = states.grad.clone(), items.grad.clone()
    states.grad = items.grad = None
    expected = torch.nn.functional.cross_entropy(states @ items.T, targets)
    (3 * expected).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, (states.grad, items.grad))


def test_sasrec_learns_what_comes_next_and_is_reproducible():
    rng = np.random.default_rng(0)
    walks = [[(start + step) % 8 for step in range(6)] for start in rng.integers(8, size=64)]
    split = make_split(sequence_dataset(walks, items=8), "leave-last-out")
    settings = {"hidden_size": 16, "layers": 1, "dropout": 0.0, "max_epochs": 40, "learning_rate": 0.02}
    kind = rankers.find("sasrec")
    found = []
    for _ in range(2):
        ranker, asked = kind.build(kind.settings(**settings)), []
        test = RankingTest(split.dev, None, 8)
        ranker.fit(split.training, lambda one, asked=asked, test=test: asked.append(1) or test.ndcg(one, ""))
        assert len(asked) <= 40
        found.append(ranker.scores(split.test.windows))
    assert (found[0] == found[1]).all()
    assert RankingTest(split.test, None, 8).ndcg(ranker, "sasrec") > 0.9


def test_als_finds_users_by_what_they_chose():
    pytest.importorskip("implicit")
    groups = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [3, 4, 5], [4, 5, 3], [5, 3, 4]] * 4
    ranker = fitted("als", sequence_dataset(groups, items=6), factors=4)
    first, second = ranker.scores(windows([0, 1], [4]))
    assert first.argmax() in (0, 1, 2)
    assert min(first[:3]) > max(first[3:])
    assert min(second[3:]) > max(second[:3])


def test_content_knn_by_categories_scores_the_share_of_the_history_with_the_items_own():
    data = shelf(["a", "b", "c", "d"], ["Crime", "Crime", "Travel", "Travel"], [[0]] * 4)
    found = fitted("content-knn", data, by="categories").scores(windows([0, 1, 2], [2], items=4))
    assert found.tolist() == pytest.approx(np.array([[2, 2, 1, 1], [0, 0, 1, 1]]))
    decayed = fitted("content-knn", data, by="categories", decay=0.5).scores(windows([0, 1, 2], items=4))
    assert decayed.tolist() == pytest.approx(np.array([[0.75, 0.75, 1, 1]]))


def test_content_knn_counts_near_items_by_a_power():
    titles = ["A cookbook of Italian pasta", "The murder at the manor", "Pasta from Italy", "Murder in Italy"]
    data = shelf(titles, ["Books"] * 4, [[0]] * 4)
    each, sharp = (
        fitted("content-knn", data, by="texts", power=power).scores(windows(*histories, items=4))
        for power, histories in ((1, ([0], [3])), (3, ([0, 3],)))
    )
    assert each.min() < 0 < each[0, 2] < 1
    assert sharp[0] == pytest.approx((np.maximum(each, 0) ** 3).sum(axis=0), abs=1e-6)


def test_content_knn_finds_items_of_a_like_text_that_nobody_has_chosen():
    titles = [
        "A cookbook of Italian pasta",
        "The murder at the manor",
        "Pasta and pizza from Italy",
        "A killer in town",
    ]
    data = shelf(titles, ["Book"] * 4, [[0], [1]])
    found = fitted("content-knn", data, by="texts").scores(windows([0], [1], items=4))
    found[[0, 1], [0, 1]] = -np.inf
    assert found.argmax(axis=1).tolist() == [2, 3]


def test_content_knn_says_what_items_lack():
    with pytest.raises(
        DataError, match="content-knn needs items with texts or categories, and made-up has none"
    ):
        fitted("content-knn", DATA)
    with pytest.raises(DataError, match="content-knn needs items with texts, and made-up has none"):
        fitted("content-knn", DATA, by="texts")


def test_sasrec_goes_on_at_a_lower_rate_before_it_ends():
    asked = []

    def never_better(ranker):
        asked.append(ranker)
        return 0.5

    kind = rankers.find("sasrec")
    settings = kind.settings(hidden_size=8, early_stopping_patience=2, learning_rate_drops=1)
    kind.build(settings).fit(DATA, never_better)
    assert len(asked) == 1 + 2 + 2  # the best, two without a better one at either rate
