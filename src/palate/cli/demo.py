"""The ``palate demo`` command: preparation, training, evaluation and report on MovieLens 100K."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from palate.cli.console import show, tell, watched


def demo(
    out: Annotated[Path, Option(help="Folder of the demo's data, runs and report.")] = Path("runs/demo"),
) -> None:
    """Prepare MovieLens 100K, train two models, evaluate them, and write a report.

    Two small models, which need no model hub, are trained concurrently on one CPU thread each: four minutes on two
    cores, four and a half minutes of CPU time, with the same figures on one core.
    """
    from rich.console import Console

    from palate.demo.run import run_demo
    from palate.report.build import read_report
    from palate.report.terminal import print_report

    page = run_demo(out, report=tell, progress=watched())
    print_report(read_report(page.with_suffix(".json")), Console())
    show(str(page))
