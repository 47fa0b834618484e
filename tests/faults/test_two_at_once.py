"""Two commands at once: the second is refused the same destination, and shares what can be shared."""

import os
import signal

import pytest
from test_kills import BEFORE
from world import NAMES

pytestmark = pytest.mark.slow


def wait_until_stopped(process):
    """Until the operating system says that a signal has stopped it."""
    state = ""
    while state != "T":
        with open(f"/proc/{process.pid}/stat") as file:  # noqa: PTH123
            state = file.read().rsplit(")", 1)[1].split()[0]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells of processes so")  # noqa: PTH110
@pytest.mark.parametrize("name", NAMES)
def test_the_second_into_one_place_is_refused_and_the_first_is_not_disturbed(new_world, whole, name):
    assert_second_refused(new_world, whole, name)


def assert_second_refused(new_world, whole, name):
    """Start a command while the same one is in the middle, and let the first go on."""
    undisturbed, operations = whole
    world = new_world().take(undisturbed, *BEFORE[name])
    first = world.start(name, operations[name] // 2, signal.SIGSTOP)
    wait_until_stopped(first)
    second = world.do(name)
    os.kill(first.pid, signal.SIGCONT)
    assert second.code == 2
    assert f" is in use by process {first.pid} on " in second.said
    assert world.commands.ended(first).code == 0
    assert world.differs_from(undisturbed, name) == ""


def test_two_trainings_share_a_cache_that_both_fill(new_world, whole):
    undisturbed, _ = whole
    world = new_world().take(undisturbed, "prepare")
    out = [world.folder / f"run-{number}" for number in range(3)]
    training = [world.commands.start("train", world.folder / "recipe.yaml", "--out", one) for one in out]
    for process in training:
        ended = world.commands.ended(process)
        assert ended.code == 0, ended.output
    vectors = "model/items/items.safetensors"
    expected = (undisturbed.run_folder / vectors).read_bytes()
    assert [(one / vectors).read_bytes() == expected for one in out] == [True] * 3


def test_two_evaluations_of_one_run_leave_one_whole(new_world, whole):
    from palate.evaluation.evaluate import read_evaluation

    world = new_world().take(whole[0], "prepare", "train")
    evaluations = [
        world.commands.start("evaluate", world.run_folder, "--seed", seed, "--window", 5 + seed)
        for seed in range(3)
    ]
    for process in evaluations:
        ended = world.commands.ended(process)
        assert ended.code == 0, ended.output
    found = read_evaluation(world.run_folder)  # which compares both files
    assert found.setting.window == 5 + found.setting.seed
    assert world.leftovers() == []
