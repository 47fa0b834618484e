"""Runs comparisons at one or several window sizes, and writes the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from palate.config import registry
from palate.errors import OutputError
from palate.evaluation.compare import Entry, Options, find_run, prepare_comparison
from palate.evaluation.evaluate import Evaluation, write_evaluation
from palate.evaluation.reliability import RELIABILITY_FILE, write_reliability
from palate.evaluation.significance import tested_pairs
from palate.evaluation.tables import sheets
from palate.schema import Truth
from palate.system.files import check_writable, fresh_folder, write_text
from palate.system.progress import counting_bar


def compare_and_write(
    entries: Sequence[str],
    options: Options,
    out: Path | None = None,
    show: Callable[[WindowScores], None] = lambda scores: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Run a comparison and write scores and answers, to a new folder or to that of a single run.

    Args:
        entries: Runs by folder, and references by name.
        options: Options of the comparison.
        out: New folder for the results; by default the folder of the only run.
        show: Called with the scores before they are written, so that a write error does not hide them.
        tell: Called at the start if a run's folder is not writable; the scores are then only shown.

    Returns:
        The evaluation.

    Raises:
        OutputError: ``out`` already exists (checked before the evaluation), or the results cannot be written.
        PalateError: As :func:`prepare_comparison` raises it.
    """
    if out is not None:
        with fresh_folder(out) as folder:
            evaluation = _scored(entries, options, show)
            _write([evaluation], [folder], folder)
        return evaluation
    runs = [entry for entry in entries if entry not in registry.predictors]
    run = find_run(runs[0]) if len(runs) == 1 else None
    single = None if run is None or not run.keeps else run.path
    if single is not None:
        try:
            check_writable(single)
        except OutputError as error:
            tell(f"{error}; the scores will be shown but not saved, unless --out names a folder")
    evaluation = _scored(entries, options, show)
    if single is not None:
        _write([evaluation], [single], single)
    return evaluation


def _scored(entries: Sequence[str], options: Options, show: Callable[[WindowScores], None]) -> Evaluation:
    """Score at one window size, and show the result."""
    scores = score_windows(entries, options)
    show(scores)
    return scores.evaluations[0]


def _write(evaluations: Sequence[Evaluation], folders: Sequence[Path], together: Path) -> None:
    """Write each evaluation to its folder, and reliability curves to a common one."""
    for evaluation, folder in zip(evaluations, folders, strict=True):
        write_evaluation(evaluation, folder)
    if any(one.calibration is not None for evaluation in evaluations for one in evaluation.predictors):
        write_reliability(evaluations, together / RELIABILITY_FILE)


@dataclass(frozen=True)
class WindowScores:
    """Evaluations at several window sizes or with several truths."""

    evaluations: list[Evaluation]
    """One evaluation per truth and window size, in the requested order, grouped by truth."""
    seeds: dict[str, list[str]]
    """Groups of predictors that differ only in the training seed: member names by group name."""
    label_names: tuple[str, ...] = ()
    tests: bool = False
    """Whether all pairs of predictors are compared by tests."""

    @property
    def truths(self) -> dict[Truth, list[Evaluation]]:
        """The evaluations by truth."""
        found: dict[Truth, list[Evaluation]] = {}
        for one in self.evaluations:
            found.setdefault(one.setting.truth, []).append(one)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all scores as one JSON document: the contents of ``metrics.json`` per truth and window size."""
        scores = {
            "format": 1,
            "seeds": self.seeds,
            "evaluations": [one.model_dump(mode="json") for one in self.evaluations],
        }
        if self.tests:
            scores["tests"] = [
                [{"first": one, "second": other, **asdict(found)} for (one, other), found in pairs.items()]
                for pairs in (tested_pairs(at, self.seeds, self.label_names) for at in self.evaluations)
            ]
        return scores


def score_windows(
    entries: Sequence[Entry],
    options: Options,
    windows: Sequence[int] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WindowScores:
    """Run a comparison at several window sizes, by default the options', and with all truths of the options.

    All errors of :func:`prepare_comparison` are raised before anything is scored.
    """
    at = prepare_comparison(
        entries, replace(options, window=windows[0] if windows else options.window), windows
    )
    several = list(product(options.truths, windows or [at.setting.window]))
    evaluations: list[Evaluation] = []
    progress(0, len(several))
    for truth, window in several:
        at = at.at_window(window, truth=truth)
        evaluations.append(at.evaluate())
        progress(len(evaluations), len(several))
    return WindowScores(evaluations, at.seeds, at.task.label_names, options.tests)


def compare_windows(
    entries: Sequence[str],
    options: Options,
    windows: Sequence[int] = (),
    out: Path | None = None,
    progress: bool = False,
    show: Callable[[WindowScores], None] = lambda scores: None,
) -> WindowScores:
    """Run :func:`score_windows` and write its results, each as :func:`compare_and_write` would.

    ``out`` is a new folder for ``windows.md`` and one folder per window size (``window-50``), or per window size and
    truth if there are several (``window-50-unseen``); it is created atomically. ``show`` is called with the scores
    before they are written. Raises as :func:`compare_and_write` does.
    """
    place = nullcontext() if out is None else fresh_folder(out)
    with place as folder:
        with counting_bar("scoring windows", progress) as scored:
            scores = score_windows(entries, options, windows, scored)
        show(scores)
        if folder is not None:
            names = [
                f"window-{at.window}{f'-{at.truth}' if len(options.truths) > 1 else ''}"
                for at in (one.setting for one in scores.evaluations)
            ]
            _write(scores.evaluations, [folder / name for name in names], folder)
            write_text(folder / "windows.md", "\n".join(sheet.markdown() for sheet in sheets(scores)))
    return scores
