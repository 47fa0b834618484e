"""A command that is killed at any moment and run again gives the same result as an undisturbed one."""

import random

import pytest
from faulty import KILLED
from world import NAMES

pytestmark = pytest.mark.slow
BEFORE = {"prepare": (), "train": ("prepare",), "export": ("prepare", "train")}


def ends_otherwise(world, undisturbed, name):
    """What is wrong when a command is given again: nothing, when it ends as if nothing had happened."""
    ended = world.do(name)
    done = (
        ended.code == 2 and "is not empty; name a new folder" in ended.said
    )  # it was killed when all was done
    if not (ended.code == 0 or done) or "Traceback" in ended.output:
        return f"exit code {ended.code}: {ended.said}"
    return world.differs_from(undisturbed, name)


def moments(operations, kills):
    """Commands, and the operation before which each is killed; the same ones in every test run."""
    every = [(name, at) for name in NAMES for at in range(1, operations[name] + 1)]
    return random.Random(0).sample(every, min(kills, len(every)))


def killed_and_given_again(new_world, whole, name, at):
    """What is wrong with a command that was killed before an operation and given again."""
    world = new_world().take(whole, *BEFORE[name])
    killed = world.do(name, at)
    wrong = ends_otherwise(world, whole, name) if killed.code == KILLED else f"not killed: {killed.output}"
    world.remove()
    return wrong


def test_a_killed_command_ends_as_if_nothing_had_happened(new_world, whole):
    undisturbed, operations = whole
    found = {
        (name, at): killed_and_given_again(new_world, undisturbed, name, at)
        for name, at in moments(operations, 150)
    }
    assert {place: wrong for place, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(new_world, whole, name):
    undisturbed, operations = whole
    world = new_world().take(undisturbed, *BEFORE[name])
    generator = random.Random(1)
    for _ in range(8):
        world.do(name, generator.randrange(1, operations[name]))
    assert ends_otherwise(world, undisturbed, name) == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_killed_in_the_middle_of_a_write_ends_as_if_nothing_had_happened(
    new_world, whole, name
):
    """At moments that no operation of Python marks: while a library writes."""
    undisturbed, _ = whole
    wrong = {}
    for number in range(15):
        world = new_world().take(undisturbed, *BEFORE[name])
        process = world.commands.start(*world.arguments(name))
        process.join(timeout=0.1 + number * 0.12)
        process.kill()
        process.join()
        if found := ends_otherwise(world, undisturbed, name):
            wrong[number] = found
        world.remove()
    assert wrong == {}
