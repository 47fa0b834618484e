"""``palate demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from palate.cli.console import show, tell, watched


def demo(
    out: Annotated[Path, Option(help="Folder of the demo's data, runs and report.")] = Path("runs/demo"),
) -> None:
    """Prepare, train, evaluate and report.

    On MovieLens 100K, with two small models that need no model hub, trained side by side on one CPU thread each:
    four minutes on two cores, four and a half minutes of processor time, with the same figures on one.
    """
    from rich.console import Console

    from palate.demo.run import run_demo
    from palate.report.build import read_report
    from palate.report.terminal import print_report

    page = run_demo(out, report=tell, progress=watched())
    print_report(read_report(page.with_suffix(".json")), Console())
    show(str(page))
