"""Runs a comparison at one or several window sizes and writes its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from palate.config import registry
from palate.errors import OutputError
from palate.evaluation.compare import Options, find_run, prepare_comparison
from palate.evaluation.evaluate import Evaluation, write_evaluation
from palate.evaluation.tables import window_sheet
from palate.system.files import check_writable, fresh_folder, write_text
from palate.system.progress import counting_bar


def compare_and_write(
    entries: Sequence[str],
    options: Options,
    out: Path | None = None,
    show: Callable[[Evaluation], None] = lambda evaluation: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Run a comparison and write scores and answers to a new folder, or to that of a single run.

    Args:
        entries: Runs by folder and references by name.
        options: Options of the comparison.
        out: The new folder.
        show: Called with the scores before they are written, so that a write error does not hide them.
        tell: Called early if a run's folder is not writable, in which case the scores are only shown.

    Returns:
        The scores.

    Raises:
        OutputError: Before the evaluation if ``out`` is not free; after it if the results cannot be written.
        PalateError: The errors of :func:`prepare_comparison`.
    """
    if out is not None:
        with fresh_folder(out) as folder:
            evaluation = prepare_comparison(entries, options).evaluate()
            show(evaluation)
            write_evaluation(evaluation, folder)
        return evaluation
    runs = [entry for entry in entries if entry not in registry.predictors]
    single = Path(find_run(runs[0]).path) if len(runs) == 1 else None
    if single is not None:
        try:
            check_writable(single)
        except OutputError as error:
            tell(f"{error}; the scores will be shown and not kept, unless --out names a folder")
    evaluation = prepare_comparison(entries, options).evaluate()
    show(evaluation)
    if single is not None:
        write_evaluation(evaluation, single)
    return evaluation


@dataclass(frozen=True)
class WindowScores:
    """Evaluations, one per window size, in the requested order."""

    evaluations: list[Evaluation]
    seeds: dict[str, list[str]]
    """Names of predictors that differ only in the seed of their training, by the name of the group."""


def compare_windows(
    entries: Sequence[str],
    options: Options,
    windows: Sequence[int],
    out: Path | None = None,
    progress: bool = False,
    show: Callable[[WindowScores], None] = lambda scores: None,
) -> WindowScores:
    """Run a comparison at several window sizes; each gives the results of a single evaluation.

    ``out`` is a new folder for ``windows.md`` and one folder per window size, such as ``window-50``, created
    atomically; ``show`` is called with the scores before. Raises the errors of :func:`compare_and_write`.
    """
    place = nullcontext() if out is None else fresh_folder(out)
    with place as folder:
        first = prepare_comparison(entries, replace(options, window=windows[0]))
        evaluations: list[Evaluation] = []
        with counting_bar("scoring windows", progress) as scored:
            scored(0, len(windows))
            for window in windows:
                evaluations.append(first.at_window(window).evaluate())
                scored(len(evaluations), len(windows))
        scores = WindowScores(evaluations, first.seeds)
        show(scores)
        if folder is not None:
            for evaluation in evaluations:
                write_evaluation(evaluation, folder / f"window-{evaluation.setting.window}")
            write_text(folder / "windows.md", window_sheet(scores).markdown())
    return scores
