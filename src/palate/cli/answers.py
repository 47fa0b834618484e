"""The ``palate answers`` command: writes answers to questions about many users as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import DeviceOption, EngineOption, WorkersOption, WriterOption
from palate.words import counted


def answers(
    run: Annotated[
        Path,
        Argument(
            metavar="RUN",
            help="Run of a recommender, or of a language model whose user encoder predicts categories.",
        ),
    ],
    users: Annotated[
        str, Option(metavar="FILE|all", help="Users of the data: a file with one id per line, or all.")
    ],
    questions: Annotated[
        Path,
        Option(
            help="File with one question per line; as .jsonl, one object per line that may have item_ids and "
            "categories."
        ),
    ],
    out: Annotated[Path, Option(help="New file for the table, .parquet, .csv or .jsonl.")],
    recommender: Annotated[
        Path | None,
        Option(
            metavar="RUN",
            help="Run of a recommender to use with a language model; the one trained with it if not given.",
        ),
    ] = None,
    data: Annotated[Path | None, Option(help="Dataset of the users; the run's own if not given.")] = None,
    k: Annotated[
        int, Option("-k", min=1, help="Number of items that an answer recommends or advises against.")
    ] = 3,
    writer: WriterOption = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
) -> None:
    """Write answers to questions about many users as a table; run it again to resume an interrupted job."""
    from palate.answers.table import AnsweringRuns, AnswerJob, read_questions, write_answers
    from palate.cli.recommend import named_users
    from palate.recommend.files import recommender_beside
    from palate.runs.run import run_elsewhere, run_folder
    from palate.system.engines import engine_beside
    from palate.system.files import sha256_of
    from palate.system.parted import check_table
    from palate.system.progress import counting_bar

    check_table(out)
    beside = None if recommender is None else run_elsewhere(recommender)
    given = None if data is None else data.resolve()
    place = run_elsewhere(run)
    loading = AnsweringRuns(place, beside, given, device, writer)
    answerer, dataset = loading.loaded()
    names = named_users(users, dataset.user_ids)
    asked = read_questions(questions, answerer)
    for one in asked:
        tell(f"{one.text!r} is understood as {one.meaning} ({one.kind}, probability {one.probability:.0%})")
    named = (run_folder(one) for one in (run, recommender or recommender_beside(run)) if one is not None)
    identity = " ".join(
        f"{one.path.resolve()} {sha256_of(one.manifest_file)}" for one in named if one.manifest_file.is_file()
    )
    if answerer.writer is not None:
        identity += f" written by {answerer.writer.identity}"
    job = AnswerJob(answerer, dataset, names, asked, k, identity)
    with counting_bar("asking", watched()) as progress, engine_beside(engine, workers) as others:
        rows = write_answers(job, out, progress, others, loading)
    show(f"{counted(rows, 'answer')} about {counted(len(names), 'user')} in {out}")
