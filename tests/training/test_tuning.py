"""Fine-tuning on parts of histories, each with a summary of other users, and on every window twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.recipe import ModelSettings, Recipe
from palate.data.population import summaries_without
from palate.encoders.calibration import counts_of
from palate.encoders.estimates import PopulationInputs
from palate.errors import RecipeError
from palate.evaluation.dev import DevUsers
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.predictors.view import ViewInTemplate
from palate.model.model import load_model
from palate.tasks import load_task
from palate.training.train import _trained_part
from palate.training.tuning import BATCHES_A_GROUP, EPOCHS, TuningBatches
from small_dataset import small_dataset
from tiny import unbound_model
from universal_catalogue import renamed

WINDOWS = {"kind": "random", "shortest": 2, "longest": 8}
TRAIN = {"max_steps": 100, "per_device_train_batch_size": 4, "auxiliary_weight": 1.0}


@pytest.fixture(scope="module")
def data():
    return small_dataset()


def batches(data, seed=0, windows=WINDOWS, **changes):
    recipe = Recipe(
        seed=seed, windows=windows, model=ModelSettings(start="packaged"), **{"train": TRAIN} | changes
    )
    task = load_task(recipe.task, data.info)
    return TuningBatches(recipe, data, task, unbound_model().user_encoder.network)


def rows(batch):
    """What tells the windows of a batch apart."""
    features = batch["prepared"]["features"]
    return {tuple(row.flatten().tolist()) for row in features}


def test_answers_are_compared_where_a_backbone_in_the_place_of_the_starts_learns_to_speak(data):
    model = unbound_model(grammar=True, max_new_tokens=48).bind(data)
    predictor = PersonalizedPredictor(model, "one")
    other = {"kind": "causal", "name": "some/backbone", "train": "frozen"}
    for settings, kind in (({}, ViewInTemplate), ({"backbone": other}, PersonalizedPredictor)):
        recipe = Recipe(windows=WINDOWS, train=TRAIN, model=ModelSettings(start="packaged", **settings))
        dev = DevUsers(recipe, data, load_task(recipe.task, data.info))
        assert type(_trained_part(recipe, predictor, dev)) is kind


def test_a_batch_is_a_function_of_the_seed_and_its_number(data):
    far = BATCHES_A_GROUP * EPOCHS + 3
    first, again = batches(data), batches(data)
    again[0]
    for name in ("base", "features"):
        assert torch.equal(first[far]["prepared"][name], again[far]["prepared"][name])
    assert rows(batches(data, seed=1)[far]) != rows(first[far])


def test_the_windows_of_a_group_are_trained_on_twice_in_different_batches(data):
    found = batches(data)
    once = [rows(found[number]) for number in range(BATCHES_A_GROUP)]
    twice = [rows(found[BATCHES_A_GROUP + number]) for number in range(BATCHES_A_GROUP)]
    assert set.union(*once) == set.union(*twice)
    assert once != twice
    assert rows(found[BATCHES_A_GROUP * EPOCHS]) != once[0]


def test_a_user_is_read_with_the_summary_of_others(data):
    found = batches(data)
    task = load_task(found.recipe.task, data.info)
    users = data.users("train")
    summaries, part = summaries_without(data, task, users)
    whole = data.interactions.of_users(users)
    counts = counts_of(whole, data.category_matrix, data.info.rating_values)
    own = PopulationInputs.of(summaries)[torch.from_numpy(part)]
    means = found.inputs[torch.from_numpy(found.part)].means
    assert torch.equal(means, own.means)
    assert len(counts) == len(means)
    everybody = task.labels(data.statistics[users]).membership(len(data.categories))
    assert np.array_equal(found.truth, everybody)


def test_a_window_is_a_part_of_its_history_and_no_longer_than_enough_users_have(data):
    lengths = data.interactions.lengths[data.users("train")]
    found = batches(data, windows={"kind": "random", "shortest": 4, "longest": 10_000})
    assert found.longest < lengths.max()
    assert (lengths > found.longest).sum() >= min(20, len(lengths))


def implicit(data):
    """The same events without ratings."""
    one = np.zeros(len(data.interactions.rating_index), dtype=np.uint8)
    has = data.category_matrix[data.interactions.item_index].mean(axis=0)
    shares = tuple(float(share) for share in has)
    info = data.info.model_copy(
        update={"feedback": "implicit", "rating_values": (1.0,), "category_shares": shares}
    )
    return replace(data, info=info, interactions=replace(data.interactions, rating_index=one))


@pytest.mark.parametrize("without_ratings", [False, True])
@pytest.mark.parametrize("kind", ["random", "recent"])
def test_a_step_lowers_the_loss_of_its_batch_for_windows_and_feedback_of_each_kind(
    data, kind, without_ratings
):
    some = implicit(data) if without_ratings else data
    found = batches(some, windows={**WINDOWS, "kind": kind})
    model = unbound_model(grammar=True, max_new_tokens=48).bind(some)
    optimizer = torch.optim.SGD(model.user_encoder.network.parameters(), 0.05)
    batch, losses = found[0], []
    for _ in range(3):
        user = model(batch["prepared"])["user"]
        loss = model.category_loss(user, batch["liked"], batch["disliked"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    assert user.category_logits.shape == (4, len(some.categories), 2)


def test_a_batch_of_many_categories_has_fewer_windows(data, monkeypatch):
    monkeypatch.setattr("palate.training.tuning.CELLS", 20 * len(data.categories))
    found = batches(data, train={**TRAIN, "per_device_train_batch_size": 128})
    assert len(found[0]["liked"]) == 20


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("simulation.users", {"simulation": {"users": 5}}),
        ("train.window_labels", {"train": {**TRAIN, "window_labels": 0.5}}),
        ("train.answers", {"train": {**TRAIN, "answers": "view"}}),
        ("train.auxiliary_weight", {"train": {**TRAIN, "auxiliary_weight": 0.0}}),
    ],
)
def test_settings_of_other_trainings_are_refused(data, name, changes):
    with pytest.raises(RecipeError, match=rf"{name}: a training from model.start is of .*; set {name}="):
        batches(data, **changes)


def test_dev_users_have_longer_histories_than_the_window_where_a_start_is_trained(data):
    lengths = data.interactions.lengths
    window = int(np.median(lengths[data.users("dev")]))
    for start, partly in ((None, False), ("packaged", True)):
        recipe = Recipe(
            windows=WINDOWS,
            model=ModelSettings(start=start),
            train={**TRAIN, "eval_windows": [window, 100_000], "eval_draws": 2},
        )
        dev = DevUsers(recipe, data, load_task(recipe.task, data.info))
        assert len(dev.examples) == (2 if partly else 4)
        assert all((lengths[one.user_index] > window).all() == partly for one in dev.examples[:2])
        assert not np.array_equal(*(one.windows.item_index for one in dev.examples[:2]))


def test_vectors_of_a_catalogues_own_categories_are_kept_with_it_and_left_out_of_others(data, tmp_path):
    model = unbound_model(grammar=True, max_new_tokens=48).bind(data)
    history = data.histories(data.user_ids[:3])
    before = model.encode(history).category_logits
    model.learn_own()
    assert torch.equal(model.encode(history).category_logits, before)
    own = model.user_encoder.network.own
    assert own.shape == (len(data.categories), 16)
    with torch.no_grad():
        own[1] += 2 * torch.randn(16)
    after = model.encode(history).category_logits
    assert not torch.allclose(after, before, atol=1e-3)
    model.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model", device="cpu")
    assert torch.allclose(loaded.encode(history).category_logits, after, atol=1e-4)
    assert loaded.bind(data).settings.user_encoder.own == len(data.categories)
    other = loaded.with_summary(loaded.summary.decided(None))
    assert other.user_encoder.own == len(data.categories)


def test_other_data_is_read_without_the_vectors_of_a_catalogue(data):
    model = unbound_model(grammar=True, max_new_tokens=48).bind(data)
    model.learn_own()
    other = renamed(data, [f"other {name}" for name in data.categories])
    bound = model.bind(other)
    assert bound.settings.user_encoder.own == bound.user_encoder.own == 0
    assert model.settings.user_encoder.own == len(data.categories)
    assert len(bound.generate(other.histories(other.user_ids[:2]))) == 2
