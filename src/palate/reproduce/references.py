"""Scores of references, computed once and cached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from palate.errors import DataError
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.evaluate import PredictorScores, Setting
from palate.reproduce.history_scores import HistoryScore, scores_by_history
from palate.schema import WindowKind
from palate.system.files import write_text
from palate.system.records import Frozen, read_record


class ReferenceResult(Frozen):
    """Contents of ``NAME-WINDOW.json`` of a reference."""

    format: int = 1
    data_fingerprint: str
    setting: Setting
    scores: PredictorScores
    by_history: tuple[HistoryScore, ...]


def ask_references(
    wanted: Iterable[tuple[str, int]],
    data: Path,
    kind: WindowKind,
    folder: Path,
    tell: Callable[[str], None],
) -> dict[tuple[str, int], ReferenceResult]:
    """Score references by name and window size; results in ``folder`` are reused.

    Raises :class:`DataError` for a damaged result and for one of other data.
    """
    found: dict[tuple[str, int], ReferenceResult] = {}
    for name, window in dict.fromkeys(wanted):
        path = folder / f"{name}-{window}.json"
        it = prepare_comparison([name], Options(data=data, window=window, window_kind=kind, users="all"))
        known = _read(path)
        if known is None:
            evaluation = it.evaluate()
            known = ReferenceResult(
                data_fingerprint=it.dataset.info.fingerprint,
                setting=evaluation.setting,
                scores=evaluation.predictors[0],
                by_history=scores_by_history(
                    [one.answer for one in evaluation.predictions], it.examples, it.task, it.dataset
                ),
            )
            write_text(path, known.model_dump_json(indent=2) + "\n")
            tell(f"{name}, {window} items: F1 {known.scores.scores.liked.f1.value:.3f}")
        elif (known.data_fingerprint, known.setting) != (it.dataset.info.fingerprint, it.setting):
            raise DataError("a result of other data or another window; name a new folder with --out", path)
        found[name, window] = known
    return found


def _read(path: Path) -> ReferenceResult | None:
    if not path.is_file():
        return None
    again = "remove it, and the reference is asked again"
    return read_record(ReferenceResult, path, "the file is missing", again)
