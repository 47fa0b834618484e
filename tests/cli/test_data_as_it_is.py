"""From prepare to answers by the command line, for data with and without ratings, times, categories, texts, titles."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bookshop import write_rows
from palate.cli.app import app

GENRES = ("Crime", "Poetry", "Travel")
RECIPE = (
    "name: any\nrecommend: {texts: false, rounds: 1, rating_rank: 2, rating_iterations: 2, network_size: 0}\n"
    "train: {threads: 1}\n"
)
WITHOUT = {
    "nothing left out": (),
    "no ratings": ("rating",),
    "no times": ("time",),
    "no categories": ("genre",),
    "no titles": ("title",),
    "no review texts": ("review",),
    "ids alone": ("rating", "time", "genre", "title", "review"),
}


def rows(without):
    """A shop's events, each with all that is known of its item."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(40):
        for time, item in enumerate(rng.permutation(24)[:8]):
            event = {
                "user_id": f"u{user}",
                "item_id": f"i{item}",
                "rating": int(rng.integers(1, 6)),
                "time": 1_600_000_000 + 100 * time,
                "title": f"Story {item}",
                "genre": GENRES[item % 3],
                "review": f"What {user} says of {item}",
            }
            found.append({name: value for name, value in event.items() if name not in without})
    return found


def run(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    [line] = result.stderr.strip().splitlines()
    return line


@pytest.fixture(scope="module", params=WITHOUT)
def case(request, tmp_path_factory):
    """What is left out, a prepared dataset, a trained recommender, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("case")
    without = WITHOUT[request.param]
    events = write_rows(rows(without), folder / "events.jsonl")
    said = done("prepare", events, "--out", folder / "data", "--min-ratings", 2).stderr
    (folder / "recipe.yaml").write_text(RECIPE)
    run_folder = folder / "run"
    said += done(
        "train", folder / "recipe.yaml", "--set", f"data.path={folder / 'data'}", "--out", run_folder
    ).stderr
    return set(without), folder / "data", run_folder, said


def test_what_is_missing_is_said(case):
    without, _, _, said = case
    for column, expected in (
        ("rating", "no ratings: ratings cannot be predicted"),
        ("time", "no times: recency is measured by the order of interactions alone"),
        ("genre", "no categories: they relate no items"),
        ("title", "no item texts: "),
    ):
        assert (expected in said) == (column in without)
    assert ("review texts: of 100.0%" in said) == ("review" not in without)


def test_items_are_recommended_and_chosen(case):
    _, _, run_folder, _ = case
    found = json.loads(done("recommend", run_folder, "--user", "u3", "-k", 5, "--json").stdout)
    assert len(found["items"]) == 5
    chosen = json.loads(
        done("choose", run_folder, "--user", "u3", "--item", "i1", "--item", "i2", "--json").stdout
    )
    assert chosen["item_id"] in ("i1", "i2")


def test_stars_are_predicted_where_there_are_ratings(case):
    without, _, run_folder, _ = case
    if "rating" in without:
        assert "has no ratings" in refused("rate", run_folder, "--user", "u3", "--item", "i1")
    else:
        rated = json.loads(done("rate", run_folder, "--user", "u3", "--item", "i1", "--json").stdout)
        assert 1 <= rated["items"][0]["rating"] <= 5


def test_filters_need_what_they_filter_by(case):
    without, _, run_folder, _ = case
    crime = ("recommend", run_folder, "--user", "u3", "--category", "Crime")
    if "genre" in without:
        assert "have no categories" in refused(*crime)
    else:
        done(*crime)
    assert "have no years" in refused("recommend", run_folder, "--user", "u3", "--since", 1990)


def test_items_are_ranked(case):
    without, data, _, _ = case
    table = json.loads(done("rank", "popularity", "item-knn", "--data", data, "--trials", 1, "--json").stdout)
    assert table["users"] == 40
    future = ("rank", "popularity", "--data", data, "--protocol", "future")
    if "time" in without:
        assert "has no times" in refused(*future)
    else:
        done(*future)


def test_the_data_can_be_looked_at_and_asked_about_where_it_has_categories(case):
    without, data, _, _ = case
    shown = done("inspect", data).stdout
    assert ("not possible: expected at least 2 categories" in " ".join(shown.split())) == ("genre" in without)
    if "genre" in without:
        assert "needs at least 2" in refused("evaluate", "rule", "--data", data, "--users", "all")
    else:
        done("evaluate", "rule", "--data", data, "--users", "all", "--window", 4)
