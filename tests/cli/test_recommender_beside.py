"""``recipes/own-data.yaml`` trains a model, and a recommender beside it."""

import json
from pathlib import Path

import polars as pl
import pytest

import palate
from bookshop import books, ratings, write_rows
from bookshop_commands import COLUMNS, run
from palate.answers.load import load_answerer
from palate.serve.run import with_recommenders
from palate.serve.settings import ServeSettings

RECIPE = Path(__file__).parents[2] / "recipes" / "own-data.yaml"
SMALL = [
    "train.max_steps=2", "train.eval_steps=2", "train.eval_users=8", "train.per_device_train_batch_size=4",
    "train.eval_windows=[5]", "train.eval_draws=1", "recommend.texts=false", "recommend.rounds=1",
    "recommend.network_size=0", "recommend.rating_rank=2", "recommend.rating_iterations=2",
]  # fmt: skip


def trained(data, out):
    settings = [argument for one in [f"data.path={data}", *SMALL] for argument in ("--set", one)]
    return run("train", RECIPE, *settings, "--out", out)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    catalogue = books()
    events = write_rows(ratings(catalogue), folder / "events.csv")
    items = write_rows(catalogue, folder / "items.csv")
    done = run("prepare", events, "--items", items, *COLUMNS, "--out", folder / "data")
    assert done.exit_code == 0, done.output
    done = trained(folder / "data", folder / "run")
    assert done.exit_code == 0, done.output
    return folder


def test_one_run_names_what_users_like_and_recommends(shop):
    user = pl.read_csv(shop / "events.csv")["reader"][0]
    said = run("generate", shop / "run", "--user", user)
    assert said.exit_code == 0, said.output
    listed = run("recommend", shop / "run", "--user", user, "-k", "2", "--json")
    assert listed.exit_code == 0, listed.output
    assert len(json.loads(listed.stdout)["items"]) == 2
    assert isinstance(palate.load_model(shop / "run"), palate.PersonalizedModel)
    alone = palate.load_recommender(shop / "run" / "recommender")
    assert palate.load_recommender(shop / "run").item_ids == alone.item_ids


def test_questions_about_items_and_categories_are_answered_by_it(shop):
    answerer = load_answerer(shop / "run", device="cpu")
    history = palate.load_dataset(shop / "data").histories(palate.load_dataset(shop / "data").user_ids[:1])
    kinds = [
        answerer.answer(history, asked)[0].kind
        for asked in ("What should I recommend to this user?", "Describe the taste of this user.")
    ]
    assert kinds == ["recommendation", "profile"]


def test_it_is_ranked_and_served_without_being_named(shop):
    settings = ServeSettings(run=shop / "run", store="users.sqlite", previous=shop / "run")
    found = with_recommenders(settings)
    assert found.recommender == found.previous_recommender == shop / "run" / "recommender"
    named = with_recommenders(settings.model_copy(update={"recommender": Path("another")}))
    assert named.recommender == Path("another")
    ranked = run("rank", shop / "run", "popularity", "--data", shop / "data", "--protocol", "new-users")
    assert ranked.exit_code == 0, ranked.output


def test_what_was_interrupted_between_the_two_is_finished(shop, tmp_path, monkeypatch):
    from palate.recommend import train

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as cutting:
        cutting.setattr(train, "fit_recommender", cut)
        assert trained(shop / "data", tmp_path / "run").exit_code != 0
    assert palate.load_model(tmp_path / "run")
    done = trained(shop / "data", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "finished already" in done.output
    files = ("recommender.json", "recommender.safetensors")
    for name in files:
        ours, theirs = (one / "run" / "recommender" / "model" / name for one in (tmp_path, shop))
        assert ours.read_bytes() == theirs.read_bytes()


def test_data_without_categories_gets_a_recommender_alone_and_says_so(shop, tmp_path):
    events = pl.read_csv(shop / "events.csv").select("reader", "isbn", "stars", "rated_at")
    events.write_csv(tmp_path / "events.csv")
    named = ["--user-col", "reader", "--rating-col", "stars"]
    assert run("prepare", tmp_path / "events.csv", *named, "--out", tmp_path / "data").exit_code == 0
    done = trained(tmp_path / "data", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "a recommender alone is trained" in done.output
    listed = run("recommend", tmp_path / "run", "--user", events["reader"][0])
    assert listed.exit_code == 0, listed.output
