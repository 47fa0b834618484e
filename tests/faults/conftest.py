"""Fixtures: a world whose commands ran without a fault, and new worlds to inject faults into."""

import itertools

import pytest
from faulty import Commands
from world import NAMES, World

from tiny import write_movielens


@pytest.fixture(scope="session")
def new_world(tmp_path_factory, tiny_sentence_encoder):
    """Return a function that creates worlds with the same source, encoder and recipe."""
    base = tmp_path_factory.mktemp("worlds")
    source = write_movielens(base / "source", users=30, movies=30)
    (base / "logs").mkdir()
    commands, numbers = Commands(base / "logs"), itertools.count()
    return lambda: World(base / f"{next(numbers)}", commands, source, tiny_sentence_encoder)


@pytest.fixture(scope="session")
def whole(new_world):
    """A world without faults, and the number of file operations of each of its commands."""
    world = new_world()
    operations = {}
    for name in NAMES:
        ended = world.do(name, at=0)
        assert ended.code == 0, ended.output
        operations[name] = ended.operations
    return world, operations


@pytest.fixture(scope="session")
def unfinished(new_world, whole):
    """A world whose training was killed late, with two checkpoints."""
    undisturbed, operations = whole
    world = new_world().take(undisturbed, "prepare")
    world.do("train", at=operations["train"] * 3 // 4)
    assert len(list(world.run_folder.glob("checkpoints/checkpoint-*/complete.json"))) == 2
    return world
