"""Reliability curves as a self-contained HTML page: observed frequency by predicted probability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from palate.evaluation.tables import calibration_sheet
from palate.report.build import render_page
from palate.report.pictures import HALF, NARROW, Chart, Picture, Series, draw
from palate.system.files import write_text

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation

RELIABILITY_FILE = "calibration.html"
_TONES = 5
"""Number of line styles in the style sheet."""


@dataclass(frozen=True)
class ReliabilityCurves:
    """Curves of one evaluation and half, drawn wide and narrow."""

    caption: str
    pictures: Sequence[Picture]


def write_reliability(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Write the page for all evaluations whose predictors have calibrations."""
    page = render_page(
        "calibration.html",
        title=f"{evaluations[0].dataset}: calibration",
        sheet=calibration_sheet(evaluations),
        curves=list(reliability_curves(evaluations)),
    )
    write_text(path, page)


def reliability_curves(evaluations: Sequence[Evaluation]) -> Iterator[ReliabilityCurves]:
    """Draw the curves of each evaluation and half; predictors without calibration are skipped."""
    for evaluation in evaluations:
        for half in ("liked", "disliked"):
            if series := list(_series(evaluation, half)):
                chart = Chart(f"Share that is {half}", "predicted probability", [_diagonal(series), *series])
                setting = evaluation.setting
                caption = f"{half.capitalize()}, {setting.window:,} interactions, truth: {setting.truth}"
                yield ReliabilityCurves(caption, [draw(chart, cut) for cut in (HALF, NARROW)])


def _series(evaluation: Evaluation, half: Literal["liked", "disliked"] | str) -> Iterator[Series]:
    for number, one in enumerate(found for found in evaluation.predictors if found.calibration is not None):
        bins = getattr(one.calibration, half).bins
        x, y = [at.predicted for at in bins], [at.observed for at in bins]
        yield Series(one.name, f"model-{number % _TONES + 1}", x, y)


def _diagonal(series: Sequence[Series]) -> Series:
    most = max(value for one in series for value in one.x)
    return Series("perfect", "rule", [0.0, most], [0.0, most], dots=False)
