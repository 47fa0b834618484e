"""The evaluator: the same questions and scores for all predictors, and files of results."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from palate.config.registry import predictors as registered
from palate.data.windows import make_examples
from palate.errors import DataError, LeakageError, PalateError
from palate.evaluation.evaluate import Setting, read_evaluation, score_predictors, write_evaluation
from palate.evaluation.metrics import score_preferences
from palate.evaluation.predictors.references import references
from palate.evaluation.tables import evaluation_sheet
from palate.schema import Examples
from small_dataset import CATEGORIES, small_dataset, small_task

SETTING = Setting(split="test", window=10, kind="random", seed=3)


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def task(dataset):
    return small_task(dataset)


@pytest.fixture(scope="module")
def examples(dataset, task):
    return make_examples(dataset, task, SETTING.split, SETTING.window, SETTING.kind, SETTING.seed)


@pytest.fixture(scope="module")
def evaluation(dataset, task, examples):
    return score_predictors(
        references(dataset, task, registered.kinds, "random"), examples, task, dataset, SETTING
    )


class Says:
    """A predictor with given answers, in turn."""

    def __init__(self, *answers, name="says"):
        self.name = name
        self.answers = answers

    def predict(self, user_index, windows):
        return [self.answers[row % len(self.answers)] for row in range(len(windows))]


class Knows:
    name = "knows"

    def __init__(self, texts):
        self.texts = texts

    def predict(self, user_index, windows):
        return self.texts


def ask(dataset, task, examples, *predictors):
    return score_predictors(predictors, examples, task, dataset, SETTING)


def test_the_evaluation_says_what_was_asked(evaluation, dataset):
    assert evaluation.setting == SETTING
    assert (evaluation.dataset, evaluation.fingerprint) == (dataset.info.name, dataset.info.fingerprint)
    assert evaluation.users == dataset.info.split_sizes["test"]
    assert [one.name for one in evaluation.predictors] == list(registered.kinds)


def test_true_answers_score_one(dataset, task, examples):
    (knows,) = ask(dataset, task, examples, Knows(task.target_texts(examples.truth))).predictors
    for one in (knows.scores.liked, knows.scores.disliked, knows.scores.joint):
        assert (one.precision.value, one.recall.value, one.f1.value) == (1, 1, 1)
    assert knows.unreadable == 0
    for name, one in knows.per_category.items():
        index = CATEGORIES.index(name)
        assert one.liked_users == (examples.truth.liked == index).sum()
        assert one.disliked_users == (examples.truth.disliked == index).sum()
        assert one.liked_f1 == (one.liked_users > 0)


def test_scores_are_those_of_the_answers_read_back(evaluation, dataset, task, examples):
    for one in evaluation.predictors:
        answers = [line.answer for line in evaluation.predictions if line.predictor == one.name]
        expected = score_preferences(examples.truth, task.parse(answers), len(CATEGORIES), SETTING.seed)
        assert one.scores == expected


def test_answers_without_a_label_are_unreadable_unless_they_say_so(dataset, task, examples):
    says = Says("The user likes no genre and doesn't like any genre", "42", "The user likes War", "")
    (found,) = ask(dataset, task, examples, says).predictors
    assert found.unreadable == 0.5


def test_what_is_written_is_read_back(evaluation, tmp_path):
    write_evaluation(evaluation, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json", "predictions.jsonl"]
    assert read_evaluation(tmp_path / "run") == evaluation


def test_predictions_are_one_user_a_line_by_names(dataset, task, examples, tmp_path):
    answer = "The user likes War, Cooking\u2028 and\ndoesn't like Noir"
    write_evaluation(ask(dataset, task, examples, Says(answer)), tmp_path)
    lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len(lines) == len(examples)
    first = json.loads(lines[0])
    assert list(first) == [
        *("predictor", "user_id", "answer", "liked", "disliked", "truth_liked", "truth_disliked")
    ]
    assert first["user_id"] == dataset.user_ids[examples.user_index[0]]
    assert (first["answer"], first["liked"], first["disliked"]) == (answer, ["War"], ["Noir"])
    assert first["truth_liked"] == [CATEGORIES[index] for index in examples.truth.liked[0] if index >= 0]
    assert read_evaluation(tmp_path).predictions[0].answer == answer


def test_damage_is_told_by_file_and_line(evaluation, tmp_path):
    with pytest.raises(DataError, match=r"metrics\.json: the file is missing"):
        read_evaluation(tmp_path)
    write_evaluation(evaluation, tmp_path)
    path = tmp_path / "predictions.jsonl"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]))
    with pytest.raises(DataError, match=r"predictions\.jsonl:2: .*run palate evaluate again"):
        read_evaluation(tmp_path)
    (tmp_path / "metrics.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"metrics\.json: dataset: is missing"):
        read_evaluation(tmp_path)


def test_answers_of_another_evaluation_are_not_taken_for_its_own(evaluation, tmp_path):
    """A process that is killed between the two files leaves such a pair."""
    write_evaluation(evaluation, tmp_path)
    first, *others = evaluation.predictions
    changed = (first.model_copy(update={"answer": "no"}), *others)
    write_evaluation(evaluation.model_copy(update={"predictions": changed}), tmp_path / "other")
    (tmp_path / "other" / "predictions.jsonl").replace(tmp_path / "predictions.jsonl")
    with pytest.raises(DataError, match=r"predictions\.jsonl: does not match the digest in metrics\.json"):
        read_evaluation(tmp_path)


def test_examples_of_another_split_are_refused(dataset, task):
    others = make_examples(dataset, task, "train", 10, "random", 0)
    message = r"120 of 120 examples are not from the test split \(the first: user 'u\d+'\)"
    with pytest.raises(LeakageError, match=message):
        ask(dataset, task, others, Says("War"))


def test_what_cannot_be_scored_is_refused(dataset, task, examples):
    with pytest.raises(PalateError, match=r"2 predictors are named 'says'"):
        ask(dataset, task, examples, Says("War"), Says("Noir"))
    with pytest.raises(PalateError, match=r"no predictor was given"):
        ask(dataset, task, examples)
    with pytest.raises(PalateError, match=r"knows: returned 1 answers for 40 users"):
        ask(dataset, task, examples, Knows(["War"]))
    nobody = Examples(examples.user_index[:0], examples.windows[:0], examples.truth[np.arange(0)])
    with pytest.raises(PalateError, match=r"the test split of small has no users"):
        ask(dataset, task, nobody, Says("War"))


def test_the_tables_show_every_predictor_with_its_score(dataset, task, examples, evaluation):
    odd = Says("War", name="a [b] | c")
    both = evaluation.model_copy(
        update={"predictors": evaluation.predictors + ask(dataset, task, examples, odd).predictors}
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(evaluation_sheet(both))
    shown = {
        "terminal": console.file.getvalue(),
        "markdown": evaluation_sheet(both).markdown().replace("\\|", "|"),
    }
    for text in shown.values():
        assert "small: 40 test users, 10 random interactions, seed 3" in text
        for one in both.predictors:
            line = next(line for line in text.split("\n") if one.name in line)
            score = one.scores.liked.f1
            assert f"{score.value:.3f} ({score.low:.2f}–{score.high:.2f})" in line


@pytest.mark.parametrize("width", [44, 60, 80])
def test_a_narrow_terminal_shows_every_figure_of_f1_whole(evaluation, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(evaluation_sheet(evaluation))
    text = console.file.getvalue()
    assert max(map(len, text.split("\n"))) <= width
    assert "…" not in text
    for one in evaluation.predictors:
        liked, disliked = one.scores.liked.f1, one.scores.disliked.f1
        for figure in (f"{liked.value:.3f}", f"({liked.low:.2f}–{liked.high:.2f})", f"{disliked.value:.3f}"):
            assert figure in text
    assert ("Not shown for lack of room: time" in " ".join(text.split())) == (width < 80)


def test_every_line_of_the_markdown_table_has_the_same_cells(evaluation):
    lines = [line for line in evaluation_sheet(evaluation).markdown().split("\n") if line.startswith("|")]
    assert len(lines) == 2 + len(registered.kinds)
    assert {line.count("|") for line in lines} == {9}
