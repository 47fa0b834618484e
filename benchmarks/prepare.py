"""Measures ``palate prepare`` and ``load_dataset``: wall time, CPU time and peak memory, each in a new process.

python benchmarks/prepare.py                    # synthetic files in MovieLens 20M's layout and size
python benchmarks/prepare.py --own              # the same files, read as event files
python benchmarks/prepare.py path/to/ml-1m ...  # your own folders or zips
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from make_ratings import make_ratings

WORK = """
import json, resource, sys, time
from pathlib import Path
from palate.data.dataset import load_dataset
from palate.data.tabular.settings import OwnData
from palate.data.prepare import prepare
start = time.perf_counter()
if sys.argv[1] == "prepare":
    source, own = Path(sys.argv[2]), None
    if len(sys.argv) > 4:
        source, own = source / "ratings.csv", OwnData(items=str(source / "movies.csv"))
    info = prepare(source, Path(sys.argv[3]), own=own).info
else:
    info = load_dataset(sys.argv[3]).info
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
measured = {"seconds": seconds, "processor": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss / 1e6}
counts = {"ratings": info.interactions, "users": info.users, "items": info.items}
print(json.dumps({"step": sys.argv[1], **counts, **measured}))
"""


def measure(step: str, source: Path, out: Path, own: bool) -> dict[str, object]:
    """Run one step in a new process; its imports count for CPU time and memory, not for wall time."""
    command = [sys.executable, "-c", WORK, step, str(source), str(out), *(["own"] if own else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"source": source.name, **json.loads(result.stdout)}


def show(rows: list[dict[str, object]]) -> None:
    table = Table("source", "step", "ratings", "users", "items", "seconds", "processor", "peak GB")
    for row in rows:
        counts = [f"{row[name]:,}" for name in ("ratings", "users", "items")]
        measured = [f"{row[name]:.2f}" for name in ("seconds", "processor", "peak_gb")]
        table.add_row(str(row["source"]), str(row["step"]), *counts, *measured)
    Console().print(table)
    machine = {
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps({"machine": machine, "results": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, help="MovieLens folders or zips; synthetic by default"
    )
    parser.add_argument(
        "--own", action="store_true", help="read ratings.csv and movies.csv as event and item files"
    )
    parser.add_argument("--users", type=int, default=127_000)
    parser.add_argument("--items", type=int, default=8_200)
    parser.add_argument("--ratings", type=int, default=14_400_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as scratch:
        sources = arguments.sources
        if not sources:
            sources = [Path(scratch) / "generated"]
            make_ratings(sources[0], arguments.users, arguments.items, arguments.ratings, seed=0)
        rows = []
        for number, source in enumerate(sources):
            out = Path(scratch) / f"dataset-{number}"
            rows += [measure(step, source, out, arguments.own) for step in ("prepare", "load")]
        show(rows)


if __name__ == "__main__":
    main()
