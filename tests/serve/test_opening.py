"""Several processes can open a new SQLite store at the same moment."""

import multiprocessing

import pytest

from palate.serve.store.store import UserStore

PROCESSES = 8


def opening(path, barrier, results):
    barrier.wait()
    try:
        UserStore(path).close()
        results.put("opened")
    except Exception as error:
        results.put(f"{type(error).__name__}: {error}")


def open_at_once(folder, rounds):
    """What each of the processes found, in all rounds."""
    context = multiprocessing.get_context("fork")
    found = []
    for number in range(rounds):
        path = folder / f"{number}.sqlite"
        barrier, results = context.Barrier(PROCESSES), context.Queue()
        processes = [context.Process(target=opening, args=(path, barrier, results)) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        found += [results.get() for _ in processes]
        for process in processes:
            process.join()
    return found


@pytest.mark.parametrize("rounds", [3, pytest.param(130, marks=pytest.mark.slow)])
def test_a_fresh_store_is_opened_by_all_who_come_at_once(tmp_path, rounds):
    assert open_at_once(tmp_path, rounds) == ["opened"] * PROCESSES * rounds
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite"}
