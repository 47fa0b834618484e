"""The made-up shop that comes with palate: event files to try it on, which nobody has to fetch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from palate.data.tabular.settings import OwnData
from palate.system.files import telling_failed_writes

EXAMPLE = "example"
"""What the shop is called wherever event files are named."""
LICENCE = "palate's own; nobody's real ratings"
_SHOP = Path(__file__).with_name("shop")


def is_example(sources: Sequence[str | Path]) -> bool:
    """Return whether the shop is meant; a file or folder of that name goes before it."""
    return len(sources) == 1 and str(sources[0]) == EXAMPLE and not Path(EXAMPLE).exists()


def example_files(own: OwnData | None) -> tuple[list[Path], OwnData]:
    """Find the shop's event file, and the settings with its item file."""
    return [_SHOP / "events.csv"], (own or OwnData()).model_copy(update={"items": str(_SHOP / "items.csv")})


def write_example(folder: str | Path) -> Path:
    """Copy the shop's ``events.csv`` and ``items.csv`` into a folder, to look at and to try things on.

    Args:
        folder: The folder; made if it does not exist.

    Returns:
        The folder.

    Raises:
        OutputError: It cannot be written.
    """
    target = Path(folder)
    with telling_failed_writes(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in (_SHOP / "events.csv", _SHOP / "items.csv"):
            shutil.copyfile(path, target / path.name)
    return target
