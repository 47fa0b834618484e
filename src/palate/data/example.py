"""The bundled example: event and item files of a made-up shop, for trying palate without a download."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from palate.data.tabular.settings import OwnData
from palate.system.files import telling_failed_writes

EXAMPLE = "example"
"""Name of the example, accepted wherever event files are given."""
LICENCE = "palate's own; nobody's real ratings"
_SHOP = Path(__file__).with_name("shop")


def is_example(sources: Sequence[str | Path]) -> bool:
    """Return whether the sources name the example; an existing file or folder of that name takes precedence."""
    return len(sources) == 1 and str(sources[0]) == EXAMPLE and not Path(EXAMPLE).exists()


def example_files(own: OwnData | None) -> tuple[list[Path], OwnData]:
    """Return the example's event file, and the settings with its item file."""
    return [_SHOP / "events.csv"], (own or OwnData()).model_copy(update={"items": str(_SHOP / "items.csv")})


def write_example(folder: str | Path) -> Path:
    """Copy the example's ``events.csv`` and ``items.csv`` into a folder.

    Args:
        folder: The folder; created if it does not exist.

    Returns:
        The folder.

    Raises:
        OutputError: The folder cannot be written.
    """
    target = Path(folder)
    with telling_failed_writes(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in (_SHOP / "events.csv", _SHOP / "items.csv"):
            shutil.copyfile(path, target / path.name)
    return target
