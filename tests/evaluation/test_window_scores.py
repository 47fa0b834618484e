"""Several windows in one command equal separate evaluations; spread over seeds."""

import io
import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest
from rich.console import Console
from typer.testing import CliRunner

from palate.cli import app
from palate.config.recipe import StreamingSettings
from palate.errors import OutputError, PalateError
from palate.evaluation.compare import Options
from palate.evaluation.evaluate import read_evaluation
from palate.evaluation.tables import difference_sheet, evaluation_sheet, window_sheet
from palate.evaluation.write import WindowScores, compare_and_write, compare_windows
from palate.model.model import load_model
from palate.runs.run import open_run
from tiny import tiny_model, tiny_recipe

WINDOWS = [3, 12, 30]
STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory):
    """Three runs that differ in the seed (one in its name too), one of another recipe, one of a seed again."""
    place = tmp_path_factory.mktemp("runs")
    recipe = tiny_recipe(tiny_data.path, place, place)
    longer = tiny_recipe(tiny_data.path, place, place, train={"max_steps": 13})
    recipes = {
        "a": recipe,
        "b": recipe.model_copy(update={"seed": 1}),
        "c": recipe.model_copy(update={"seed": 2, "name": "tiny-2"}),
        "longer": longer.model_copy(update={"seed": 3}),
        "again": recipe.model_copy(update={"seed": 1}),
    }
    for seed, (name, one) in enumerate(recipes.items()):
        run = open_run(place / name, one, tiny_data.info)
        tiny_model(tiny_data, STREAMING, seed).save_pretrained(run.model)
    return {name: str(place / name) for name in recipes}


@pytest.fixture(scope="module")
def swept(runs, tmp_path_factory):
    """The scores of all but ``again``, and the folder they were written to."""
    out = tmp_path_factory.mktemp("swept") / "new"
    return compare_windows([runs[name] for name in ("a", "b", "longer", "c")], Options(), WINDOWS, out), out


def without_time(evaluation):
    predictors = tuple(one.model_copy(update={"seconds": 0.0}) for one in evaluation.predictors)
    return evaluation.model_copy(update={"predictors": predictors})


