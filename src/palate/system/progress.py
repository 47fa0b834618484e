"""Progress bars on stderr, for interactive terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def new_bar() -> Progress:
    """Create a bar with percentage, note (the task field ``note``), elapsed and remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def counting_bar(description: str, watched: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total), which draws a progress bar if ``watched``."""
    if not watched:
        yield lambda done, total: None
        return
    with new_bar() as bar:
        task = bar.add_task(description, total=None, note="")
        yield lambda done, total: bar.update(task, completed=done, total=total, note=f"{done:,} of {total:,}")
