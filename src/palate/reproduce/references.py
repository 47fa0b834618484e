"""Evaluations of references, cached in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from palate.errors import DataError
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.evaluate import METRICS_FILE, Evaluation, read_evaluation, write_evaluation
from palate.schema import WindowKind

ReferenceKey: TypeAlias = tuple[str, int, int]
"""Name of a reference, window size, and seed of the windows."""


def ask_references(
    wanted: Iterable[ReferenceKey],
    data: Path,
    kind: WindowKind,
    folder: Path,
    tell: Callable[[str], None],
) -> dict[ReferenceKey, Evaluation]:
    """Evaluate references by name, window size and seed; results in ``folder`` are reused.

    Raises :class:`DataError` for damaged answers and for those of other data.
    """
    found: dict[ReferenceKey, Evaluation] = {}
    for name, window, seed in dict.fromkeys(wanted):
        path = folder / f"{name}-{window}-seed{seed}"
        options = Options(data=data, window=window, window_kind=kind, seed=seed, users="all")
        it = prepare_comparison([name], options)
        if not (path / METRICS_FILE).is_file():
            known = it.evaluate()
            write_evaluation(known, path)
            tell(f"{name}, {window} items, seed {seed}: F1 {known.predictors[0].scores.liked.f1.value:.3f}")
        else:
            known = read_evaluation(path)
            if (known.fingerprint, known.setting) != (it.dataset.info.fingerprint, it.setting):
                raise DataError("answers of other data or another window; name a new folder with --out", path)
        found[name, window, seed] = known
    return found
