"""Killing a worker, a node or the driver loses only the task in progress."""

import multiprocessing
import os
import signal
import subprocess
import sys

import dying
import numpy as np
import pytest
from logs import DATA, SCALE, Row, model_of, write_log

from palate.errors import MissingExtraError, OutputError
from palate.fold.job import FoldOptions, fold_log
from palate.fold.manifest import read_fold_manifest
from palate.system.engines import shard_engine

OPTIONS, ALONE = FoldOptions(workers=2, blocks=6), FoldOptions(workers=1, blocks=6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run, the files of a log, and the digest of its fold by one process."""
    folder = tmp_path_factory.mktemp("world")
    model_of("latent").save_pretrained(folder / "run")
    rng = np.random.default_rng(0)
    logs = []
    for number in range(4):
        rows = [
            Row(f"u{user}", item, value, 1_700_000_000 + time)
            for user, item, value, time in zip(
                rng.integers(60, size=300),
                rng.integers(len(DATA.item_ids), size=300),
                rng.integers(len(SCALE), size=300),
                rng.integers(10**6, size=300),
                strict=True,
            )
        ]
        logs.append(write_log(folder / f"log-{number}.csv", rows))
    calm = fold_log(logs, folder / "run", folder / "calm", ALONE)
    return folder / "run", logs, calm.digest


@pytest.mark.parametrize("when", [0, 7])
def test_a_worker_that_is_killed_costs_its_task_alone(world, tmp_path, when):
    """A process is killed when the log is begun, and when some blocks are done."""
    run, logs, calm = world
    killed = []

    def progress(done, total):
        if done >= when and not killed and (children := multiprocessing.active_children()):
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)

    manifest = fold_log(logs, run, tmp_path / "states", OPTIONS, progress=progress)
    assert manifest.digest == calm
    assert len(killed) == 1


def test_tasks_that_are_done_are_not_done_again(tmp_path):
    tasks = [dying.DiesOnce(tmp_path, number, number == 4) for number in range(9)]
    with shard_engine("local", 2) as engine:
        assert sorted(engine.run(tasks)) == list(range(9))
    begun = [len((tmp_path / f"{number}.begun").read_text()) for number in range(9)]
    # what one worker was at when the other died is begun again, too
    assert begun[4] == 2
    assert sum(begun) <= 9 + 3


def test_workers_that_die_again_and_again_are_given_up(tmp_path):
    tasks = [dying.DiesAlways(tmp_path, number, True) for number in range(2)]
    with shard_engine("local", 2) as engine, pytest.raises(OutputError, match="workers were killed 3 times"):
        list(engine.run(tasks))


def test_a_fold_whose_driver_is_killed_goes_on(world, tmp_path):
    run, logs, calm = world
    assert killed_after("local", 6, run, tmp_path / "states", logs) == -signal.SIGKILL
    assert not (tmp_path / "states").exists()
    said = []
    manifest = fold_log(logs, run, tmp_path / "states", ALONE, say=said.append)
    assert manifest.digest == calm
    assert any(line.startswith("resuming: ") for line in said)
    assert [path.name for path in tmp_path.iterdir()] == ["states"]


def test_a_fold_of_other_files_begins_anew(world, tmp_path):
    run, logs, _ = world
    assert killed_after("local", 6, run, tmp_path / "states", logs) == -signal.SIGKILL
    said = []
    manifest = fold_log(logs[:2], run, tmp_path / "states", ALONE, say=said.append)
    assert len(manifest.logs) == 2
    assert not any(line.startswith("going on") for line in said)
    alone = fold_log(logs[:2], run, tmp_path / "alone", ALONE)
    assert manifest.digest == alone.digest


def killed_after(engine, when, run, out, logs):
    command = [sys.executable, dying.__file__, engine, str(when), str(run), str(out), *map(str, logs)]
    return subprocess.run(command, check=False, capture_output=True, timeout=120).returncode


def test_without_ray_its_engine_says_how_to_get_it(world, tmp_path, monkeypatch):
    run, logs, _ = world
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs Ray, which is not installed; run .*\[ray\]"):
        fold_log(logs, run, tmp_path / "states", FoldOptions(engine="ray"))
    assert not (tmp_path / "states").exists()


@pytest.mark.slow
class TestOnRay:
    """On a local cluster of several nodes, each a process of its own with workers of its own."""

    @pytest.fixture
    def cluster(self):
        ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        ray.cloudpickle.register_pickle_by_value(dying)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster, nodes
        ray.shutdown()
        cluster.shutdown()

    def test_a_cluster_folds_what_one_process_does(self, cluster, world, tmp_path):
        run, logs, calm = world
        manifest = fold_log(logs, run, tmp_path / "states", FoldOptions(engine="ray", blocks=6))
        assert manifest.digest == calm

    def test_a_worker_that_is_killed_costs_its_task_alone(self, cluster, tmp_path):
        tasks = [dying.DiesOnce(tmp_path, number, number == 4) for number in range(9)]
        with shard_engine("ray") as engine:
            assert sorted(engine.run(tasks)) == list(range(9))
        begun = [len((tmp_path / f"{number}.begun").read_text()) for number in range(9)]
        assert begun == [2 if number == 4 else 1 for number in range(9)]

    @pytest.mark.parametrize("when", [1, 5])
    def test_a_node_that_is_killed_costs_what_it_was_at(self, cluster, world, tmp_path, when):
        run, logs, calm = world
        cluster, nodes = cluster
        killed = []

        def progress(done, total):
            if done >= when and not killed:
                killed.append(True)
                cluster.remove_node(nodes[0], allow_graceful=False)

        manifest = fold_log(
            logs, run, tmp_path / "states", FoldOptions(engine="ray", blocks=6), progress=progress
        )
        assert manifest.digest == calm
        assert killed

    def test_a_fold_whose_driver_is_killed_goes_on(self, world, tmp_path):
        pytest.importorskip("ray")
        run, logs, calm = world
        assert killed_after("ray", 6, run, tmp_path / "states", logs) == -signal.SIGKILL
        said = []
        manifest = fold_log(logs, run, tmp_path / "states", OPTIONS, say=said.append)
        assert manifest.digest == calm
        assert any(line.startswith("resuming: ") for line in said)


def test_what_is_written_is_a_manifest_of_all_of_it(world, tmp_path):
    run, logs, _ = world
    folder = tmp_path / "states"
    manifest = fold_log(logs, run, folder, ALONE)
    assert read_fold_manifest(folder) == manifest
    assert sum(one.rows for one in manifest.logs) == 1200
    assert {path.name for path in folder.iterdir()} == {
        *("builder.safetensors", "done", "last-events", "manifest.json", "scale.json", "states")
    }
    assert all(len(list((folder / name).iterdir())) == 6 for name in ("done", "last-events", "states"))
