"""Scores by the window's length: the same predictors on the examples of several windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.evaluate import Evaluation, write_evaluation
from palate.evaluation.tables import window_markdown
from palate.system.files import fresh_folder, write_text
from palate.system.progress import counting_bar


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
    ``show`` is given the scores before that. Raises what :func:`palate.evaluation.compare.compare_and_write` raises.
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
