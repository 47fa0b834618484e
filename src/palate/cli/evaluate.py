"""The ``palate evaluate`` command: scores models and references on the same examples."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell, tell_device, watched
from palate.cli.options import BackboneOption, ConstrainedOption, DeviceOption, EngineOption, WorkersOption

if TYPE_CHECKING:
    from palate.evaluation.evaluate import Evaluation
    from palate.report.sheet import Sheet
    from palate.schema import Truth


def evaluate(
    predictors: Annotated[
        list[str],
        Argument(
            metavar="RUN|REFERENCE...",
            help="Run folders, or  packaged  for the model that comes with palate; references by name: {predictors}.",
        ),
    ],
    data: Annotated[Path | None, Option(help="The dataset; the first run's own if not given.")] = None,
    split: Annotated[Literal["train", "dev", "test"], Option(help="Split of the users.")] = "test",
    window: Annotated[
        str | None,
        Option(
            metavar="N[,N...]",
            help="Window size in interactions; the recipe's if not given. With several, liked F1 is shown by size.",
        ),
    ] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None,
        Option(help="Recent or random interactions; the recipe's if not given."),
    ] = None,
    users: Annotated[
        Literal["partly", "all"],
        Option(
            help="partly: only users with more interactions than the window. all: also users whose window is the "
            "whole history, for whom the label rule is correct by definition."
        ),
    ] = "partly",
    truth: Annotated[
        str,
        Option(
            metavar="TRUTH[,TRUTH...]",
            help="Interactions from which true labels are computed: labels (the full history), unseen (outside the "
            "window) or future (after the window, which is then from the older half of each history).",
        ),
    ] = "labels",
    rule: Annotated[
        Literal["thresholds", "own-mean", "quantiles"] | None,
        Option(
            help="Label rule; the runs' or the dataset's if not given. palate inspect shows the labels of each."
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Seed of random choices.")] = 0,
    out: Annotated[
        Path | None,
        Option(
            help="New folder for scores and answers; for a single run at one window, the run's folder if not given."
        ),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    constrained: ConstrainedOption = None,
    transfer: Annotated[
        bool, Option("--transfer", help="Allow a dataset that the runs were not trained on.")
    ] = False,
    bare: Annotated[
        bool, Option("--bare", help="Omit the references and the control that are added to runs.")
    ] = False,
    controls: Annotated[
        bool,
        Option("--controls", help="Include all controls of a run, not only another user's history."),
    ] = False,
    calibration: Annotated[
        bool,
        Option(
            "--calibration",
            help="Report calibration: probabilities of models and boosting against labels; with --out, curves are "
            "written to calibration.html.",
        ),
    ] = False,
    promise: Annotated[
        float | None,
        Option(
            min=0,
            max=1,
            metavar="F1",
            help="Abstain from answers whose expected F1 is lower; reports coverage, promised F1 and reached F1.",
        ),
    ] = None,
    tests: Annotated[
        bool,
        Option(
            "--tests",
            help="Compare any two rows by a paired randomisation test over users, with Holm's correction.",
        ),
    ] = False,
    output: Annotated[
        Literal["table", "markdown", "latex"],
        Option("--format", help="Format of the printed scores."),
    ] = "table",
    as_json: Annotated[
        bool,
        Option("--json", help="Print the scores as one JSON document, and all other output to stderr."),
    ] = False,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
) -> None:
    """Score models and references on the same examples."""
    windows = _windows(window)
    from palate.evaluation.compare import Options
    from palate.evaluation.tables import sheets
    from palate.evaluation.write import WindowScores, compare_and_write, compare_windows
    from palate.system.engines import engine_beside

    truths = cast("tuple[Truth, ...]", tuple(one.strip() for one in truth.split(",")))
    options = Options(
        data=data,
        split=split,
        window=windows[0] if windows else None,
        window_kind=window_kind,
        seed=seed,
        transfer=transfer,
        bare=bare,
        backbone=backbone,
        controls=controls,
        device=device,
        users=users,
        truths=truths,
        rule=rule,
        calibration=calibration,
        promise=promise,
        constrained=constrained,
        tests=tests,
    )

    def show_scores(scores: WindowScores) -> None:
        if as_json:
            show_json(scores.as_json())
        else:
            for sheet in sheets(scores):
                _show_sheet(sheet, output)
        _tell(scores.evaluations[0])

    with engine_beside(engine, workers) as others:
        options = replace(options, engine=others)
        if len(windows) > 1 or len(truths) > 1:
            compare_windows(predictors, options, windows, out, watched(), show_scores)
        else:
            compare_and_write(predictors, options, out, show_scores, tell)


def _show_sheet(sheet: Sheet, output: str) -> None:
    if output == "table":
        show_table(sheet)
    else:
        show(sheet.latex() if output == "latex" else sheet.markdown())


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
