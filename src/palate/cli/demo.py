"""``palate demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from palate.cli.console import show


def demo(
    out: Annotated[Path, Option(help="Folder of the demo's run and report.")] = Path("runs/demo"),
) -> None:
    """Prepare, train, evaluate and report.

    On MovieLens 100K, with a small model that needs no model hub.
    """
    from palate.demo import run_demo

    show(str(run_demo(out)))
