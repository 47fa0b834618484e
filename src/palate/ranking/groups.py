"""Groups of cases: by length of the history, and by age and popularity of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.schema import Bools, Doubles, Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.data.protocols import RankingCases

_LENGTHS = (1, 5, 10, 20, 50)
_EVENTS = (0, 1, 5, 20, 100)
_DAYS = (0, 30, 180, 365)
_DAY = 86_400


@dataclass(frozen=True, eq=False)
class CaseGroups:
    """Groups of B cases by kind and name; a case is in at most one group of each kind."""

    members: dict[str, dict[str, Bools]]  # kind -> name -> [B]

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Numbers of cases, by kind and name."""
        return {
            kind: {name: int(of.sum()) for name, of in named.items()} for kind, named in self.members.items()
        }

    def means(self, values: Doubles) -> dict[str, dict[str, float]]:
        """Average values [B], by kind and name."""
        return {
            kind: {name: float(values[of].mean()) for name, of in named.items()}
            for kind, named in self.members.items()
        }


def case_groups(training: Dataset, cases: RankingCases) -> CaseGroups:
    """Group cases by length of the history, and by training interactions and age of the first target.

    Args:
        training: Dataset with the training interactions alone.
        cases: Cases to group.

    Returns:
        The non-empty groups; those by age only if the data has times.
    """
    events, target = training.interactions, cases.targets[:, 0]
    counts = np.bincount(events.item_index, minlength=len(training.items))
    groups = {
        "history": _binned(cases.windows.length, _LENGTHS, ""),
        "target's training events": _binned(counts[target], _EVENTS, ""),
    }
    if training.info.has_times:
        first = np.full(len(training.items), np.iinfo(np.int64).max)
        np.minimum.at(first, events.item_index, events.timestamp)
        age = np.maximum(cases.target_time - first[target], 0) // _DAY
        known = counts[target] > 0
        aged = _binned(np.where(known, age, -1), _DAYS, " days")
        groups["target's age"] = {"never seen": ~known, **aged} if (~known).any() else aged
    return CaseGroups(groups)


def _binned(values: Ints, edges: tuple[int, ...], unit: str) -> dict[str, Bools]:
    """Bin values [B] at edges; values below the first edge are in no bin."""
    found = {}
    for low, high in zip(edges, (*edges[1:], None), strict=True):
        inside = (values >= low) & (True if high is None else values < high)
        if high is None:
            name = f"{low}+"
        elif high == low + 1:
            name = f"{low}"
        else:
            name = f"{low}–{high - 1}"
        if inside.any():
            found[name + unit] = inside
    return found
