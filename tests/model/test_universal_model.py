"""A model without a catalogue: bound to any data, saved, extended, and summarised again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.data.population import summarise
from palate.data.windows import draw_windows
from palate.errors import DataError, MismatchError
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.model.model import load_model
from palate.schema import History, Item
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset, small_task
from tiny import tiny_model, unbound_model


def other_dataset():
    """Other names, another scale: 1 to 10 in whole numbers."""
    data = small_dataset(items=70, seed=3)
    names = {name: f"类别 {name}" for name in data.categories}
    categories = tuple(sorted(names.values()))
    info = data.info.model_copy(
        update={
            "name": "other",
            "categories": categories,
            "rating_values": tuple(float(value) for value in range(1, 11)),
            "like_above": 7.0,
            "dislike_below": 6.0,
            "category_field": "tag",
            "fingerprint": "sha256:other",
        }
    )
    listed = [[names[name] for name in row] for row in data.items["categories"].to_list()]
    return replace(data, info=info, items=data.items.with_columns(categories=np.array(listed, dtype=object)))


@pytest.fixture(scope="module")
def data():
    return small_dataset()


@pytest.fixture(scope="module")
def model(data):
    return unbound_model().bind(data)


def test_a_model_of_no_data_asks_for_some(data):
    with pytest.raises(MismatchError, match=r"bound to no data; name a dataset by --data"):
        unbound_model().encode(data.histories(["u1"]))
    with pytest.raises(MismatchError, match="bound to no data"):
        unbound_model().summary  # noqa: B018


def test_it_names_the_categories_of_whatever_data_it_is_bound_to(data, model):
    other = other_dataset()
    moved = model.bind(other)
    user, own = moved.encode(other.histories(["u1", "u2"])), model.encode(data.histories(["u1", "u2"]))
    assert user.category_logits.shape == own.category_logits.shape == (2, 8, 2)
    assert moved.settings.categories == other.categories
    assert "tags" in moved.settings.instruction
    assert model.settings.categories == data.categories  # the first one stays as it was
    torch.testing.assert_close(
        own.embeddings, unbound_model().bind(data).encode(data.histories(["u1", "u2"])).embeddings
    )
    back = moved.bind(data).encode(data.histories(["u1", "u2"]))
    torch.testing.assert_close(back.embeddings, own.embeddings)


def test_another_encoder_cannot_be_bound(tiny_data):
    other = tiny_model(tiny_data, {"kind": "streaming", "num_queries": 8, "d_model": 16, "num_heads": 2})
    with pytest.raises(MismatchError, match="weights of a 'streaming' user encoder are of one catalogue"):
        other.bind(tiny_data)


@pytest.mark.parametrize("bound", [True, False])
def test_it_comes_back_as_it_was_saved(data, model, tmp_path, bound):
    (model if bound else unbound_model()).save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model", device="cpu")
    again = again if bound else again.bind(data)
    histories = data.histories(["u1", "u2", "u3"])
    torch.testing.assert_close(again.encode(histories).embeddings, model.encode(histories).embeddings)
    assert again.generate(histories) == model.generate(histories)


def test_another_summary_gives_another_prompt_from_the_same_state(data, model):
    users = data.users("train")
    summary = summarise(data, small_task(data), users[: len(users) // 4])
    other = model.with_summary(summary)
    assert other.summary.users == len(users) // 4
    state = model.new_state()
    state.add(data.histories(["u1"])[0])
    read = other.load_state(state.to_bytes())
    torch.testing.assert_close(read.prompt(), other.encode(data.histories(["u1"])).split()[0])
    assert (read.category_probabilities() - state.category_probabilities()).abs().max() > 0.01
    with pytest.raises(MismatchError, match=r"summary has the categories 类别.*and the model Action"):
        model.with_summary(unbound_model().bind(other_dataset()).summary)


def test_new_items_bring_new_categories(data, model):
    longer = model.with_items([Item("new", "New", ("Western", "Noir")), Item("newer", "Newer", ("Western",))])
    assert longer.settings.categories == (*data.categories, "Western")
    seen = History("me", ["new", "newer", "i1"], [5.0, 4.5, 0.5], range(3))
    chances = longer.encode([seen]).category_logits
    assert chances.shape == (1, 9, 2)
    assert chances.isfinite().all()
    before = History("me", ["i1", "i2"], [4.0, 2.0], range(2))
    again = longer.load_state(_state(model, before).to_bytes())
    torch.testing.assert_close(again.prompt(), longer.encode([before]).split()[0])


def test_the_state_of_items_with_other_categories_is_refused(data, model):
    state = _state(model, data.histories(["u1"])[0])
    matrix = data.items.with_columns(categories=data.items["categories"].reverse())
    changed = model.bind(replace(data, items=matrix))
    with pytest.raises(
        DataError,
        match=r"it was written for other items, or items with other categories\); rebuild it from the stored",
    ):
        changed.load_state(state.to_bytes())


def _state(model, history):
    state = model.new_state()
    state.add(history)
    return state


def test_decisions_are_calibrated_on_labels_of_the_truth_that_is_asked_for(data):
    predictor = PersonalizedPredictor(unbound_model().bind(data), "universal", dataset=data)
    assert predictor.with_truth("labels") is predictor
    unseen = predictor.with_truth("unseen")
    assert unseen is predictor.with_truth("unseen") is unseen.with_truth("unseen")
    assert unseen.with_truth("labels") is predictor
    full, outside = predictor.model.summary, unseen.model.summary
    assert full.decisions.cutoff.shape[1:] == outside.decisions.cutoff.shape[1:]
    assert (full.liked == outside.liked).all()  # the summary is of full histories in any case
    users = data.users("test")
    windows = draw_windows(data.interactions, users, 8, "random", np.random.default_rng(0))
    chances, other = (one.probabilities(users, windows) for one in (predictor, unseen))
    assert chances.shape == (len(users), len(data.categories), 2)
    assert (chances != other).any()
    alone = PersonalizedPredictor(unbound_model().bind(data), "universal")
    assert alone.with_truth("unseen") is alone


def test_decisions_are_calibrated_on_windows_of_the_kind_that_is_evaluated(data):
    model = unbound_model().bind(data)
    assert model.summary.windows == "random"
    made = prepare_comparison([model, "rule"], Options(data=data, window_kind="recent", bare=True), [8])
    evaluated = made.predictors[-1].model
    expected = model.summarised(data, kind="recent")
    assert evaluated.summary.windows == "recent"
    assert evaluated.summary.digest == expected.digest != model.summary.digest
    bare = model.with_summary(model.summary.decided(None))
    made = prepare_comparison([bare, "rule"], Options(data=data, window_kind="recent", bare=True), [8])
    assert made.predictors[-1].model.summary.decisions is None  # which was asked for


def test_a_promise_is_what_answers_of_training_users_have_kept(data):
    model = unbound_model().bind(data)
    decisions = replace(
        model.summary.decisions, kept=np.full((len(model.summary.decisions.lengths), 2), 0.25)
    )
    other = model.with_summary(model.summary.decided(decisions, "random"))
    user, changed = (one.encode(data.histories(["u1", "u2"])) for one in (model, other))
    named = np.eye(len(data.categories), dtype=bool)[:2]
    plain = replace(user, kept=None).expected_f1(named, 3)
    np.testing.assert_allclose(changed.expected_f1(named, 3), 0.25 + 0.25 * plain)
    assert user.expected_f1(named, 3).max() <= 1


def test_a_window_that_shows_a_whole_history_is_answered_by_the_rule(data, model):
    users, size = np.arange(len(data.user_ids)), int(np.median(data.interactions.lengths))
    windows = draw_windows(data.interactions, users, size, "random", np.random.default_rng(0))
    whole = data.interactions.lengths <= size
    assert whole.any()
    assert not whole.all()
    task = small_task(data)
    rule = task.labels(category_statistics(windows.interactions(), data.category_matrix, data.rating_values))
    found = model.user_prompt(windows).category_logits.argsort(dim=1, descending=True)
    for row in np.flatnonzero(whole):
        for half, labels in enumerate((rule.liked[row], rule.disliked[row])):
            named = labels[labels >= 0]
            assert set(found[row, : len(named), half].tolist()) == set(named.tolist())
