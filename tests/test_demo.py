"""palate demo as a whole, on a tiny dataset: what it writes and prints, and that it goes on where it stopped."""

import io
from importlib import resources

import pytest
from rich.console import Console

from palate import demo
from palate.data.dataset import load_dataset
from palate.errors import OutputError
from palate.report.build import read_report
from palate.report.terminal import print_report

SMALL = """
extends: {package}/{recipe}
items: {{cache: {cache}}}
windows: {{shortest: {shortest}, longest: 8}}
model:
  backbone: {{width: 16, feed_forward: 16, heads: 2, layers: 1, vocabulary: 300}}
  task_prompt: 2
  user_encoder: {encoder}
simulation: {{users: {simulated}}}
train: {{steps: {steps}, minutes: null, batch_size: 8, evaluate_every: 2}}
evaluate: {{window: 8, most_new_tokens: 12}}
"""
POOLED = "{queries: 4, width: 16, layers: 1, heads: 2}"
UEM = "{layers: 1, heads: 2, head_size: 8, feed_forward: 16}"


def small_recipes(folder, steps=4):
    shared = {"package": resources.files("palate"), "cache": folder / "cache", "steps": steps}
    main, paper = folder / f"main-{steps}.yaml", folder / f"paper-{steps}.yaml"
    main.write_text(SMALL.format(recipe="demo.yaml", shortest=3, encoder=POOLED, simulated=30, **shared))
    paper.write_text(SMALL.format(recipe="demo_uem.yaml", shortest=8, encoder=UEM, simulated=0, **shared))
    return main, paper


def write_movielens(folder):
    """40 users, 30 films in the layout of the newer MovieLens releases; odd users like dramas, even ones do not."""
    folder.mkdir()
    rows = [
        f"{user},{film},{4 - 2 * ((user + film) % 2) + (film % 3 == 0)},{film}"
        for user in range(1, 41)
        for film in range(1, 21 + user % 10)
    ]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows, ""]))
    films = [f"{film},Film {film} (1990),{'Drama' if film % 2 else 'Comedy|War'}" for film in range(1, 31)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films, ""]))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def raw(place):
    return write_movielens(place / "raw")


@pytest.fixture(scope="module")
def finished(place, raw):
    """The report of a demo that was interrupted in its first training, and what its second half told."""

    def until_step_4(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(place / "out", until_step_4, source=raw, recipes=small_recipes(place))
    lines = []
    return demo.run_demo(place / "out", lines.append, source=raw, recipes=small_recipes(place)), lines


def test_an_interrupted_training_goes_on(finished):
    assert finished[1].count("resuming from checkpoint-2") == 1


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
    assert [line.rpartition("/")[2] for line in lines] == [
        "main is finished already",
        "paper is finished already",
    ]


def test_a_folder_of_another_recipe_is_refused(place, finished):
    with pytest.raises(
        OutputError, match=r"out/main holds a run of another recipe \(differs in train.steps\)"
    ):
        demo.run_demo(place / "out", recipes=small_recipes(place, steps=6))


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
        "the paper's UEM, another user's history": "control",
    }
    tokens = {row.predictor: row.prompt_tokens for row in data.scores}
    assert (tokens["palate"], tokens["the paper's UEM"], tokens["rule"]) == (4, 8, None)
    assert {line.name for line in data.lengths} == {"palate", "the paper's UEM", "rule", "shrinkage"}
    rule = next(line for line in data.lengths if line.name == "rule")
    assert rule.f1[0] < rule.f1[-1] == 1  # every history is shorter than the longest window
    for curve in data.training.curves:
        assert (len(curve.loss), len(curve.dev_f1)) == (4, 2)
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
                assert ("✓ " if name in example.truth.liked else "✗ ") + name in out.getvalue()
    for row in data.scores:
        assert f"{row.f1.value:.3f} ({row.f1.low:.2f}–{row.f1.high:.2f})" in out.getvalue()
