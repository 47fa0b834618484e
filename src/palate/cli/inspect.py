"""The ``palate inspect`` command: shows the content of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import columns, show_table, tell


def inspect(
    data: Annotated[Path, Argument(help="Dataset folder, as written by palate prepare.")],
    html: Annotated[Path | None, Option(metavar="FILE", help="File for an HTML page too.")] = None,
    examples: Annotated[int, Option(min=0, help="Number of example users and items.")] = 3,
) -> None:
    """Show the content of a dataset: counts, distributions and examples."""
    from palate.data.dataset import load_dataset
    from palate.inspection.inspect import inspect as run
    from palate.inspection.view import tables, write_dataset_page
    from palate.system.files import check_writable

    if html is not None:
        check_writable(html.parent)
    inspection = run(load_dataset(data), examples)
    for table in tables(inspection, columns()):
        show_table(table)
    if html is not None:
        write_dataset_page(inspection, html)
        tell(f"written: {html}")
