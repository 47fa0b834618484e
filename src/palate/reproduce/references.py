"""Evaluations of references, cached in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from palate.errors import DataError
from palate.evaluation.compare import Comparison, Options, prepare_comparison
from palate.evaluation.evaluate import METRICS_FILE, Evaluation, read_evaluation, write_evaluation
from palate.schema import WindowKind
from palate.system.engines import shard_engine

ReferenceKey: TypeAlias = tuple[str, int, int]
"""Name of a reference, window size, and seed of the windows."""


@dataclass(frozen=True)
class _Reference:
    """The task of evaluating a reference at one window size, which is fitted once for all seeds."""

    name: str
    window: int
    seeds: tuple[int, ...]
    data: Path
    kind: WindowKind
    parent: Path

    @property
    def done(self) -> bool:
        return all((self._folder(seed) / METRICS_FILE).is_file() for seed in self.seeds)

    def run(self) -> list[tuple[ReferenceKey, Evaluation]]:
        """Evaluate it for each seed, or read its evaluations."""
        options = Options(
            data=self.data, window=self.window, window_kind=self.kind, seed=self.seeds[0], users="all"
        )
        prepared = prepare_comparison([self.name], options)
        return [
            (
                (self.name, self.window, seed),
                self._evaluate(prepared.at_window(self.window, seed), self._folder(seed)),
            )
            for seed in self.seeds
        ]

    def _evaluate(self, comparison: Comparison, folder: Path) -> Evaluation:
        if not (folder / METRICS_FILE).is_file():
            known = comparison.evaluate()
            write_evaluation(known, folder)
            return known
        known = read_evaluation(folder)
        if (known.fingerprint, known.setting) != (comparison.dataset.info.fingerprint, comparison.setting):
            raise DataError("answers of other data or another window; name a new folder with --out", folder)
        return known

    def _folder(self, seed: int) -> Path:
        return self.parent / f"{self.name}-{self.window}-seed{seed}"


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
    keys = list(dict.fromkeys(wanted))
    seeds: dict[tuple[str, int], list[int]] = {}
    for name, window, seed in keys:
        seeds.setdefault((name, window), []).append(seed)
    tasks = [
        _Reference(name, window, tuple(several), data, kind, folder)
        for (name, window), several in seeds.items()
    ]
    known = [task for task in tasks if task.done]
    found = {key: one for task in known for key, one in task.run()}
    with shard_engine("local", jobs) as engine:
        for evaluated in engine.run([task for task in tasks if task not in known]):
            for (name, window, seed), one in evaluated:
                tell(f"{name}, {window} items, seed {seed}: F1 {one.predictors[0].scores.liked.f1.value:.3f}")
                found[name, window, seed] = one
    return {key: found[key] for key in keys}
