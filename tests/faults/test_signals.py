"""Signals stop a command cleanly: one line that says how to resume, and resuming works."""

import signal

import pytest
from test_kills import BEFORE, ends_otherwise
from world import NAMES

SAID = {
    "prepare": "palate: stopped; nothing was written; run it again",
    "train": "palate: stopped; run the same command again to resume from the last checkpoint",
    "export": "palate: stopped; run the same command again to resume",
}
pytestmark = pytest.mark.slow
TERM, INT = signal.SIGTERM, signal.SIGINT


def stopped(new_world, whole, name, share, *signals):
    """A world in which a command was stopped after a share of its operations on files, and how that ended."""
    undisturbed, operations = whole
    world = new_world().take(undisturbed, *BEFORE[name])
    return world, world.commands.ended(world.start(name, int(operations[name] * share), *signals))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("signals", "codes"), [((INT,), {130}), ((TERM,), {143}), ((INT, INT), {130}), ((INT, TERM), {130, 143})]
)
def test_a_command_is_stopped_at_any_moment(new_world, whole, name, share, signals, codes):
    world, ended = stopped(new_world, whole, name, share, *signals)
    assert ended.code in codes
    assert len(signals) > 1 or ended.said == SAID[name]
    assert "Traceback" not in ended.output
    assert ends_otherwise(world, whole[0], name) == ""
