"""Comparison of rating predictors: tuning, differences, the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import palate
from palate.cli.app import app
from palate.errors import MismatchError, PalateError, RecipeError
from palate.recommend.rating_calibration import ExpectedRatings
from small_dataset import small_dataset

FILMS = small_dataset()
SMALL = "recommender:texts=false,rating_models=2,rating_rank=3,rating_iterations=8"


class Always:
    """Predicts one rating for all."""

    def __init__(self, rating, sd=1.0):
        self.rating, self.sd = rating, sd

    def fit(self, dataset):
        self.learned_from = dataset

    def predict(self, windows, candidates, times):
        same = np.ones(candidates.shape)
        return ExpectedRatings(self.rating * same, self.sd * same, 0.5 * same)


@pytest.fixture(scope="module")
def table():
    return palate.score_ratings(["item-mean", "biased-mf:factors=2", SMALL], FILMS, visible=[3, 12], trials=2)


def test_more_ratings_say_more(table):
    for one in table.predictors:
        assert one.metrics["12 visible"]["rmse"].value < one.metrics["3 visible"]["rmse"].value


def test_ours_learns_tastes_that_means_do_not_have(table):
    difference = table.predictors[2].differences["12 visible"]
    assert table.predictors[0].to["12 visible"] != "item-mean"
    assert difference["rmse"].value < 0.01
    assert (
        table.score(SMALL, "12 visible", "pairs").value
        > table.score("item-mean", "12 visible", "pairs").value
    )


def test_only_predictors_with_several_settings_are_tuned_on_dev(table):
    assert [(one.trials, one.dev is None) for one in table.predictors] == [(2, False), (1, True), (1, True)]


def test_differences_are_with_the_best_other_or_the_named_one():
    entries = [("high", Always(4.0)), ("low", Always(1.0)), "item-mean"]
    table = palate.score_ratings(entries, FILMS, visible=[5], trials=1)
    assert [one.to["5 visible"] for one in table.predictors] == ["item-mean", "item-mean", "high"]
    named = palate.score_ratings(entries, FILMS, visible=[5], trials=1, versus="low")
    assert [one.to.get("5 visible") for one in named.predictors] == ["low", None, "low"]
    high, low = named.predictors[:2]
    difference = high.differences["5 visible"]["mae"].value
    assert difference == pytest.approx(
        high.metrics["5 visible"]["mae"].value - low.metrics["5 visible"]["mae"].value
    )


def test_scores_of_several_seeds_are_their_means():
    table = palate.score_ratings(["item-mean", SMALL], FILMS, visible=[5], trials=1, seeds=2)
    each = [palate.score_ratings([f"{SMALL},seed={seed}"], FILMS, visible=[5]) for seed in (0, 1)]
    values = [one.predictors[0].metrics["5 visible"]["rmse"].value for one in each]
    plain, found = table.predictors
    assert (plain.seeds, plain.seed_sd, found.seeds) == (1, None, 2)
    assert found.metrics["5 visible"]["rmse"].value == pytest.approx(np.mean(values))
    assert found.seed_sd["5 visible"]["rmse"] == pytest.approx(np.std(values, ddof=1))
    assert found.differences["5 visible"]["rmse"].value == pytest.approx(
        np.mean(values) - plain.metrics["5 visible"]["rmse"].value
    )


def test_nothing_of_a_test_user_is_learned_from():
    mine = Always(3.0)
    palate.score_ratings([("mine", mine)], FILMS, visible=[5])
    lengths = mine.learned_from.interactions.lengths
    assert not lengths[FILMS.users("test")].any()
    assert lengths[FILMS.users("dev")].all()


@pytest.mark.parametrize(
    ("entries", "options", "kind", "said"),
    [
        ([], {}, RecipeError, "no rating predictor; name at least one"),
        (["item-mean", "item-mean"], {}, RecipeError, "a rating predictor is named twice"),
        (
            ["item-men"],
            {},
            RecipeError,
            "there is no rating predictor 'item-men'; .* did you mean 'item-mean'?",
        ),
        (["item-mean"], {"versus": "ease"}, RecipeError, "no rating predictor 'ease' to compare with"),
        (["item-mean"], {"visible": [5, 5]}, PalateError, "expected distinct numbers, 0 or more"),
        ([("mine", Always(np.nan))], {}, PalateError, "mine returned a mean that is not finite"),
        ([("mine", Always(3.0, 0.0))], {}, PalateError, "or a standard deviation that is not above 0"),
    ],
)
def test_what_is_asked_for_is_checked(entries, options, kind, said):
    with pytest.raises(kind, match=said):
        palate.score_ratings(entries, FILMS, **{"visible": [5], **options})


def test_a_run_predicts_as_the_recommender_that_is_trained_on_the_same_users(prepared, tmp_path):
    settings = {"texts": False, "rounds": 1, "network_size": 0}
    small = {"rating_models": 2, "rating_rank": 2, "rating_iterations": 5}
    palate.train({"recommend": settings | small}, prepared, tmp_path / "run")
    found = palate.score_ratings([tmp_path / "run", "item-mean"], prepared, visible=[4], trials=1)
    run = found.predictors[0]
    assert (run.name, run.trials, run.dev) == (str(tmp_path / "run"), 1, None)
    assert 0.5 < run.metrics["4 visible"]["rmse"].value < 2
    with pytest.raises(MismatchError, match="was trained on targets of future"):
        palate.score_ratings([tmp_path / "run"], prepared, protocol="future")
    with pytest.raises(RecipeError, match="was not trained with these periods; leave them out"):
        palate.score_ratings([tmp_path / "run"], prepared, protocol="future", periods=(9_000_000, 20_000_000))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("ratings")
    rng = np.random.default_rng(0)
    lines = [
        f"{user},{item},{rng.integers(1, 6)},{1_000_000 * item + user}"
        for user in range(40)
        for item in rng.permutation(30)[:12]
    ]
    (place / "events.csv").write_text("user,item,rating,time\n" + "\n".join(lines))
    asked = ["prepare", str(place / "events.csv"), "--out", str(place / "data")]
    made = CliRunner().invoke(app, asked)
    assert made.exit_code == 0, made.output
    return str(place / "data")


def asked(prepared, *options):
    return CliRunner().invoke(
        app, ["rank", "item-mean", "biased-mf:factors=2", "--task", "ratings", "--data", prepared, *options]
    )


def test_the_command_prints_tables_or_json(prepared):
    shown = asked(prepared, "--visible", "2,4", "--trials", "1")
    assert shown.exit_code == 0, shown.output
    assert "new-users, random 2 visible, seed 0" in shown.stdout
    found = json.loads(asked(prepared, "--visible", "2", "--trials", "1", "--json").stdout)
    table = palate.RatingTable.model_validate(found)
    assert [part.shown for part in table.parts] == ["2 visible"]
    several = asked(prepared, "--visible", "2", "--trials", "1", "--seeds", "2")
    assert several.exit_code == 0, several.output


def test_the_command_predicts_by_time(prepared):
    shown = asked(prepared, "--protocol", "future", "--periods", "1970-10-01,1970-11-15", "--trials", "1")
    assert shown.exit_code == 0, shown.output
    assert "future, all before each rating, seed 0" in shown.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--visible", "5,x"], "expected a number of ratings like 50"),
        (["--candidates", "9"], "'--candidates': it is an option of --task items; leave it out"),
        (["--protocol", "leave-last-out"], "expected new-users, future or cold-items"),
        (["--protocol", "future", "--visible", "5"], "'--visible': it is an option of --protocol new-users"),
        (["--periods", "2001-01-01,2002-01-01"], "'--periods': it is an option of --protocol future"),
        (["--protocol", "future", "--periods", "2002-01-01,2001-01-01"], "the earlier one first"),
    ],
)
def test_options_are_checked_first(prepared, options, said):
    refused = asked(prepared, *options)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.replace("│", " ").split())
