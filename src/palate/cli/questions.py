"""The ``palate questions`` command: scores a model's answers to several kinds of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from palate.cli.console import show_table, tell, tell_device, watched
from palate.cli.options import BackboneOption, DeviceOption, RunArgument
from palate.errors import OutputError


def questions(
    run: RunArgument,
    kind: Annotated[
        list[str] | None,
        Option(
            help="Kind of question: preference, liked, disliked, yes-no, pair, rating, item-yes-no or item-pair; may "
            "be repeated. All kinds that the model was trained on if not given."
        ),
    ] = None,
    data: Annotated[Path | None, Option(help="The dataset; the run's own if not given.")] = None,
    split: Annotated[Literal["train", "dev", "test"], Option(help="Split of the users.")] = "test",
    window: Annotated[
        int | None, Option(min=1, help="Window size in interactions; the recipe's if not given.")
    ] = None,
    users: Annotated[int | None, Option(min=2, help="Maximum number of users.")] = None,
    seed: Annotated[int, Option(min=0, help="Seed of random choices.")] = 0,
    recommender: Annotated[
        Path | None,
        Option(
            metavar="RUN",
            help="Run of a recommender that predicts the ratings of the items asked about; their mean ratings with "
            "the user's offset if not given.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        Option(
            "--quick",
            help="Ask only one trained and one held-out wording of each kind, and leave out the control with another "
            "user's history.",
        ),
    ] = False,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        Option(
            help="File for the scores; RUN/questions.json if not given, or no file for packaged and hub names."
        ),
    ] = None,
) -> None:
    """Score a model on several kinds of questions, in wordings that it was trained on and in held-out ones."""
    from palate.evaluation.questions import QUESTIONS_FILE, questions_of_run, write_questions
    from palate.evaluation.tables import question_sheet
    from palate.runs.run import run_elsewhere, run_folder
    from palate.system.files import check_writable
    from palate.system.progress import counting_bar

    folder = run_folder(run)
    beside = None if recommender is None else run_elsewhere(recommender)
    file = out
    if out is None and not folder.keeps:
        tell(f"the scores will be shown but not saved, as {run} has no run folder; give a file with --out")
    else:
        file = out or folder.path / QUESTIONS_FILE
        try:
            check_writable(file.parent)
        except OutputError as error:
            if out is not None:
                raise
            tell(f"{error}; the scores will be shown but not saved, unless --out names a file")
    with counting_bar("asking", watched()) as progress:
        evaluation = questions_of_run(
            run, kind, data, split, window, users, seed, progress, backbone, device, beside, quick
        )
    tell_device(evaluation.device)
    show_table(question_sheet(evaluation))
    if file is not None:
        write_questions(evaluation, file)
