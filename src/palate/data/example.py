"""The made-up shop that comes with palate: event files to try it on, which nobody has to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate.data.tabular.settings import OwnData

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
