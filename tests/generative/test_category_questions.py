"""P5's question about categories: what it learns from, what is read of a user, and its scores beside other rows."""

from dataclasses import replace

import numpy as np
import pytest

import palate
from palate.config.recipe import Recipe, WindowSettings
from palate.data.protocols import make_split
from palate.data.windows import make_examples
from palate.errors import DataError, MismatchError, RecipeError
from palate.evaluation.compare import Options, prepare_comparison
from palate.generative.categories import CategoryAnswers, LabelledWindows
from palate.generative.corpus import Corpus
from palate.generative.p5_training import train_generative
from palate.generative.prompts import PROMPTS
from palate.generative.staged_training import CHECKPOINT
from palate.generative.wording import Wording
from palate.tasks import load_task

T5 = {
    "kind": "random-t5",
    "d_model": 32,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 400,
    "dropout": 0.0,
}


def recipe(data, steps=2, grammar=True, families=None, windows=(4, 12), **train):
    return Recipe(
        data={"path": data.path},
        windows={"kind": "random", "shortest": windows[0], "longest": windows[1]},
        model={"backbone": T5, "grammar": grammar},
        generative={"kind": "p5", "families": families or {"categories": 2, "sequential": 1}},
        train={
            "max_steps": steps,
            "per_device_train_batch_size": 8,
            "eval_steps": max(steps // 2, 1),
            "eval_users": 5,
            "learning_rate": 3e-3,
            "threads": 1,
            **train,
        },
        evaluate={"window": 10},
    )


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    return train_generative(recipe(tiny_data), tmp_path_factory.mktemp("categories") / "run")


@pytest.fixture(scope="module")
def labelled(tiny_data):
    training = make_split(tiny_data, "new-users").training
    task = load_task(Recipe().task, tiny_data.info)
    return LabelledWindows(training, task, WindowSettings(kind="random", shortest=5, longest=5))


def test_answers_have_the_labels_of_whole_histories_or_of_the_window(tiny_data, labelled):
    users, windows, answers = labelled.draw(60, np.random.default_rng(0))
    assert set(users.tolist()) <= set(tiny_data.users("train").tolist())
    assert windows.length.tolist() == [5] * 60
    task = labelled.task
    assert answers == task.target_texts(task.labels(tiny_data.statistics[users]))
    users, windows, answers = labelled.draw(60, np.random.default_rng(0), window_labels=True)
    for row in range(3):  # by hand
        ratings = {name: [] for name in task.label_names}
        for item, rating in zip(windows.item_index[row], windows.rating_index[row], strict=True):
            for name in tiny_data.items["categories"][int(item)]:
                ratings[name].append(tiny_data.rating_values[rating])
        least = task.settings.min_count
        means = {name: np.mean(them) for name, them in ratings.items() if len(them) >= least}
        read = task.parse([answers[row]])
        for said, wanted in (
            (read.liked, {name for name, mean in means.items() if mean > task.like_above}),
            (read.disliked, {name for name, mean in means.items() if mean < task.dislike_below}),
        ):
            named = {task.label_names[index] for index in said[0] if index >= 0}
            assert named <= wanted
            assert len(named) == min(len(wanted), task.settings.max_labels)


def test_prompts_hold_the_id_or_the_window_and_never_the_held_out_wording(tiny_data, labelled):
    items = [f"item_{index:02}" for index in range(len(tiny_data.items))]
    users = [f"user_{index:02}" for index in range(len(tiny_data.user_ids))]
    wording = Wording(items, users, "movie", tuple("12345"))
    settings = recipe(tiny_data).generative
    corpus = Corpus(labelled.training, wording, settings, labelled)
    batch = corpus.batch("categories", 200, np.random.default_rng(0))
    named = [one for one in batch if "user_" in one.prompt]
    assert 120 < len(named) < 190  # four fifths
    rest = [one for one in batch if one not in named]
    assert all(one.prompt.count("item_") == 5 for one in rest)
    held_out = PROMPTS["categories"][0].held_out
    assert held_out.split("{")[0].startswith("describe")
    assert not any(one.prompt.startswith("describe") for one in batch)
    early = corpus.batch("categories", 50, np.random.default_rng(0), window_labels=True)
    assert not any("user_" in one.prompt for one in early)  # an id does not tell the window


def test_a_run_is_evaluated_beside_the_references_with_readable_answers(run, tiny_data):
    options = Options(users="all", controls=True)
    found = prepare_comparison([str(run), "population"], options).evaluate()
    names = [one.name for one in found.predictors]
    assert names[-1] == "run"
    assert {"run, another user's history", "run, no history", "run, ratings shuffled", "rule"} <= {*names}
    assert not any("population prompt" in name for name in names)
    own = found.predictors[-1]
    assert own.unreadable == 0.0  # the grammar allows nothing else
    free = prepare_comparison([str(run)], replace(options, constrained=False, bare=True)).evaluate()
    assert free.predictors[-1].unreadable == 1.0  # after two steps no sentence has been learned
    table = palate.evaluate([str(run)], tiny_data, windows=[5, 10])
    assert set(table.to_polars()["window"]) == {5, 10}


def test_nothing_but_the_window_is_read_of_a_user(run, tiny_data):
    answers = prepare_comparison([str(run)], Options(bare=True, users="all")).predictors[0]
    assert isinstance(answers, CategoryAnswers)
    task = load_task(Recipe().task, tiny_data.info)
    windows = make_examples(tiny_data, task, "test", 6, "random", 0).windows
    (first, *_) = answers._texts(windows)
    assert "user_" not in first
    assert first.count("item_") == 6
    alone = [answers.answer(windows[row : row + 1])[0] for row in range(len(windows))]
    assert answers.predict(np.arange(len(windows)), windows) == alone


def test_an_interrupted_training_resumes_to_the_same_bytes(tiny_data, tmp_path):
    class Stopped(Exception):
        pass

    def stop(line):
        if "step 4 " in line:
            raise Stopped

    settings = recipe(tiny_data, steps=6, eval_steps=2, window_labels=0.5)
    with pytest.raises(Stopped):
        train_generative(settings, tmp_path / "parts", stop)
    assert (tmp_path / "parts" / "checkpoints" / CHECKPOINT).is_file()
    said = []
    train_generative(settings, tmp_path / "parts", said.append)
    assert any(line.startswith("resuming from the checkpoint: stage p5, step 2 ") for line in said)
    assert any("dev liked F1" in line for line in said)
    train_generative(settings, tmp_path / "whole")
    weights = "model/generative.safetensors"
    assert (tmp_path / "parts" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert not (tmp_path / "parts" / "checkpoints").exists()


def test_the_first_family_with_a_dev_score_decides_what_is_kept(tiny_data, tmp_path):
    said = []
    families = {"rating": 1, "sequential": 1, "categories": 1}
    train_generative(recipe(tiny_data, families=families), tmp_path / "run", said.append)
    assert sum("dev NDCG@50" in line for line in said) == 3
    assert not any("dev liked F1" in line for line in said)


def test_what_cannot_be_asked_is_refused_in_a_line(run, tiny_data, tmp_path):
    with pytest.raises(ValueError, match=r"set data.protocol to new-users, or leave it out"):
        Recipe(
            data={"path": "x", "protocol": "leave-last-out"},
            model={"backbone": T5},
            generative={"kind": "p5", "families": {"categories": 1}},
        )
    plain = {name: getattr(Recipe(), name) for name in ("windows", "evaluate")}
    of_items = recipe(tiny_data, grammar=False, families={"direct": 1}).model_copy(update=plain)
    other = train_generative(of_items, tmp_path / "direct")
    with pytest.raises(RecipeError, match=r"was trained on direct, and answers nothing about categories"):
        palate.evaluate([str(other)], tiny_data, users="all")
    info = tiny_data.info.model_copy(update={"fingerprint": "sha256:other", "name": "elsewhere"})
    with pytest.raises(MismatchError, match=r"and elsewhere is other data; evaluate it without --transfer"):
        prepare_comparison([str(run)], Options(data=replace(tiny_data, info=info), transfer=True))
    info = tiny_data.info.model_copy(update={"categories": ("Action",)})
    with pytest.raises(DataError, match=r"the task needs at least 2"):
        train_generative(recipe(tiny_data), tmp_path / "none", dataset=replace(tiny_data, info=info))


@pytest.mark.slow
def test_a_trained_p5_reads_the_user(tmp_path):
    """Ratings that follow from an item's only category and a user's taste: windows tell what is liked."""
    from tiny import prepare_tiny

    data = prepare_tiny(tmp_path, users=400, movies=30)
    settings = recipe(
        data,
        steps=600,
        families={"categories": 1},
        windows=(10, 20),
        per_device_train_batch_size=32,
        eval_steps=200,
        eval_users=80,
        window_labels=0.5,
    )
    run = train_generative(settings, tmp_path / "run")
    found = prepare_comparison([str(run), "population"], Options(users="all", window=20)).evaluate()
    f1 = {one.name: one.scores.liked.f1.value for one in found.predictors}
    assert f1["run"] > f1["run, another user's history"] + 0.1
    assert f1["run"] > f1["population"] + 0.1
