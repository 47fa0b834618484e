"""Evaluations of references, cached in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from palate.errors import DataError
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.evaluate import METRICS_FILE, Evaluation, read_evaluation, write_evaluation
from palate.schema import WindowKind
from palate.system.engines import shard_engine

ReferenceKey: TypeAlias = tuple[str, int, int]
"""Name of a reference, window size, and seed of the windows."""


@dataclass(frozen=True)
class _Reference:
    """The task of evaluating a reference."""

    key: ReferenceKey
    data: Path
    kind: WindowKind
    parent: Path

    @property
    def folder(self) -> Path:
        name, window, seed = self.key
        return self.parent / f"{name}-{window}-seed{seed}"

    @property
    def done(self) -> bool:
        return (self.folder / METRICS_FILE).is_file()

    def run(self) -> tuple[ReferenceKey, Evaluation]:
        """Evaluate it, or read its evaluation."""
        name, window, seed = self.key
        options = Options(data=self.data, window=window, window_kind=self.kind, seed=seed, users="all")
        it = prepare_comparison([name], options)
        if not self.done:
            known = it.evaluate()
            write_evaluation(known, self.folder)
            return self.key, known
        known = read_evaluation(self.folder)
        if (known.fingerprint, known.setting) != (it.dataset.info.fingerprint, it.setting):
            raise DataError(
                "answers of other data or another window; name a new folder with --out", self.folder
            )
        return self.key, known


def ask_references(
    wanted: Iterable[ReferenceKey],
    data: Path,
    kind: WindowKind,
    folder: Path,
    tell: Callable[[str], None],
    jobs: int = 1,
) -> dict[ReferenceKey, Evaluation]:
    """Evaluate references by name, window size and seed, in ``jobs`` processes; results in ``folder`` are reused.

    Raises :class:`DataError` for damaged answers and for those of other data.
    """
    tasks = [_Reference(key, data, kind, folder) for key in dict.fromkeys(wanted)]
    known = [task for task in tasks if task.done]
    found = dict(task.run() for task in known)
    with shard_engine("local", jobs) as engine:
        for (name, window, seed), one in engine.run([task for task in tasks if task not in known]):
            tell(f"{name}, {window} items, seed {seed}: F1 {one.predictors[0].scores.liked.f1.value:.3f}")
            found[name, window, seed] = one
    return {task.key: found[task.key] for task in tasks}
