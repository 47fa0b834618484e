"""Measures the cost of one more event and of a user prompt, by the length of the history.

    python benchmarks/streaming.py [--repeats 30] [--out streaming.json]

Compares a state of the streaming encoder with the resampler and the paper's encoder, which re-encode the history at
every event. Weights and events are random; the lengths take turns, so that other load on the machine affects them
equally. Whole answers are measured in answers.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from palate.config.recipe import ResamplerSettings, StreamingSettings, UEMSettings
from palate.encoders.base import EncoderSizes
from palate.encoders.batch import EventBatch
from palate.encoders.resampler import ResamplerEncoder
from palate.encoders.streaming import StreamingEncoder
from palate.encoders.uem import UEM
from palate.system.machine import describe_machine

LENGTHS = (10, 1_000, 100_000)
ITEMS, FIELDS, VECTOR, CATEGORIES, WIDTH = 4_000, 2, 384, 18, 128
MOST_READ_AGAIN = 1_000
"""The paper's encoder has full self-attention: 100,000 items would need 40 GB per head."""

Key = TypeVar("Key")


class Events:
    """Random events over a random catalogue."""

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(0)
        self.vectors = torch.nn.functional.normalize(
            torch.randn(ITEMS, FIELDS, VECTOR, generator=self.rng), dim=-1
        )
        self.ratings = torch.randn(5, VECTOR, generator=self.rng)

    def draw(self, count: int) -> EventBatch:
        """Draw ``count`` events of one user, with their items' vectors."""
        named, item = torch.randint(ITEMS, (1, count), generator=self.rng).unique(return_inverse=True)
        return EventBatch(
            self.vectors[named],
            item,
            self.ratings,
            torch.linspace(-1, 1, 5),
            torch.randint(5, (1, count), generator=self.rng),
            torch.ones(1, count, dtype=torch.bool),
            torch.arange(count, dtype=torch.float64)[None],
        )


def milliseconds(jobs: Mapping[Key, Callable[[], object]], repeats: int) -> dict[Key, float]:
    """Return the median time of each job in milliseconds; jobs take turns."""
    times: dict[Key, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats + 2):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(taken[2:]) for name, taken in times.items()}


def by_length(what: str, times: Mapping[int, float], rows: list[dict[str, float | str]]) -> None:
    first = times[min(times)]
    for length, one in times.items():
        rows.append(
            {"what": what, "events": length, "milliseconds": round(one, 3), "ratio": round(one / first, 2)}
        )
        print(f"{what:<44} {length:>9,} {one:>10.2f} ms {one / first:>8.2f}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    events, sizes = Events(), EncoderSizes(FIELDS, VECTOR, WIDTH, CATEGORIES)
    encoder = StreamingEncoder(StreamingSettings(), sizes).eval()
    resampler = ResamplerEncoder(ResamplerSettings(), sizes).eval()
    uem = UEM(UEMSettings(num_heads=6, d_ff=1_024), sizes).eval()
    histories = {length: events.draw(length) for length in LENGTHS}
    states = {length: encoder.add(encoder.init_state(1), batch) for length, batch in histories.items()}
    one, repeats = events.draw(1), arguments.repeats
    rows: list[dict[str, float | str]] = []
    print(f"{'':<44} {'events':>9} {'time':>13} {'ratio':>8}")

    def timed(what: str, jobs: Mapping[int, Callable[[], object]], times: int = repeats) -> None:
        by_length(what, milliseconds(jobs, times), rows)

    timed(
        "streaming: one event into the state", {n: lambda s=s: encoder.add(s, one) for n, s in states.items()}
    )
    grown = {n: encoder.add(state, one) for n, state in states.items()}
    timed("streaming: one event out of it", {n: lambda s=s: encoder.remove(s, one) for n, s in grown.items()})
    timed("streaming: two states merged", {n: lambda s=s: encoder.merge(s, s) for n, s in states.items()})
    timed("streaming: the user prompt", {n: lambda s=s: encoder.prompt(s) for n, s in states.items()})
    read_again = {n: batch for n, batch in histories.items() if n <= MOST_READ_AGAIN}
    timed(
        "resampler: the user prompt after one event",
        {n: lambda b=b: resampler(b) for n, b in histories.items()},
        max(3, repeats // 6),
    )
    timed(
        "the paper's: the user prompt after one event",
        {n: lambda b=b: uem(b) for n, b in read_again.items()},
        max(3, repeats // 6),
    )

    with TemporaryDirectory() as folder:
        encoder.save_state(states[10], path := Path(folder) / "state.safetensors")
        size = path.stat().st_size
    print(f"a user's state: {size:,} bytes")
    if arguments.out:
        machine = describe_machine().model_dump(mode="json")
        found = {"machine": machine, "rows": rows, "state_bytes": size}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
