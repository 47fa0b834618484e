"""Training batches: determined by seed and index, from training users, without truth in the input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.recipe import (
    ModelSettings,
    Recipe,
    SimulationSettings,
    StreamingSettings,
    TrainSettings,
    WindowSettings,
)
from palate.encoders.batch import WindowTensors
from palate.schema import Preferences
from palate.tasks import load_task
from palate.tasks.statistics import category_statistics
from palate.tasks.wordings import NAMING, WORDINGS
from palate.training.batches import TrainingBatches
from palate.training.clock import Clock
from tiny import TINY_T5, tiny_model

STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)
ANSWER = ("rounds", "liked", "disliked")


def recipe(users=0, share=0.5, seed=0, window=(5, 10), **train):
    return Recipe(
        seed=seed,
        windows=WindowSettings(kind="random", shortest=window[0], longest=window[1]),
        model=ModelSettings(backbone=TINY_T5, user_encoder=STREAMING, task_prompt=2),
        simulation=SimulationSettings(users=users, share=share),
        train=TrainSettings(**{"max_steps": 100, "per_device_train_batch_size": 8, **train}),
    )


@pytest.fixture
def make(tiny_data):
    task, model = load_task(recipe().task, tiny_data.info), tiny_model(tiny_data, STREAMING)

    def batches(data=tiny_data, task=task, **settings):
        made = recipe(**settings)
        return TrainingBatches(made, data, task, model, Clock(made.train))

    return batches


def same(one, other, names=None):
    return all(equal(one[name], other[name]) for name in names or one)


def equal(one, other):
    if isinstance(one, dict):
        return same(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("users", [0, 20])
def test_a_batch_is_a_function_of_the_seed_and_its_index(make, users):
    batches = make(users=users)
    in_order = [batches[index] for index in range(5)]
    again = make(users=users)
    assert all(same(again[index], in_order[index]) for index in (4, 0, 3))
    assert not same(in_order[0], in_order[1])
    assert not same(make(users=users, seed=1)[0], in_order[0])


def test_a_batch_is_what_the_model_and_the_losses_take(make):
    batch = make(users=20)[0]
    optional = {"event", "texts"}  # of stored events, and of users' own words
    windows = set(WindowTensors.__annotations__) - optional
    assert set(batch) == windows | {"rounds", "liked", "disliked", "kinds"}
    assert batch["item"].shape == batch["rating"].shape == batch["mask"].shape
    assert len(batch["item"]) == len(batch["rounds"][0]["target"]) == 8
    assert batch["liked"].shape == batch["disliked"].shape == (8, 5)
    assert int(batch["item"].max()) < len(batch["unique"])


class OtherTruth:
    """The task with everybody's likes and dislikes exchanged."""

    def __init__(self, task):
        self.task, self.instruction, self.label_names = task, task.instruction, task.label_names
        self.target_texts, self.parse = task.target_texts, task.parse

    def labels(self, statistics):
        truth = self.task.labels(statistics)
        return Preferences(truth.disliked, truth.liked)


@pytest.mark.parametrize("settings", [{}, {"users": 20}, {"window_labels": 0.9}])
def test_the_truth_changes_the_answer_and_never_what_the_model_reads(make, tiny_data, settings):
    first = make(**settings)
    other = make(task=OtherTruth(load_task(recipe().task, tiny_data.info)), **settings)
    read = [name for name in first[0] if name not in ANSWER]
    for index in range(4):
        assert same(first[index], other[index], read)
        assert torch.equal(first[index]["liked"], other[index]["disliked"])
        (one,), (exchanged,) = first[index]["rounds"], other[index]["rounds"]
        assert not equal(one["target"], exchanged["target"])
        assert equal(one["instruction"], exchanged["instruction"])