def rows(markdown):
    """Cells by the first one."""
    lines = [line.strip("| ").split(" | ") for line in markdown.split("\n") if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


def test_every_window_is_scored_as_by_itself(runs, swept, tmp_path):
    scores, out = swept
    entries = [runs[name] for name in ("a", "b", "longer", "c")]
    for window, evaluation in zip(WINDOWS, scores.evaluations, strict=True):
        alone = compare_and_write(entries, Options(window=window), tmp_path / str(window))
        assert without_time(evaluation) == without_time(alone)
        assert read_evaluation(out / f"window-{window}") == evaluation
    answers = [
        [line.answer for line in one.predictions if line.predictor == "rule"] for one in scores.evaluations
    ]
    assert answers[0] != answers[1] != answers[2]


def test_a_model_is_loaded_once(runs, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "palate.model.model.load_model", lambda path, *_, **__: loaded.append(path) or load_model(path)
    )
    compare_windows([runs["a"], runs["b"]], Options(bare=True), WINDOWS)
    assert loaded == [Path(runs["a"]), Path(runs["b"])]


def test_what_is_written_is_one_folder_a_window_and_the_table(swept):
    scores, out = swept
    assert sorted(path.name for path in out.iterdir()) == ["window-12", "window-3", "window-30", "windows.md"]
    assert (out / "windows.md").read_text() == window_sheet(scores).markdown()


def test_only_runs_that_differ_in_the_seed_are_put_together(runs, swept):
    assert swept[0].seeds == {"tiny, 3 seeds": ["a", "b", "c"]}
    repeated = compare_windows([runs["b"], runs["again"], runs["longer"]], Options(bare=True), [3])
    assert repeated.seeds == {}


def test_recipes_of_one_name_are_told_apart(runs, tiny_data, tmp_path):
    other = tiny_recipe(tiny_data.path, tmp_path, tmp_path)
    entries = [runs["a"], runs["b"]]
    for seed in (0, 1):
        run = open_run(tmp_path / f"other-{seed}", other.model_copy(update={"seed": seed}), tiny_data.info)
        tiny_model(tiny_data, STREAMING, seed).save_pretrained(run.model)
        entries.append(str(run.path))
    assert compare_windows(entries, Options(bare=True), [3]).seeds == {
        "tiny, 2 seeds": ["a", "b"],
        "tiny, 2 seeds (other-0, other-1)": ["other-0", "other-1"],
    }


def test_the_table_has_a_row_a_predictor_and_one_of_all_seeds(swept):
    scores, _ = swept
    table = rows(window_sheet(scores).markdown())
    assert table.pop("predictor") == [str(window) for window in WINDOWS]
    single = [one.name for one in scores.evaluations[0].predictors]
    assert "a, another user's history" in single
    assert table.pop("(users)") == [f"{one.users}" for one in scores.evaluations]
    assert list(table) == ["---", *single, "tiny, 3 seeds"]
    for column, evaluation in enumerate(scores.evaluations):
        f1 = {one.name: one.scores.liked.f1.value for one in evaluation.predictors}
        assert {name: table[name][column] for name in f1} == {name: f"{f1[name]:.3f}" for name in f1}


def test_a_group_shows_mean_and_sample_standard_deviation(swept):
    evaluations, three = swept[0].evaluations, ["counting", "rule", "shrinkage"]
    grouped = WindowScores(evaluations, {"all, 3 seeds": three}, swept[0].label_names)
    table = rows(window_sheet(grouped).markdown())
    for column, evaluation in enumerate(evaluations):
        f1 = [one.scores.liked.f1.value for one in evaluation.predictors if one.name in three]
        assert stdev(f1) > 0.01
        mean, low, high, spread = re.fullmatch(
            r"([\d.]+) \(([\d.]+)–([\d.]+)\) ± ([\d.]+)", table["all, 3 seeds"][column]
        ).groups()
        assert (mean, spread) == (f"{fmean(f1):.3f}", f"{stdev(f1):.3f}")
        assert float(low) <= fmean(f1) <= float(high)  # an interval of the mean, not of one seed


def test_at_one_window_there_is_a_row_of_the_seeds_means_too(swept):
    one, three = swept[0].evaluations[0], ["counting", "rule", "shrinkage"]
    sheet = evaluation_sheet(one, seeds={"all, 3 seeds": three}, labels=swept[0].label_names)
    table = rows(sheet.markdown())
    precision = [row.scores.liked.precision.value for row in one.predictors if row.name in three]
    assert table["all, 3 seeds"][0] == f"{fmean(precision):.3f}"
    assert "bootstrap over seeds and users" in sheet.note


def test_any_two_rows_are_compared_and_seeds_stand_as_one(swept):
    one, three = swept[0].evaluations[0], ["counting", "rule", "shrinkage"]
    sheet = difference_sheet(one, {"all, 3 seeds": three}, swept[0].label_names)
    names = [name for name in (row.name for row in one.predictors) if name not in three] + ["all, 3 seeds"]
    assert [row[0] for row in sheet.rows] == [f"{at}. {name}" for at, name in enumerate(names, start=1)]
    for at, row in enumerate(sheet.rows):
        assert row[1 + at] == ""
        for other in range(len(names)):
            if other != at:  # the same, seen from the other side
                difference, level = re.fullmatch(
                    r"([+-][\d.]+)\*?\np (?:< )?([\d.]+)", row[1 + other]
                ).groups()
                assert float(difference) == -float(sheet.rows[other][1 + at].split("*")[0].split("\n")[0])
                assert 0 < float(level) <= 1
    assert "Holm's correction" in sheet.note


def test_the_table_says_what_its_numbers_are(swept, runs):
    console = Console(file=io.StringIO(), width=80)
    console.print(window_sheet(swept[0]))
    terminal = re.sub(r"\s+", " ", console.file.getvalue())
    for text in (terminal, window_sheet(swept[0]).markdown()):
        assert "test users with more interactions than the window, random interactions, seed 0" in text
        assert "Liked F1, weighted by category" in text
        assert (
            "Labels of the full history. Rule: thresholds (liked: mean rating above 3.5; disliked: below 3)."
            in text
        )
        assert "bootstrap over seeds and users" in text
    alone = compare_windows([runs["a"]], Options(bare=True), [3, 5])
    assert "±" not in window_sheet(alone).markdown()
    assert "deviation" not in window_sheet(alone).markdown()


def test_a_sweep_that_fails_leaves_nothing(runs, tmp_path):
    with pytest.raises(PalateError, match="at least 1"):
        compare_windows([runs["a"]], Options(), [5, 0], tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").touch()
    with pytest.raises(OutputError, match="not empty"):
        compare_windows(["gone"], Options(), [5, 10], tmp_path)


def palate(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_writes_only_where_it_is_told(runs, tiny_data, tmp_path):
    before = sorted(path.name for path in Path(runs["a"]).iterdir())
    shown = palate(runs["a"], "--bare", "--window", "5, 10")
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"predictor +5 +10", shown.stdout)
    assert sorted(path.name for path in Path(runs["a"]).iterdir()) == before
    written = palate("rule", "--data", tiny_data.path, "--window", "5,10", "--out", tmp_path / "x")
    assert written.exit_code == 0, written.stderr
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["window-10", "window-5", "windows.md"]


@pytest.mark.parametrize("window", ["5", "5,10"])
@pytest.mark.parametrize("truth", ["labels", "labels,unseen"])
def test_json_is_all_that_stdout_gets(tiny_data, tmp_path, window, truth):
    arguments = ["rule", "shrinkage", "--data", tiny_data.path, "--window", window, "--truth", truth]
    done = palate(*arguments, "--json", "--out", tmp_path / "x")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    asked = [(one["setting"]["truth"], one["setting"]["window"]) for one in document["evaluations"]]
    assert asked == [(one, int(size)) for one in truth.split(",") for size in window.split(",")]
    for one in document["evaluations"]:
        assert one["setting"]["users"] == "partly"
        assert one["label_rule"].startswith("thresholds (liked: mean rating above 3.5")
        assert [predictor["name"] for predictor in one["predictors"]] == ["rule", "shrinkage"]
    several = [f"window-{size}-{one}" for one in truth.split(",") for size in window.split(",")]
    if "," not in truth:
        several = [f"window-{size}" for size in window.split(",")]
    alone = ["metrics.json", "predictions.jsonl"] if "," not in window + truth else [*several, "windows.md"]
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == sorted(alone)


def test_two_truths_stand_in_one_table(tiny_data):
    shown = palate(
        "rule", "counting", "--data", tiny_data.path, "--window", "5,10", "--truth", "labels,unseen"
    )
    assert shown.exit_code == 0, shown.stderr
    for truth in ("labels", "unseen"):
        for name in ("rule", "counting", r"\(users\)"):
            assert re.search(rf"{name} +{truth} +\d", shown.stdout)
    assert "of the interactions outside the window (unseen)" in re.sub(r"\s+", " ", shown.stdout)


def test_a_window_that_leaves_nobody_is_refused_before_anything_is_scored(tiny_data, tmp_path):
    done = palate("rule", "--data", tiny_data.path, "--window", "5,9999", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert re.search(
        r"the longest history of the test users of raw has \d+ interactions, none more", done.stderr
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("past", "the truth is 'past'; expected one or more of labels, unseen, future"),
        ("labels,labels", "the truths are labels, labels; expected each once"),
    ],
)
def test_a_truth_that_is_none_is_refused(truth, said):
    done = palate("rule", "--data", "gone", "--truth", truth)
    assert done.exit_code == 2
    assert done.stderr.strip() == f"palate: {said}"


@pytest.mark.parametrize("text", ["0", "-5", "many", "5,", "5,,10", "5;10", "5,0", "5.5", "5,5", ""])
def test_what_is_no_list_of_windows_is_refused(text):
    done = palate("rule", "--data", "gone", "--window", text)
    assert done.exit_code == 2
    assert f"{text!r}, expected a number of interactions like 50" in re.sub(r"[\s│]+", " ", done.stderr)


def test_the_command_tests_and_prints_for_a_paper(tiny_data):
    command = ["evaluate", "rule", "population", "--data", str(tiny_data.path), "--window", "5", "--tests"]
    latex = CliRunner().invoke(app, [*command, "--format", "latex"])
    assert latex.exit_code == 0, latex.output
    assert latex.stdout.count(r"\begin{tabular}") == 2
    assert r"\& rule" not in latex.stdout
    assert "1. rule &" in latex.stdout
    markdown = CliRunner().invoke(app, [*command, "--format", "markdown"])
    assert "| 2. population |" in markdown.stdout
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    (pair,) = document["tests"][0]
    assert (pair["first"], pair["second"]) == ("rule", "population")
    assert pair["corrected"] == pair["p_value"]  # of one pair
