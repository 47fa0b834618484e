"""Full and read-only disks: an error in one line, no partial output, and the next command succeeds."""

import errno
import random

import pytest
from test_kills import BEFORE, ends_otherwise
from world import NAMES

pytestmark = pytest.mark.slow
WORDS = {
    errno.ENOSPC: "disk full while writing",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
}


def goes_wrong(new_world, whole, name, setting):
    """What is wrong with a command in a circumstance, or with the one after it."""
    world = new_world().take(whole, *BEFORE[name])
    ended = world.do(name, **setting)
    wrong = "" if ended.in_order else f"exit code {ended.code}: {ended.output[-2000:]}"
    expected = WORDS.get(setting.get("error", errno.ENOSPC), "")
    if ended.code == 2 and expected not in ended.said:
        wrong += f"told otherwise: {ended.said}"
    wrong += ends_otherwise(world, whole, name)
    world.remove()
    return wrong


def chosen(operations, number):
    """Commands and operations, the same ones in every test run."""
    every = [(name, at) for name in NAMES for at in range(1, operations[name] + 1)]
    return random.Random(2).sample(every, number)


@pytest.mark.parametrize("error", WORDS)
def test_nothing_can_be_written_any_more(new_world, whole, error):
    undisturbed, operations = whole
    found = {
        (name, at): goes_wrong(new_world, undisturbed, name, {"at": at, "error": error})
        for name, at in chosen(operations, 20)
    }
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("name", NAMES)
def test_no_file_can_grow_beyond_a_size(new_world, whole, name):
    """As on a full disk, for whatever library writes: each write beyond the size fails."""
    sizes = (3000, 8000, 20_000, 40_000, 80_000, 200_000)
    found = {size: goes_wrong(new_world, whole[0], name, {"largest": size}) for size in sizes}
    assert {size: wrong for size, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("name", ["prepare", "train"])
def test_a_folder_that_may_not_be_written_is_told_before_the_work(new_world, whole, name):
    world = new_world().take(whole[0], *BEFORE[name])
    world.folder.chmod(0o555)
    ended = world.do(name, bound=True)
    world.folder.chmod(0o755)
    assert ended.in_order
    assert ended.code == 2
    assert ended.said.endswith("Permission denied")
    assert world.do(name).code == 0
