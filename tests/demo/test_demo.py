"""palate demo end to end on a tiny dataset: its output, and resumption."""

import io
import os

import pytest
from rich.console import Console

from demo_sample import small_recipes, write_movielens
from holding import held_elsewhere
from palate.config.load import load_recipe
from palate.config.recipe import UniversalSettings
from palate.data.dataset import load_dataset
from palate.demo import run as demo
from palate.demo import scores as demo_scores
from palate.errors import MissingExtraError, OutputError, PalateError
from palate.report.build import read_report
from palate.report.terminal import print_report
from palate.training.train import train_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def raw(place):
    return write_movielens(place / "raw")


@pytest.fixture(scope="module")
def finished(place, raw):
    """The report of a demo, and what it told."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_scores, "DRAWS", 1)
        return demo.run_demo(place / "out", lines.append, source=raw, recipes=small_recipes(place)), lines


def test_both_trainings_are_told_by_name(finished):
    for name in ("main ", "paper"):
        own = [line for line in finished[1] if line.startswith(f"{name}  ")]
        assert own[0].startswith(f"{name}  training on 37 users")
        assert [line.split(":")[0] for line in own if "  step " in line] == [
            f"{name}  step 2 of 4",
            f"{name}  step 4 of 4",
        ]


def test_a_training_beside_another_gives_what_it_gives_alone(place, finished, tmp_path):
    alone = train_run(load_recipe(place / "out" / "main" / "recipe.yaml"), tmp_path / "alone")
    path = "model/model.safetensors"
    assert (alone / path).read_bytes() == (place / "out" / "main" / path).read_bytes()


@pytest.mark.slow
def test_an_interrupted_demo_goes_on(place, raw, finished, tmp_path):
    def until_step_2(line):
        if line.startswith("main ") and "step 2 of" in line:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(out, until_step_2, source=raw, recipes=small_recipes(place))
    assert (out / "main" / "recipe.yaml").is_file()
    lines = []
    demo.run_demo(out, lines.append, source=raw, recipes=small_recipes(place))
    path = "main/model/model.safetensors"
    assert (out / path).read_bytes() == (place / "out" / path).read_bytes()


@pytest.mark.slow
def test_the_failure_of_one_training_is_told_and_the_other_goes_on_later(place, raw, tmp_path):
    main, paper = small_recipes(place)
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"extends: {main}\ntrain: {{learning_rate: 1.0e+30}}\n")
    with pytest.raises(PalateError, match=r"^training main failed: .*train\.learning_rate \(now 1e\+30\)"):
        demo.run_demo(tmp_path / "out", source=raw, recipes=(broken, paper))
    assert not (tmp_path / "out" / "report.html").exists()


def test_everything_lies_in_its_folder(place, finished):
    assert finished[0] == place / "out" / "report.html"
    assert {path.name for path in (place / "out").iterdir()} == {
        "data",
        "main",
        "paper",
        "metrics.json",
        "predictions.jsonl",
        "report.html",
        "report.json",
        "stages.json",
    }


def test_what_is_complete_is_not_done_again(place, finished, monkeypatch):
    for work in ("prepare", "measure"):
        monkeypatch.setattr(demo, work, None)
    before = finished[0].read_bytes()
    lines = []
    again = demo.run_demo(place / "out", lines.append, source="nowhere", recipes=small_recipes(place))
    assert again.read_bytes() == before
    assert [line.rpartition("/")[2] for line in lines if not line.startswith("warning: ")] == [
        "main is finished already",
        "paper is finished already",
    ]


def test_a_folder_of_another_recipe_is_refused(place, finished):
    with pytest.raises(
        OutputError, match=r"out/main holds a run of another recipe \(differs in train.max_steps\)"
    ):
        demo.run_demo(place / "out", recipes=small_recipes(place, steps=6))


def test_a_missing_encoder_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("palate.items.encoder_files.PACKAGE", "no_such_package")
    monkeypatch.setattr(demo, "prepare", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(MissingExtraError):
        demo.run_demo(tmp_path / "out")
    assert not (tmp_path / "out" / "data").exists()


def test_a_folder_that_another_demo_fills_is_refused(place, raw, tmp_path):
    with (
        held_elsewhere(tmp_path / "out") as process,
        pytest.raises(OutputError, match=f"process {process.pid} "),
    ):
        demo.run_demo(tmp_path / "out", source=raw, recipes=small_recipes(place))
    assert list(tmp_path.iterdir()) == []


def test_all_its_files_follow_the_umask(place, finished):
    umask = os.umask(0o022)
    os.umask(umask)
    files = [path for path in (place / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_the_report_compares_models_references_and_controls(finished):
    data = read_report(finished[0].with_suffix(".json"))
    assert {row.predictor: row.kind for row in data.scores} == {
        "palate": "model",
        "the paper's UEM": "model",
        "rule": "rule",
        "shrinkage": "reference",
        "counting": "reference",
        "population": "control",
        "palate, another user's history": "control",
        "palate, view in a template": "control",
        "the paper's UEM, another user's history": "control",
    }
    tokens = {row.predictor: row.prompt_tokens for row in data.scores}
    assert (tokens["the paper's UEM"], tokens["rule"]) == (8, None)
    assert 6 < tokens["palate"] <= UniversalSettings().vectors
    assert {line.name for line in data.lengths} == {"palate", "the paper's UEM", "rule", "shrinkage"}
    rule = next(line for line in data.lengths if line.name == "rule")
    assert rule.f1[0] < rule.f1[-1] == 1  # every history is shorter than the longest window
    for curve in data.training.curves:
        assert (len(curve.loss), curve.dev_x) == (4, (2, 4))
        assert list(curve.x) == sorted(curve.x)


def test_an_example_shows_what_the_user_rated(place, finished):
    data = read_report(finished[0].with_suffix(".json"))
    dataset = load_dataset(place / "out" / "data")
    assert len(data.examples) == 3
    for example in data.examples:
        history = dataset.histories([example.user_id])[0]
        rated = {
            f"Film {item} (1990)": one for item, one in zip(history.item_ids, history.ratings, strict=True)
        }
        assert all(rated[item.title] == item.rating for item in (*example.highest, *example.lowest))
        assert min(item.rating for item in example.highest) >= max(item.rating for item in example.lowest)
        assert all(name in example.truth_text for name in (*example.truth.liked, *example.truth.disliked))


def test_the_terminal_marks_hits_and_shows_every_score(finished):
    data = read_report(finished[0].with_suffix(".json"))
    out = io.StringIO()
    print_report(data, Console(width=160, file=out))
    for example in data.examples:
        assert f"User {example.user_id}: a window of 8 interactions" in out.getvalue()
        for answer in example.answers:
            for name in answer.labels.liked:
                assert ("✓" if name in example.truth.liked else "✗") + name in out.getvalue()
    for row in data.scores:
        assert f"{row.f1.value:.3f} ({row.f1.low:.2f}–{row.f1.high:.2f})" in out.getvalue()
