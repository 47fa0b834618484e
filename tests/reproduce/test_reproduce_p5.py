"""P5's and POD's tables on a few reviews and sequences: cells, references and published numbers beside, going on."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from bookshop import write_rows
from palate.cli.app import app
from palate.config.load import dump_recipe
from palate.config.recipe import PeplerSettings
from palate.data.prepare import prepare
from palate.data.tabular.settings import OwnData
from palate.errors import RecipeError
from palate.generative.files import load_generative
from palate.generative.pepler_cases import split_texts
from palate.ranking.generative_texts import EXPLAINED, EXPLAINED_STARS, score_generative_texts
from palate.reproduce.cell import RECIPE, train_cell
from palate.reproduce.p5 import measure_p5, p5_cells, p5_sheets, read_p5


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Twelve users with five reviews each."""
    rng, rows = np.random.default_rng(0), []
    for user in range(12):
        for time, item in enumerate(rng.permutation(8)[:5]):
            row = {"user": user, "item": f"i{item}", "rating": float(1 + (user + item) % 5), "time": time}
            rows.append(row | {"review_text": f"It is item {item}, says {user}"})
    folder = tmp_path_factory.mktemp("reviews")
    return prepare(write_rows(rows, folder / "r.jsonl"), folder / "data", dev_share=0.2, test_share=0.2)


def sequences(folder):
    """Users go on by one from somewhere, in a file of sequences whose ids are numbers."""
    rng = np.random.default_rng(0)
    lines = [
        f"{user} {' '.join(str(1 + (start + step) % 30) for step in range(6))}"
        for user, start in enumerate(rng.integers(30, size=15))
    ]
    path = folder / "sequences.txt"
    path.write_text("\n".join(lines) + "\n")
    return prepare(path, folder / "lastfm", own=OwnData(format="sequences"))


def finished(cell, folder):
    """Train and measure a cell in this process."""
    folder.mkdir(parents=True)
    (folder / RECIPE).write_text(dump_recipe(cell.recipe))
    train_cell(folder)
    measure_p5(folder)
    return read_p5(folder)


@pytest.fixture(scope="module")
def of_reviews(reviews, tmp_path_factory):
    place = tmp_path_factory.mktemp("cells")
    [cell] = p5_cells("p5", "smoke", reviews.path)
    return cell, place / cell.name, finished(cell, place / cell.name)


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_the_matrix_of_families_and_data():
    p5, pod = (p5_cells(kind, "mini") for kind in ("p5", "pod"))
    families = {cell.name: list(cell.recipe.generative.families) for cell in (*p5, *pod)}
    assert families["p5-beauty-collaborative-seed0"] == ["sequential", "direct"]
    assert families["p5-ml-1m-new-users-sequential-seed0"] == ["rating"]
    assert families["p5-gift-cards-sequential-seed0"][2:] == ["rating", "explanation", "review"]
    assert families["pod-musical-instruments-sequential-seed0"] == ["sequential", "direct", "explanation"]
    assert not any("leaking" in cell.name or "new-users" in cell.name for cell in pod)
    counting = {cell.name: cell.recipe.generative for cell in p5 if cell.recipe.generative.number_steps}
    assert [one.ids for one in counting.values()] == ["sequential", "leaking"]
    assert all("lastfm-counting" in name for name in counting)
    assert len(p5_cells("p5", "paper", seeds=2)) == 2 * (len(p5) - len(counting))


def test_a_cell_of_reviews_is_asked_everything_it_was_trained_for(of_reviews):
    _, folder, result = of_reviews
    names = [one.name for one in result.ranked.rankers]
    assert names == [
        "sequential prompts",
        "sequential prompts, trained wording",
        "direct prompts",
        "direct prompts, trained wording",
        "item-knn:shrinkage=5,decay=0.5",
        "popularity",
    ]
    assert [one.name for one in result.texts][:8] == [
        "rating",
        "rating, trained wording",
        "explanation",
        "explanation of the true stars",
        "explanation, trained wording",
        "explanation of the true stars, trained wording",
        "stars of the review",
        "stars of the review, trained wording",
    ]
    scores = {one.name: one.ratings.rmse.value for one in result.texts if one.ratings is not None}
    assert scores["rating"] != scores["rating, trained wording"]
    assert scores["stars of the review"] != scores["stars of the review, trained wording"]
    assert "ridge regression of the review's words" in [one.name for one in result.texts]
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == result.texts[0].ratings.ratings == 12
    assert 1 <= answers[0]["rating"] <= 5
    ranking, texts = p5_sheets([result])
    assert [row[0] for row in texts.rows][:3] == [
        "P5, sequential ids: rating",
        "P5, sequential ids: rating, trained wording",
        "P5, sequential ids: explanation",
    ]
    [to_knn] = [row[6] for row in ranking.rows if row[0] == "popularity"]
    difference = next(one for one in result.ranked.of("popularity").differences if "knn" in one.to)
    assert to_knn.startswith(f"{difference.value:+.4f} (")