def test_only_training_users_are_shown(tiny_data, make):
    """A dataset whose dev and test users rated nothing but one item never shows that item."""
    events = tiny_data.interactions
    owner = np.repeat(np.arange(len(events.lengths)), events.lengths)
    held_out = np.isin(owner, np.concatenate([tiny_data.users("dev"), tiny_data.users("test")]))
    marked = np.where(held_out, 7, np.where(events.item_index == 7, 8, events.item_index)).astype(np.int32)
    data = replace(tiny_data, interactions=replace(events, item_index=marked))
    for batches in (make(data=data), make(data=data, users=30, share=1.0)):
        shown = torch.cat([batches[index]["unique"] for index in range(40)])
        assert len(set(shown.tolist())) > 40
        windows = [batches[index] for index in range(40)]
        items = torch.cat([one["unique"][one["item"]][one["mask"]] for one in windows])
        assert 7 not in items.tolist()


def test_targets_are_the_truth_of_the_full_history(tiny_data, make):
    batches, task = make(), load_task(recipe().task, tiny_data.info)
    statistics = category_statistics(
        tiny_data.interactions, tiny_data.category_matrix, tiny_data.rating_values
    )
    known = set(task.target_texts(task.labels(statistics[tiny_data.users("train")])))
    batch = batches[0]
    texts = batches.tokenizer.batch_decode(batch["rounds"][0]["target"], skip_special_tokens=True)
    assert set(texts) <= known
    parsed = task.parse(texts)
    for row in range(8):
        assert set(parsed.liked[row]) - {-1} == set(np.flatnonzero(batch["liked"][row].numpy()))
        assert set(parsed.disliked[row]) - {-1} == set(np.flatnonzero(batch["disliked"][row].numpy()))


def test_labels_come_from_the_window_as_long_as_the_recipe_says(tiny_data, make):
    plain, window = make(), make(window_labels=0.5)
    assert not same(plain[49], window[49], ANSWER)
    assert same(plain[50], window[50])
    assert same(plain[99], window[99])
    slow = make(window_labels=0.5, gradient_accumulation_steps=2)  # two batches a step
    assert not same(plain[99], slow[99], ANSWER)
    assert same(plain[100], slow[100])


def test_window_labels_are_the_rule_on_what_is_shown(tiny_data, make):
    batches, task = make(window_labels=0.5, window=(8, 8)), load_task(recipe().task, tiny_data.info)
    batch = batches[0]
    for row in range(8):
        items = batch["unique"][batch["item"][row]].numpy()
        ratings = tiny_data.rating_values[batch["rating"][row].numpy()]
        for label in range(5):
            rated = ratings[tiny_data.category_matrix[items, label]]
            eligible = len(rated) >= 3 and rated.mean() > task.like_above
            assert bool(batch["liked"][row, label]) <= eligible


def test_targets_by_the_view_say_what_the_user_encoder_believes_whatever_the_truth(make, tiny_data):
    batches, task = make(), load_task(recipe().task, tiny_data.info)
    logits = torch.full((2, 5, 2), -8.0)
    logits[0, 3, 0] = logits[1, 0, 1] = logits[1, 2, 0] = 8.0
    batch = batches[0]
    (best,) = batches.answering(batches.best(logits), batch["rounds"], batch["kinds"])
    target, mask = best["target"], best["target_mask"]
    said = task.parse(batches.tokenizer.batch_decode(target, skip_special_tokens=True))
    assert said.liked[:, 0].tolist() == [3, 2]
    assert said.disliked[:, 0].tolist() == [-1, 0]
    assert mask.shape == target.shape


@pytest.mark.parametrize(("share", "real"), [(0.0, 8), (0.25, 6), (1.0, 0)])
def test_a_batch_mixes_real_and_simulated_users(make, share, real):
    batches = make(users=20, share=share)
    assert batches._counts() == [real, 8 - real]
    assert len(batches[0]["item"]) == 8


def test_windows_of_one_user_have_one_target(make):
    batch = make(windows_per_user=4)[0]
    target = batch["rounds"][0]["target"]
    for rows in (slice(0, 4), slice(4, 8)):
        assert (target[rows] == target[rows][0]).all()
        assert not (batch["item"][rows] == batch["item"][rows][0]).all()


def test_window_sizes_are_drawn_between_the_ends(make):
    batches = make(window=(2, 18))
    widths = [batches[index]["item"].shape[1] for index in range(200)]
    assert min(widths) == 2
    assert max(widths) > 15
    # log-uniform: as many below the geometric mean, 6, as above
    assert 0.35 < np.mean(np.array(widths) <= 6) < 0.65
    assert {make(window=(7, 7))[index]["item"].shape[1] for index in range(5)} == {7}


