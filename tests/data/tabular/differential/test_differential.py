"""Palate reads any file as ``csv`` and ``json`` do, or refuses it by name; see file_oracle.

A few hundred files always; ``pytest -m slow tests/data/tabular/differential`` reads 100,000, or as many as the
environment variable PALATE_DIFFERENTIAL_FILES says, from the seed PALATE_DIFFERENTIAL_SEED on, and prints what they
came to.
"""

import os
import re
import shutil
import sys
import time
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from file_oracle import BAD_LINES, Fault, Told, read_all
from file_worlds import World, make_world

from palate.data.assemble import Rules
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.data.tabular.read import read_own
from palate.data.tabular.settings import OwnData
from palate.errors import DataError

RULES = Rules(min_ratings=1)
COUNTED = ("ratings_of_unknown_items", "duplicate_ratings", "repeated_events")


class WrongError(AssertionError):
    """What was read, or refused, and should not have been."""


def outcome(world: World, folder: Path) -> str:
    """How a world was read: "read", or why it was refused; raises :class:`WrongError` for what breaks the contract."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    events = [sheet.write(folder) for sheet in world.events]
    items = world.items.write(folder) if world.items else None
    told = _oracle(world, events, items)
    own = OwnData(items=str(items.path) if items else None, **_roles(world), **world.settings)
    try:
        found = _read([source.path for source in events], own, folder / "out" if world.whole else None)
    except DataError as error:
        return _check_refusal(str(error), told, [*events, *([items] if items else [])], own.skip_bad_rows)
    except Exception as error:
        raise WrongError(f"{type(error).__name__}: {error}") from error
    ways = _subsets(told.doubts if own.skip_bad_rows else [])
    wrong = [_fault_of(found, _oracle(world, events, items, strict), own, world) for strict in ways]
    if None not in wrong:
        raise next(filter(None, wrong))
    return "read"


def _fault_of(found, told: Told, own: OwnData, world: World) -> WrongError | None:
    try:
        _check_read(found, told, own, world)
    except WrongError as error:
        return error
    return None


def _oracle(world: World, events, items, strict: frozenset[str] = frozenset()) -> Told:
    return read_all(
        events,
        items,
        world.columns,
        implicit=world.settings.get("feedback") == "implicit",
        separator=world.settings["separator"],
        skip_bad_rows=world.settings["skip_bad_rows"],
        strict=strict,
    )


def _subsets(doubts):
    """Rows that are in doubt may be read or left out, each kind of them."""
    kinds = sorted(set(doubts))[:4]
    for size in range(len(kinds) + 1):
        yield from map(frozenset, combinations(kinds, size))


def _roles(world: World) -> dict[str, str]:
    """Every other world names its columns."""
    names = world.columns
    if world.seed % 2:
        return {}
    roles = {"user": names.user, "item": names.item, "time": names.time, "category": names.category}
    roles["weight" if world.settings.get("feedback") == "implicit" else "rating"] = names.value
    roles |= {"title": names.title, "description": names.description, "year": names.year}
    return {role: name for role, name in roles.items() if name is not None}


def _read(sources, own: OwnData, out: Path | None):
    """The interactions, items and report, as read_own gives them or as they come back from the disk."""
    if out is None:
        raw = read_own(sources, own, None, RULES, lambda line: None)
        tables, report, values = raw.tables, {**vars(raw.dropped), **raw.report}, raw.rating_values
        interactions, users, items = tables.interactions, tables.user_ids, tables.items
    else:
        made = prepare(sources, out, own=own, min_ratings=1)
        loaded = load_dataset(out)
        if loaded.info != made.info:
            raise WrongError("another dataset on the disk")
        interactions, users, items = loaded.interactions, loaded.user_ids, loaded.items
        report, values = loaded.info.report, loaded.rating_values
    item_ids = items["item_id"].to_list()
    found = {}
    for user, (start, end) in enumerate(
        zip(interactions.offsets[:-1], interactions.offsets[1:], strict=True)
    ):
        for row in range(start, end):
            item = item_ids[interactions.item_index[row]]
            found[users[user], item] = (
                values[interactions.rating_index[row]],
                int(interactions.timestamp[row]),
            )
    if len(found) != len(interactions):
        raise WrongError("an item stands twice in a history")
    rows = items.select("item_id", "title", "year", "categories", "description").rows()
    texts = {item_id: (title, year, tuple(sorted(names)), said) for item_id, title, year, names, said in rows}
    if len(texts) != len(rows):
        raise WrongError("an item stands twice in the catalogue")
    return found, texts, report


def _check_refusal(message: str, told: Told, files, skip: bool) -> str:
    named = re.search(
        r"(" + "|".join(re.escape(str(one.path)) for one in files) + r")(?::(\d+))?(?=[:\s;,]|$)", message
    )
    faults = [*told.broken, *([] if skip else told.faults)]
    skippable = [fault for fault in told.faults if fault.what in BAD_LINES]
    if named is None:
        raise WrongError(f"refused without a file: {message}")
    if "\n" in message:
        raise WrongError(f"refused in several lines: {message!r}")
    if not faults and not skippable and not told.doubts:
        raise WrongError(f"refused though all is well: {message}")
    if told.doubts:
        return f"doubt: {told.doubts[0]}"
    at_fault: list[Fault] = [
        fault for fault in [*faults, *skippable] if fault.path is None or str(fault.path) == named[1]
    ]
    if not at_fault:
        raise WrongError(f"refused for the wrong file: {message}; at fault: {faults}")
    lined = [fault for fault in at_fault if fault.first is not None]
    if named[2] is None:
        if len(lined) == len(at_fault) and not any("columns" in one.what for one in at_fault):
            raise WrongError(f"refused without the line: {message}; at fault: {at_fault}")
    elif told.lines_are_certain and not any(one.first <= int(named[2]) <= one.last for one in lined):
        raise WrongError(f"refused for the wrong line: {message}; at fault: {at_fault}")
    return f"refused: {at_fault[0].what}"


def _check_read(found, told: Told, own: OwnData, world: World) -> None:
    interactions, items, report = found
    timed = world.columns.time is not None
    if told.broken or (told.faults and not own.skip_bad_rows):
        raise WrongError(
            f"read in spite of {' and '.join(sorted({one.what for one in [*told.broken, *told.faults]}))}"
        )
    _same("interactions", set(told.interactions), set(interactions))
    for key, (value, seconds) in told.interactions.items():
        if own.feedback != "implicit" and interactions[key][0] != value:
            raise WrongError(f"the rating of {key} is {interactions[key][0]}, not {value}")
        if own.feedback == "implicit" and told.counts and interactions[key][0] != _level(value):
            raise WrongError(
                f"the weight of {key} is {interactions[key][0]}, not {_level(value)} for {value}"
            )
        if timed and abs(interactions[key][1] - seconds) >= 1:
            raise WrongError(f"the time of {key} is {interactions[key][1]}, not {float(seconds)}")
    if not timed and _in_order(told.interactions) != _in_order(interactions):
        raise WrongError("another order than the files'")
    if own.feedback == "implicit" and not told.counts:
        _check_levels({key: value for key, (value, _) in told.interactions.items()}, interactions)
    _same("items", told.items, items)
    blank = {
        "bad_rows": told.blank_rows,
        "items_without_id": told.blank_items,
        "duplicate_items": told.told_again,
    }
    for name in (*COUNTED, "bad_rows", "duplicate_items", "items_without_id"):
        if not 0 <= report[name] - told.report[name] <= blank.get(name, 0):
            raise WrongError(f"the report's {name} is {report[name]}, not {told.report[name]}")
    left = (
        told.rows - len(interactions) - told.report["bad_rows"] - sum(told.report[name] for name in COUNTED)
    )
    if left:
        raise WrongError(f"{left} rows of {told.rows} are not accounted for")


def _in_order(interactions):
    return sorted(interactions, key=lambda key: (key[0], interactions[key][1]))


def _level(weight: float) -> float:
    return max(level for level in (1.0, 2.0, 4.0, 8.0, 16.0) if level <= weight)


def _check_levels(weights, interactions) -> None:
    """Five levels at most, in the order of the weights."""
    by_weight = sorted(weights, key=weights.get)
    for less, more in pairwise(by_weight):
        lower, upper = interactions[less][0], interactions[more][0]
        if lower > upper or (weights[less] == weights[more] and lower != upper):
            raise WrongError(f"weight {weights[less]} is level {lower}, and {weights[more]} is {upper}")


def _same(what: str, right, found) -> None:
    if right == found:
        return
    if isinstance(right, dict):
        right, found = set(right.items()), set(found.items())
    missing, more = sorted(right - found, key=repr)[:3], sorted(found - right, key=repr)[:3]
    raise WrongError(
        f"{what}: {len(right)} expected, {len(found)} found; missing {missing}, not expected {more}"
    )


def failure(world: World, folder: Path) -> str | None:
    try:
        outcome(world, folder)
    except WrongError as error:
        return str(error)
    return None


def smallest(world: World, folder: Path) -> World:
    """The world with all taken away without which it still fails in the same words (numbers aside)."""

    def kind(message: str | None) -> str | None:
        return None if message is None else re.sub(r"\(.*\)|\d+|'.*?'|/\S+", "", message)[:50]

    wanted = kind(failure(world, folder))
    shrinking = True
    while shrinking:
        shrinking = False
        for less in world.smaller():
            try:
                fails = kind(failure(less, folder)) == wanted
            except Exception:  # a world that cannot be written
                continue
            if fails:
                world, shrinking = less, True
                break
    return world


def check(seeds, folder: Path, most_files: int | None = None) -> Counter:
    """Check the worlds of some seeds; gives counts of files and outcomes."""
    counts: Counter = Counter()
    for seed in seeds:
        world = make_world(seed)
        try:
            counts[outcome(world, folder)] += 1
        except WrongError as error:
            less = smallest(world, folder)
            pytest.fail(f"{error}\nthe smallest: {failure(less, folder)}\n{less.shown()}", pytrace=False)
        counts["files"] += world.files
        counts["rows"] += world.rows
        counts["worlds"] += 1
        if most_files is not None and counts["files"] >= most_files:
            break
    return counts


@pytest.fixture
def folder(tmp_path):
    """In memory where the machine has such a place."""
    shared = Path("/dev/shm")
    made = (shared if os.access(shared, os.W_OK) else tmp_path) / f"palate-{os.getpid()}"
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_some_hundred_files(folder):
    counts = check(range(150), folder)
    assert counts["files"] > 300
    assert counts["read"] > counts["worlds"] / 2


@pytest.mark.slow
def test_a_hundred_thousand_files(folder, capsys):
    most = int(os.environ.get("PALATE_DIFFERENTIAL_FILES", 100_000))
    first = int(os.environ.get("PALATE_DIFFERENTIAL_SEED", 1_000))
    with capsys.disabled():
        started = time.monotonic()
        counts = check(range(first, first + most), folder, most)
        said = ", ".join(f"{name}: {n:,}" for name, n in counts.most_common())
        sys.stdout.write(f"\n{time.monotonic() - started:.0f} s; {said}\n")
