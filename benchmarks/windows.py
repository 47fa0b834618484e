"""Measures training windows per second on one core, recent and random, by size.

    python benchmarks/windows.py [--users 20000] [--out windows.json]

Histories are synthetic, with long-tailed lengths from 20 like MovieLens. The target: 50,000 windows of 50 per second.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from palate.data.windows import draw_windows
from palate.schema import Interactions, WindowKind
from palate.system.machine import describe_machine

SIZES = (5, 20, 50, 100, 200)
BATCH = 1024
SECONDS = 2.0
TARGET = 50_000


def made_histories(users: int, rng: np.random.Generator) -> Interactions:
    lengths = np.minimum(20 + rng.lognormal(4.0, 1.2, users).astype(np.int64), 2500)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = int(offsets[-1])
    return Interactions(
        offsets,
        rng.integers(8_000, size=rows).astype(np.int32),
        rng.integers(5, size=rows).astype(np.uint8),
        np.arange(rows),
    )


def windows_a_second(
    interactions: Interactions, size: int, kind: WindowKind, rng: np.random.Generator
) -> float:
    users = len(interactions.offsets) - 1
    drawn, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        drawn += len(draw_windows(interactions, rng.integers(users, size=BATCH), size, kind, rng))
    return drawn / spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    interactions = made_histories(arguments.users, rng)
    rows = []
    print(f"{'size':>5} {'recent/s':>12} {'random/s':>12}")
    for size in SIZES:
        recent = windows_a_second(interactions, size, "recent", rng)
        random = windows_a_second(interactions, size, "random", rng)
        rows.append({"size": size, "recent": round(recent), "random": round(random)})
        print(f"{size:>5} {recent:>12,.0f} {random:>12,.0f}")
    at_50 = next(row["random"] for row in rows if row["size"] == 50)
    print(f"random windows of 50: {at_50:,} a second, {at_50 / TARGET:.1f} times the target of {TARGET:,}")
    if arguments.out:
        machine = describe_machine().model_dump(mode="json")
        arguments.out.write_text(json.dumps({"machine": machine, "windows_a_second": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