def test_there_is_a_batch_for_every_step(make):
    assert len(make(max_steps=7, gradient_accumulation_steps=3)) >= 21


def padded_share(batches, count):
    masks = [batches[index]["mask"] for index in range(count)]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def test_groups_of_batches_pad_less_and_draw_everybody(make):
    """The tiny users have 20 to 40 interactions."""
    alone = make(window=(40, 40), per_device_train_batch_size=4)
    grouped = make(window=(40, 40), per_device_train_batch_size=4, length_groups=8)
    assert padded_share(grouped, 16) < padded_share(alone, 16) / 2
    lengths = {int(row.sum()) for index in range(48) for row in grouped[index]["mask"]}
    assert lengths == {int(row.sum()) for index in range(48) for row in alone[index]["mask"]}


def test_a_grouped_batch_is_a_function_of_the_seed_and_its_index(make):
    grouped, again = (make(length_groups=4, users=20) for _ in range(2))
    in_order = [grouped[index] for index in range(9)]
    assert all(same(again[index], in_order[index]) for index in (8, 0, 3))
    sizes = [batch["item"].shape[0] for batch in in_order]
    assert set(sizes) == {8}
    assert not same(in_order[0], in_order[1], ["item"])


MIXTURE = {"preference": 0.2, "liked": 0.2, "disliked": 0.1, "yes-no": 0.2, "pair": 0.1, "rating": 0.2}


def texts(batches, one):
    return [
        batches.tokenizer.batch_decode(one[name], skip_special_tokens=True)
        for name in ("instruction", "target")
    ]


def test_each_round_asks_every_window_a_question_of_one_kind_in_wordings_that_are_trained(make, tiny_data):
    settings = {"users": 20, "per_device_train_batch_size": 64, "questions": MIXTURE, "rounds": 10}
    batches = make(**settings)
    batch = batches[3]
    assert same(batch, make(**settings)[3])
    assert set(batch["kinds"]) == set(MIXTURE)
    starts = {"preference": "The user likes", "liked": "The user likes", "disliked": "The user doesn't like"}
    choices = {"yes-no": {"yes", "no"}, "pair": {*tiny_data.categories}, "rating": {*"12345"}}
    for kind, one in zip(batch["kinds"], batch["rounds"], strict=True):
        instructions, answers = texts(batches, one)
        assert len(instructions) == len(answers) == 64
        assert not any("person" in instruction for instruction in instructions)
        if kind in NAMING:
            assert set(instructions) == {
                wording.format(fields="genres") for wording in WORDINGS[kind].trained
            }
            assert all(answer.startswith(starts[kind]) for answer in answers)
        else:
            assert len(set(instructions)) > 5
            assert set(answers) <= choices[kind]


def test_random_wordings_are_many_and_never_held_out(make):
    batches = make(per_device_train_batch_size=16, questions={"liked": 1.0}, rounds=10, random_wordings=True)
    found = {
        text for index in range(3) for one in batches[index]["rounds"] for text in texts(batches, one)[0]
    }
    held_out = {wording.format(fields="genres") for wording in WORDINGS["liked"].held_out}
    assert len(found) > 50
    assert not found & held_out
    assert found & {wording.format(fields="genres") for wording in WORDINGS["liked"].trained}


@pytest.mark.parametrize("feedback", ["ratings", "implicit"])
def test_answers_about_categories_follow_expected_scores(make, tiny_data, feedback):
    data = replace(tiny_data, info=tiny_data.info.model_copy(update={"feedback": feedback}))
    batches = make(data, questions={"yes-no": 0.5, "pair": 0.5}, rounds=4, answers="decided")
    batch, names = batches[0], list(tiny_data.categories)
    scores = torch.linspace(-1, 1, 8 * len(names)).view(8, -1).roll(7, dims=1)
    nobody = Preferences(np.full((8, 3), -1), np.full((8, 3), -1))
    after = batches.answering(nobody, batch["rounds"], batch["kinds"], scores)
    for kind, one in zip(batch["kinds"], after, strict=True):
        answers = texts(batches, one)[1]
        for row, (category, answer) in enumerate(zip(one["category"].tolist(), answers, strict=True)):
            own = scores[row, category]
            if kind == "yes-no":
                assert answer == ("yes" if own[0] > 0 else "no")
                yes = torch.sigmoid(own[0] / (0.04 if feedback == "ratings" else 1.0))
                torch.testing.assert_close(one["chance"][row], torch.stack([yes, 1 - yes]))
            else:
                assert answer == names[category[int(own.argmax())]]
                assert one["chance"][row].tolist() == [float(own[0] >= own[1]), float(own[1] > own[0])]