def test_held_out_interactions_are_peplers_and_their_stars_and_texts_are_not_read(of_reviews, reviews):
    cell, folder, _ = of_reviews
    model = load_generative(folder / "run")
    first = score_generative_texts(model, cell.recipe, reviews).answers
    cases = split_texts(reviews, PeplerSettings(protocol="leave-last-out"), 0).test
    assert [one["review"] for one in first] == list(cases.texts)
    events = reviews.interactions
    changed = events.rating_index.copy()
    changed[cases.row] = 4 - changed[cases.row]
    other = replace(reviews, interactions=replace(events, rating_index=changed))
    second = score_generative_texts(model, cell.recipe, other).answers
    assert [one["stars"] for one in second] == [6 - one["stars"] for one in first]
    for name in (EXPLAINED, "rating", "rating, trained wording"):
        assert [one[name] for one in second] == [one[name] for one in first]
    with pytest.raises(RecipeError, match=r"trained with data\.protocol=new-users"):
        score_generative_texts(
            model,
            cell.recipe.model_copy(
                update={"data": cell.recipe.data.model_copy(update={"protocol": "new-users"})}
            ),
            reviews,
        )
    assert EXPLAINED_STARS in first[0]


def test_palate_explain_answers_and_scores_a_run_by_ids(of_reviews, reviews, tmp_path):
    _, folder, result = of_reviews
    other = sequences(tmp_path)
    explain = partial(CliRunner().invoke, app)
    run_of = ["explain", str(folder / "run")]
    said = explain([*run_of, "--user", "3", "--item", "i1", "--item", "i2", "--json"])
    assert [one["item_id"] for one in json.loads(said.stdout)] == ["i1", "i2"]
    assert all(1 <= one["rating"] <= 5 for one in json.loads(said.stdout))
    scored = explain([*run_of, "--held-out", "test", "--json", "--out", str(tmp_path / "texts.jsonl")])
    assert json.loads(scored.stdout) == [one.model_dump(mode="json") for one in result.texts]
    assert (tmp_path / "texts.jsonl").read_text() == (folder / "answers.jsonl").read_text()
    for given, told in (
        (["--user", "99", "--item", "i1"], "no user '99'"),
        (["--user", "3", "--item", "i99"], "i99"),
        (["--held-out", "dev"], "scored on test alone"),
        (["--held-out", "test", "--data", str(other.path)], "was trained on other data"),
    ):
        refused = explain([*run_of, *given])
        assert refused.exit_code == 2
        assert told in refused.output


def test_leaking_ids_stand_as_a_control_beside_the_rule_and_published_numbers(tmp_path):
    data = sequences(tmp_path)
    cells = {cell.recipe.generative.ids: cell for cell in p5_cells("p5", "smoke", data.path)}
    assert list(cells) == ["sequential", "random", "collaborative", "leaking"]
    result = finished(cells["leaking"], tmp_path / cells["leaking"].name)
    [sheet] = p5_sheets([result])
    rows = {row[0]: row for row in sheet.rows}
    assert "P5, leaking ids (a control): sequential prompts" in rows
    assert {"largest-id", "largest-id:ids=training", "published: OpenP5, random ids"} <= set(rows)
    assert "leak" in sheet.note


def test_new_users_are_rated_from_their_windows(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for user in range(30):
        for time, item in enumerate(rng.permutation(20)[:14]):
            rows.append(
                {"user": user, "item": f"i{item}", "rating": float(1 + (user + item) % 5), "time": time}
            )
    data = prepare(
        write_rows(rows, tmp_path / "r.jsonl"), tmp_path / "ml-1m-new-users", dev_share=0.2, test_share=0.2
    )
    [cell] = p5_cells("p5", "smoke", data.path)
    result = finished(cell, tmp_path / "cells" / cell.name)
    assert result.ranked is None
    names = [one.name for one in result.rated.predictors]
    assert names == ["rating prompts", "rating prompts, trained wording", "item-mean", "biased-mf"]
    [sheet] = p5_sheets([result])
    assert [row[0] for row in sheet.rows][:2] == [f"P5, sequential ids: {name}" for name in names[:2]]
    assert sheet.rows[0][3].endswith(")")


def test_the_command_trains_once_and_refuses_another_recipe(reviews, tmp_path):
    asked = ("pod", "--data", reviews.path, "--out", tmp_path / "out", "--seeds", 1)
    said = run(*asked, "--preset", "smoke", "--format", "markdown")
    assert said.exit_code == 0, said.output
    assert "| POD, sequential ids: direct prompts |" in said.stdout
    assert "| POD, sequential ids: explanation |" in said.stdout
    again = run(*asked, "--preset", "smoke")
    assert "1 of 1 cells are already finished" in again.output
    other = run(*asked, "--preset", "mini")
    assert other.exit_code == 2
    assert "holds a cell of another recipe (differs in" in other.output


def test_what_is_missing_is_told_and_what_means_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run("p5", "--dry-run", "--seeds", 1)
    assert "missing: data/beauty; make it with  palate prepare FILES --out data/beauty" in said.stdout
    assert "p5-lastfm-leaking-seed0: 1,500 steps, sequential, direct" in said.stdout
    assert "palate prepare FILES --out data/beauty" in run("p5", "--only", "beauty").output
    refused = run("p5", "--processes", 2)
    assert refused.exit_code == 2
    assert "--window-kind and --processes" in refused.output
    assert "--only 'bert': no cell's name contains it" in run("pod", "--only", "bert").output
