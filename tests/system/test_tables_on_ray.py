"""Tables and scores from a Ray cluster of several nodes equal those of one process."""

import polars as pl
import pytest

from bookshop_commands import run, trained_recommender
from palate.answers import table as answers
from palate.config.recipe import ItemSettings
from palate.data.dataset import load_dataset
from palate.data.windows import make_examples
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.items.encoder import ItemEncoder
from palate.items.shards import encode_by_shards
from palate.recommend import table
from palate.recommend.table import ListSettings, write_lists
from palate.runs.run import RunFolder
from palate.system.engines import shard_engine
from palate.tasks import load_task
from tiny import unbound_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes, each a process with workers of its own."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    settings = "texts: false, rounds: 1, rating_rank: 2, rating_iterations: 3, network_size: 0, ridge: 50"
    return trained_recommender(tmp_path_factory.mktemp("shop"), settings)


def test_lists_for_all_users(cluster, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LISTS_A_PART", 40)
    for name, options in (("one", []), ("ray", ["--engine", "ray"])):
        made = run("recommend", shop, "--all", "-k", 3, "--out", tmp_path / f"{name}.parquet", *options)
        assert made.exit_code == 0, made.output
    one, ray = ((tmp_path / f"{name}.parquet").read_bytes() for name in ("one", "ray"))
    assert len(pl.read_parquet(tmp_path / "ray.parquet")) > 3 * 40
    assert one == ray


def test_a_node_that_is_killed_costs_no_list(cluster, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "LISTS_A_PART", 10)
    users = load_dataset(RunFolder(shop).recipe.data.path).user_ids
    node, killed = cluster.add_node(num_cpus=1), []

    def progress(done, total):
        if 0 < done < total and not killed:
            killed.append(done)
            cluster.remove_node(node, allow_graceful=False)

    for name, told in (("local", lambda *_: None), ("ray", progress)):
        with shard_engine(name, 1) as engine:
            write_lists(shop, None, users, ListSettings(k=3), tmp_path / f"{name}.csv", engine, told)
    one, ray = ((tmp_path / f"{name}.csv").read_bytes() for name in ("local", "ray"))
    assert killed
    assert one == ray


def test_answers_to_questions(cluster, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "A_PART", 50)
    asked = tmp_path / "questions.txt"
    asked.write_text("What should they read next?\nWhat should they avoid?\n")
    arguments = ("answers", shop, "--users", "all", "--questions", asked)
    for name, options in (("one", []), ("ray", ["--engine", "ray"])):
        made = run(*arguments, "--out", tmp_path / f"{name}.parquet", *options)
        assert made.exit_code == 0, made.output
    one, ray = ((tmp_path / f"{name}.parquet").read_bytes() for name in ("one", "ray"))
    assert len(pl.read_parquet(tmp_path / "ray.parquet")) > 2 * 50
    assert one == ray


def test_item_vectors(cluster, tiny_sentence_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("palate.items.shards.CHUNK", 8)
    texts = [f"the movie {number} is listed with {'a b c ' * (number % 7)}" for number in range(30)]
    for name in ("local", "ray"):
        settings = ItemSettings(encoder=str(tiny_sentence_encoder), cache=tmp_path / name, batch_size=4)
        with shard_engine(name, 1) as engine:
            assert encode_by_shards(settings, texts, engine) == len(texts)
        assert not ItemEncoder(settings, "cpu").missing(texts)
    local, ray = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*/*.safetensors")}
        for name in ("local", "ray")
    )
    assert len(local) == 4
    assert local == ray


def test_answers_that_are_scored(cluster, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictor = PersonalizedPredictor(
        unbound_model(grammar=True, max_new_tokens=48).bind(tiny_data), "model", batch_size=3
    )
    task = load_task(predictor.model.settings.task, tiny_data.info)
    examples = make_examples(tiny_data, task, "test", 10, "random", 0)
    alone = predictor.predict(examples.user_index, examples.windows)
    assert len(set(alone)) > 1
    with shard_engine("ray") as predictor.engine:
        assert predictor.predict(examples.user_index, examples.windows) == alone
    assert not list(tmp_path.iterdir())