def test_the_token_is_found_that_decides_between_answers(make, tiny_data):
    shares = {"yes-no": 0.25, "pair": 0.25, "rating": 0.25, "item-pair": 0.25}
    batches = make(questions=shares, rounds=8, per_device_train_batch_size=32, answers="decided")
    batch = batches[0]
    for kind, one in zip(batch["kinds"], batch["rounds"], strict=True):
        answers, known = texts(batches, one)[1], one["chance"].sum(dim=1)
        assert known.tolist() == pytest.approx([1.0] * 32)
        for row, at in enumerate(one["decides"].tolist()):
            own = one["target"][row, at]
            assert one["chance"][row, one["choice"][row] == own].sum() > 0
            assert kind == "item-pair" or at == 0
            if kind == "yes-no":
                assert one["chance"][row].tolist() == [answers[row] == "yes", answers[row] == "no"]
    assert "chance" not in make(questions=shares)[0]["rounds"][0]


def test_answers_that_several_tokens_decide_have_no_probabilities(make):
    batches = make(answers="decided")
    choices = [("one two", "one three"), ("1", "10"), ("same", "same")]
    found = batches._decisions(choices, np.array([[0.25, 0.75]] * 3))
    tokens, mask = batches._tokens(["one two", "one three"])
    at = int((tokens[0] != tokens[1]).int().argmax())
    assert at > 0
    assert bool(mask[:, at].all())
    assert found["decides"][0] == at
    assert found["choice"][0].tolist() == tokens[:, at].tolist()
    assert found["chance"][0].tolist() == [0.25, 0.75]
    assert found["chance"][2].tolist() == [0.0, 0.0]


def test_rounds_are_as_near_to_the_shares_as_they_go(make):
    batches = make(questions={"preference": 0.5, "yes-no": 0.25, "rating": 0.25}, rounds=4)
    for index in range(5):
        assert sorted(batches[index]["kinds"]) == ["preference", "preference", "rating", "yes-no"]
    single = [make(questions={"preference": 0.5, "pair": 0.5})[index]["kinds"] for index in range(20)]
    assert {kind for (kind,) in single} == {"preference", "pair"}


def test_no_round_may_see_the_items_whose_rating_is_asked_for(make, tiny_data):
    batches = make(window=(40, 40), questions={"rating": 1.0}, rounds=3)
    titles = tiny_data.items["title"].to_list()
    batch = batches[0]
    for one in batch["rounds"]:
        for row, instruction in enumerate(texts(batches, one)[0]):
            seen = batch["unique"][batch["item"][row][batch["mask"][row]]].tolist()
            assert len(seen) > 5
            (asked_for,) = [index for index, title in enumerate(titles) if f" {title} (" in instruction]
            assert asked_for not in seen


def test_by_the_view_what_names_no_category_keeps_its_target(make, tiny_data):
    batches = make(per_device_train_batch_size=32, questions=MIXTURE, rounds=10)
    batch, task = batches[0], load_task(recipe().task, tiny_data.info)
    logits = torch.full((32, 5, 2), -8.0)
    logits[:, 3, 0] = logits[:, 0, 1] = 8.0
    best = batches.answering(batches.best(logits), batch["rounds"], batch["kinds"])
    for kind, before, after in zip(batch["kinds"], batch["rounds"], best, strict=True):
        if kind not in NAMING:
            assert equal(before, after)
            continue
        assert equal(before["instruction"], after["instruction"])
        read = task.parse(texts(batches, after)[1])
        assert set(read.liked[:, 0]) == {3 if kind != "disliked" else -1}
        assert set(read.disliked[:, 0]) == {0 if kind != "liked" else -1}
