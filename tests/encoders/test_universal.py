"""The universal network and its estimates: weights do not depend on catalogue, scale or category order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.recipe import TaskSettings, UniversalSettings
from palate.data.population import rating_steps, summarise
from palate.data.windows import draw_windows
from palate.encoders.calibration import calibrated, read_in_batches
from palate.encoders.counts import MEMBER, CategoryCounts
from palate.encoders.estimates import (
    PopulationInputs,
    Reading,
    Seen,
    _among_best,
    _long_enough,
    _reached,
    estimate_history,
    on_scale,
)
from palate.encoders.marks import window_marks
from palate.encoders.universal import UniversalNetwork
from palate.errors import LeakageError
from palate.evaluation.metrics import weighted_f1
from palate.schema import membership
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.decisions import decide
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset, small_task


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def summary(dataset):
    return summarise(dataset, small_task(dataset))


def network(seed=0):
    torch.manual_seed(seed)
    made = UniversalNetwork(UniversalSettings(d_model=16, num_layers=1))
    torch.nn.init.normal_(made.out.weight)  # as trained: the last layer starts from zero
    return made.eval()


def counts_of(dataset, users, size, seed=0):
    windows = draw_windows(dataset.interactions, users, size, "random", np.random.default_rng(seed))
    has = torch.from_numpy(dataset.category_matrix.astype(np.int64) * MEMBER)
    steps = torch.from_numpy(rating_steps(dataset.info.rating_values)[windows.rating_index])
    item = torch.from_numpy(windows.item_index.astype(np.int64))
    return CategoryCounts.of_events(has, item, steps, torch.from_numpy(windows.mask))


def test_categories_in_another_order_get_the_same_log_odds(dataset, summary):
    counts, order = (
        counts_of(dataset, np.arange(9), 10),
        torch.randperm(8, generator=torch.Generator().manual_seed(0)),
    )
    model, inputs = network(), PopulationInputs.of([summary])
    moved = replace(
        summary,
        **{
            name: getattr(summary, name)[order.numpy()]
            for name in (
                "means",
                "share",
                "variety",
                "weighted_share",
                "often",
                "liked",
                "disliked",
                "factor",
                "own",
            )
        },
    )
    other = CategoryCounts(
        counts.count[:, order], counts.total[:, order], counts.squares[:, order], counts.length, counts.whole
    )
    torch.testing.assert_close(
        model(Reading.of(counts, inputs))[0][:, order],
        model(Reading.of(other, PopulationInputs.of([moved])))[0],
        rtol=1e-4,
        atol=1e-4,
    )


def test_another_scale_gives_the_same_log_odds(dataset, summary):
    names = ("like_above", "dislike_below", "mean", "spread", "noise", "means", "factor")
    doubled = replace(
        summary,
        rating_values=tuple(2 * value for value in summary.rating_values),
        **{name: 2 * getattr(summary, name) for name in names},
        own=4 * summary.own,
    )
    counts, model = counts_of(dataset, np.arange(9), 10), network()
    assert doubled.step == 2 * summary.step  # so the same numbers of steps
    first, second = (model(Reading.of(counts, PopulationInputs.of([one])))[0] for one in (summary, doubled))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_users_of_several_populations_in_one_batch_read_their_own(dataset, summary):
    other = summarise(dataset, small_task(dataset), dataset.users("train")[:20])
    counts, model = counts_of(dataset, np.arange(6), 10), network()
    alone = [model(Reading.of(counts, PopulationInputs.of([one])))[0] for one in (summary, other)]
    which = torch.tensor([0, 1, 1, 0, 0, 1])
    together = model(Reading.of(counts, PopulationInputs.of([summary, other])[which]))[0]
    expected = torch.where(which[:, None, None] == 0, alone[0], alone[1])
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)


def test_without_training_the_estimates_beat_the_rule(dataset, summary):
    users = np.arange(len(dataset.user_ids))
    task, labels = small_task(dataset), len(dataset.categories)
    full = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    truth = membership(task.labels(full).liked, labels)
    torch.manual_seed(0)
    model = UniversalNetwork(UniversalSettings())
    with torch.no_grad():
        counts, inputs = counts_of(dataset, users, 8), PopulationInputs.of([summary])
        logits = model(Reading.of(counts, inputs))[0].double().numpy()
    length = np.full(len(users), 8)
    chances = summary.usual_decisions.probabilities(
        logits, window_marks(Seen.of(counts, inputs), inputs), length
    )
    assert chances[..., 0].mean() == pytest.approx(truth.mean(), abs=0.05)
    said = membership(summary.usual_decisions.decide(chances, length, 3).liked, labels)
    windows = draw_windows(dataset.interactions, users, 8, "random", np.random.default_rng(0))
    rule = task.labels(
        category_statistics(windows.interactions(), dataset.category_matrix, dataset.rating_values)
    )
    assert weighted_f1(truth, said) > weighted_f1(truth, membership(rule.liked, labels)) + 0.1


def test_the_answer_for_a_complete_history_is_that_of_the_label_rule(dataset, summary):
    users, task = np.arange(len(dataset.user_ids)), small_task(dataset)
    full = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    truth, counts = task.labels(full), counts_of(dataset, users, 100)
    with torch.no_grad():
        complete = torch.ones(len(users), dtype=bool)
        logits = network()(Reading.of(counts, PopulationInputs.of([summary]), complete))[0].double().numpy()
    marks = window_marks(Seen.of(counts, PopulationInputs.of([summary])), PopulationInputs.of([summary]))
    said, _ = decide(logits, marks, counts.length.numpy(), summary.usual_decisions, 3)
    names = ("liked", "disliked")
    same = [(getattr(said, half) == getattr(truth, half)).all(1).mean() for half in names]
    assert min(same) > 0.95  # but for ties in mean and count, which the rule breaks by name


def test_complete_and_other_histories_may_be_mixed(dataset, summary):
    counts, model, inputs = counts_of(dataset, np.arange(6), 10), network(), PopulationInputs.of([summary])
    complete = torch.tensor([True, False, True, False, False, True])
    mixed = model(Reading.of(counts, inputs, complete))[0]
    torch.testing.assert_close(
        mixed[~complete], model(Reading.of(counts, inputs))[0][~complete], rtol=1e-4, atol=1e-4
    )
    assert (mixed[complete].abs() > 5).all()


def test_thresholds_of_the_users_replace_the_population_s(dataset, summary):
    counts, model = counts_of(dataset, np.arange(5), 10), network()
    inputs = PopulationInputs.of([summary])
    same = torch.tensor([[summary.like_above, summary.dislike_below]], dtype=torch.float32).expand(5, 2)
    torch.testing.assert_close(
        model(Reading.of(counts, inputs), same)[0], model(Reading.of(counts, inputs))[0], rtol=1e-4, atol=1e-4
    )
    harder = model.inputs(Reading.of(counts, inputs), same + 1)[0]
    assert (harder[..., 0] <= model.inputs(Reading.of(counts, inputs))[0][..., 0] + 1e-4).all()


def test_one_event_and_no_event_can_be_read(dataset, summary):
    counts = counts_of(dataset, np.arange(3), 1).merge(CategoryCounts.empty(3, 8))
    for one in (counts, CategoryCounts.empty(3, 8)):
        logits, hidden = network()(Reading.of(one, PopulationInputs.of([summary])))
        assert logits.isfinite().all()
        assert hidden.shape == (3, 8, 16)


def test_the_chance_to_be_among_the_best_is_that_of_draws():
    generator = torch.Generator().manual_seed(0)
    score, sd = torch.randn(1, 1, 6, generator=generator), 0.3 + torch.rand(1, 1, 6, generator=generator)
    eligible, floor = torch.rand(1, 1, 6, generator=generator), torch.tensor([[-0.2]])
    found = _among_best(score, sd, eligible, floor, 3)[0, 0]
    rng = np.random.default_rng(0)
    drawn = rng.normal(score[0, 0].numpy(), sd[0, 0].numpy(), (200_000, 6))
    drawn = np.where((rng.random(drawn.shape) < eligible[0, 0].numpy()) & (drawn > -0.2), drawn, -np.inf)
    best = np.argsort(np.argsort(-drawn, 1), 1) < 3
    np.testing.assert_allclose(found, (best & np.isfinite(drawn)).mean(0), atol=0.01)


def test_the_chance_of_enough_interactions_is_that_of_a_beta_binomial_distribution():
    from scipy.stats import betabinom

    first, second = torch.tensor([[0.5, 2.0, 9.0]]), torch.tensor([[4.0, 3.0, 1.0]])
    count, unseen, least = (
        torch.tensor([[0.0, 1.0, 7.0]]),
        torch.tensor([[[12.0], [1.0]]]),
        torch.tensor([[3.0]]),
    )
    found = _reached(count, unseen, first, second, least)[0]
    for node, more in enumerate((12, 1)):
        for at in range(3):
            missing = max(3 - int(count[0, at]), 0)
            expected = betabinom.sf(missing - 1, more, float(first[0, at]), float(second[0, at]))
            assert float(found[node, at]) == pytest.approx(expected, abs=1e-4)


def test_the_chance_of_a_long_enough_history_is_the_share_of_those_among_the_longer_ones():
    lengths = np.sort(np.random.default_rng(0).lognormal(5, 0.9, 400)).round() + 30
    quantiles = torch.tensor(np.quantile(lengths, np.linspace(0, 1, 257)), dtype=torch.float32)[None]
    seen, least = torch.tensor([[12.0], [60.0], [300.0]]), torch.tensor([[5.0, 40.0, 100.0, 350.0, 5000.0]])
    found = _long_enough(least, seen, quantiles)
    for user, length in enumerate(seen[:, 0].tolist()):
        longer = lengths[lengths > length]
        expected = [(longer >= one).mean() if one > length else 1 for one in least[0].tolist()]
        assert found[user].mean(dim=0).tolist() == pytest.approx(expected, abs=0.02)
    assert (found[:, :-1] <= found[:, 1:]).all()  # the longer quarters first reach a length
    longest = quantiles.max() + 1
    beyond = _long_enough(torch.stack([1.5 * longest, 3 * longest])[None], longest[None, None], quantiles)
    assert beyond[0].tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]


def test_the_taste_is_the_posterior_mean_of_a_normal_distribution(dataset, summary):
    one = replace(summary, categories=summary.categories)
    counts, inputs = counts_of(dataset, np.arange(4), 12), PopulationInputs.of([one])
    seen = Seen.of(counts, inputs)
    found = estimate_history(seen, inputs)
    covariance = (inputs.factor @ inputs.factor.mT)[0].double()
    for user in range(4):
        error = float(found.noise[user]) ** 2 / seen.count[user].clamp(min=1e-6).double()
        repeated = float(seen.count[user].sum() / seen.length[user])
        there = seen.count[user] > 0
        mean = (seen.total[user] / seen.count[user].clamp(min=1) - inputs.means[0]).double()
        of_all = covariance + torch.diag(inputs.own[0].double() + repeated * error)
        shared = covariance[:, there] @ torch.linalg.solve(of_all[there][:, there], mean[there])
        trust = torch.where(there, inputs.own[0] / (inputs.own[0] + error), 0)
        torch.testing.assert_close(
            found.taste[user].double(),
            inputs.means[0] + shared + trust * (mean - shared),
            rtol=1e-3,
            atol=1e-3,
        )


def test_expected_ratings_are_the_tastes_in_the_ratings_units(dataset, summary):
    counts, inputs = counts_of(dataset, np.arange(4), 12), PopulationInputs.of([summary])
    taste = estimate_history(Seen.of(counts, inputs), inputs).taste
    expected = Reading.of(counts, inputs).ratings
    torch.testing.assert_close(expected, summary.mean + summary.spread * taste)
    low, high = min(summary.rating_values), max(summary.rating_values)
    torch.testing.assert_close(on_scale(expected, summary.rating_values), (expected - low) / (high - low))


def test_decisions_are_calibrated_on_training_users(dataset, summary):
    task = small_task(dataset)
    model = UniversalNetwork(UniversalSettings())
    found = calibrated(model, summary, dataset, task)
    assert found.decisions.lengths.tolist() == [3, 6, 12, 25, 50]
    users = dataset.users("test")
    full = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)[users]
    truth = membership(task.labels(full).liked, 8)
    counts, inputs = counts_of(dataset, users, 12), PopulationInputs.of([summary])
    logits, marks = read_in_batches(model, counts, inputs), window_marks(Seen.of(counts, inputs), inputs)
    chances = found.decisions.probabilities(logits, marks, np.full(len(users), 12))
    assert chances[..., 0].mean() == pytest.approx(truth.mean(), abs=0.03)
    with pytest.raises(LeakageError):
        calibrated(model, summary, dataset, task, users)


def test_too_few_users_leave_the_decisions_as_they_are(dataset, summary):
    few = dataset.users("train")[:10]
    assert (
        calibrated(
            UniversalNetwork(UniversalSettings()), summary, dataset, small_task(dataset), few
        ).decisions
        is None
    )


def test_thresholds_that_move_with_the_user_s_mean_are_estimated(dataset):
    rule = TaskSettings(rule="own-mean", like_above=3.3, dislike_below=2.9)
    task = CategoryPreference(dataset.categories, "genre", rule)
    summary = summarise(dataset, task)
    users, labels = np.arange(len(dataset.user_ids)), len(dataset.categories)
    full = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    truth, inputs = task.labels(full), PopulationInputs.of([summary])
    complete = torch.ones(len(users), dtype=bool)
    with torch.no_grad():
        known = network()(Reading.of(counts_of(dataset, users, 100), inputs, complete))[0].double().numpy()
        base = (
            network().inputs(Reading.of(counts_of(dataset, users, 12), inputs))[0].double().sigmoid().numpy()
        )
    for half, named in enumerate((truth.liked, truth.disliked)):
        true = membership(named, labels)
        assert ((known[..., half] > 0) == true).mean() > 0.98
        assert base[..., half].mean() == pytest.approx(true.mean(), abs=0.05)
