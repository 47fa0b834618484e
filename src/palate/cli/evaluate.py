"""``palate evaluate``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, BadParameter, Option

from palate.cli.console import show_table, tell, tell_device, watched
from palate.cli.options import BackboneOption, DeviceOption

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation
    from palate.evaluation.write import WindowScores


def evaluate(
    predictors: Annotated[
        list[str],
        Argument(
            metavar="RUN|REFERENCE...",
            help="Runs' folders; population, counting, rule, shrinkage or boosting.",
        ),
    ],
    data: Annotated[Path | None, Option(help="The dataset; the first run's own if not given.")] = None,
    split: Annotated[Literal["train", "dev", "test"], Option(help="Split of the users.")] = "test",
    window: Annotated[
        str | None,
        Option(
            metavar="N[,N...]",
            help="Window size in interactions; the recipe's if not given. Several give liked F1 by size.",
        ),
    ] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None,
        Option(help="Recent or random interactions; the recipe's if not given."),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed of random choices.")] = 0,
    out: Annotated[
        Path | None,
        Option(help="New folder for scores and answers; at one window, that of a single run if not given."),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    transfer: Annotated[
        bool, Option("--transfer", help="Allow data that the runs were not trained on.")
    ] = False,
    bare: Annotated[
        bool, Option("--bare", help="Omit the references and the control that are included with a run.")
    ] = False,
    controls: Annotated[
        bool,
        Option("--controls", help="Include all controls of a run, not only another user's history."),
    ] = False,
) -> None:
    """Score models and references on the same examples."""
    windows = _windows(window)
    from palate.evaluation.compare import Options
    from palate.evaluation.tables import evaluation_sheet, window_sheet
    from palate.evaluation.write import compare_and_write, compare_windows

    window_size = windows[0] if windows else None
    options = Options(data, split, window_size, window_kind, seed, transfer, bare, backbone, controls, device)
    if len(windows) > 1:

        def show_windows(scores: WindowScores) -> None:
            show_table(window_sheet(scores))
            _tell(scores.evaluations[0])

        compare_windows(predictors, options, windows, out, watched(), show_windows)
    else:

        def show(evaluation: Evaluation) -> None:
            show_table(evaluation_sheet(evaluation))
            _tell(evaluation)

        compare_and_write(predictors, options, out, show, tell)


def _tell(evaluation: Evaluation) -> None:
    tell_device(evaluation.device)
    for warning in evaluation.warnings:
        tell(f"warning: {warning}")


def _windows(text: str | None) -> list[int]:
    if text is None:
        return []
    parts = text.split(",")
    windows = {int(part): None for part in parts if re.fullmatch(" *[1-9][0-9]*", part)}
    if len(windows) < len(parts):
        raise BadParameter(
            f"{text!r}, expected a number of interactions like 50, or different ones like 5,20,50",
            param_hint="'--window'",
        )
    return list(windows)
