"""Comparisons that are shown and written: at one window, or at several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from palate.config import registry
from palate.errors import OutputError
from palate.evaluation.compare import Options, find_run, prepare_comparison
from palate.evaluation.evaluate import Evaluation, write_evaluation
from palate.evaluation.tables import window_markdown
from palate.system.files import check_writable, fresh_folder, write_text
from palate.system.progress import counting_bar


def compare_and_write(
    entries: Sequence[str],
    options: Options,
    out: Path | None = None,
    show: Callable[[Evaluation], None] = lambda evaluation: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate what ``entries`` name, and write scores and answers to a new folder, or to that of a single run.

    Args:
        entries: Runs by folder and references by name.
        options: What is asked.
        out: The new folder.
        show: Is given the scores before they are written, so that they are seen whatever becomes of the files.
        tell: Hears at once when a run's folder cannot be written, which need not keep anyone from asking it.

    Raises:
        OutputError: Before the work when ``out`` is not free or cannot be made; after it when nothing can be written.
        PalateError: What :func:`prepare_comparison` raises.
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
    """One evaluation a window, in the order asked for."""

    evaluations: list[Evaluation]
    seeds: dict[str, list[str]]
    """The predictors that differ in nothing but their training's seed, by what they are called together."""


def compare_windows(
    entries: Sequence[str],
    options: Options,
    windows: Sequence[int],
    out: Path | None = None,
    progress: bool = False,
    show: Callable[[WindowScores], None] = lambda scores: None,
) -> WindowScores:
    """Evaluate what ``entries`` name at every window; the numbers are those of one evaluation each.

    With ``out``, a new folder gets ``windows.md`` and one folder a window, like ``window-50``, all or nothing;
    ``show`` is given the scores before that. Raises what :func:`compare_and_write` raises.
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
            write_text(folder / "windows.md", window_markdown(scores))
    return scores
