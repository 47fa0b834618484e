"""``palate answers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import show, tell, watched
from palate.cli.options import DeviceOption, EngineOption, WorkersOption
from palate.words import counted


def answers(
    run: Annotated[
        Path,
        Argument(
            metavar="RUN", help="The run of a recommender, or of a language model whose encoder has a view."
        ),
    ],
    users: Annotated[
        str, Option(metavar="FILE|all", help="Users of the data: a file with an id a line, or all.")
    ],
    questions: Annotated[
        Path,
        Option(help="A question a line; in a file .jsonl also with item_ids and categories."),
    ],
    out: Annotated[Path, Option(help="The table: a new file .parquet, .csv or .jsonl.")],
    recommender: Annotated[
        Path | None,
        Option(metavar="RUN", help="A recommender's run beside a language model's, if not its own."),
    ] = None,
    data: Annotated[Path | None, Option(help="Dataset of the users; the run's own if not given.")] = None,
    k: Annotated[int, Option("-k", min=1, help="Items that an answer recommends, or says to avoid.")] = 3,
    device: DeviceOption = "cpu",
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
) -> None:
    """Write answers to questions about many users as a table; interrupted, it goes on when it is run again."""
    from palate.answers.table import AnsweringRuns, AnswerJob, read_questions, write_answers
    from palate.cli.recommend import named_users
    from palate.recommend.files import recommender_beside
    from palate.system.engines import engine_beside
    from palate.system.files import sha256_of
    from palate.system.parted import check_table
    from palate.system.places import PACKAGED
    from palate.system.progress import counting_bar

    check_table(out)
    beside, given = (None if one is None else one.resolve() for one in (recommender, data))
    place = run if str(run) == PACKAGED else run.resolve()
    loading = AnsweringRuns(place, beside, given, device)
    answerer, dataset = loading.loaded()
    names = named_users(users, dataset.user_ids)
    asked = read_questions(questions, answerer)
    for one in asked:
        tell(f"{one.text!r} is asked about {one.meaning} ({one.kind}, {one.probability:.0%} sure)")
    runs = [
        one
        for one in (run, recommender or recommender_beside(run))
        if one is not None and (one / "manifest.json").is_file()
    ]
    identity = " ".join(f"{one.resolve()} {sha256_of(one / 'manifest.json')}" for one in runs)
    job = AnswerJob(answerer, dataset, names, asked, k, identity)
    with counting_bar("asking", watched()) as progress, engine_beside(engine, workers) as others:
        rows = write_answers(job, out, progress, others, loading)
    show(f"{counted(rows, 'answer')} about {counted(len(names), 'user')} in {out}")
