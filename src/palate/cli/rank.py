"""``palate rank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from palate.cli.console import show_json, show_table, tell


def rank(
    rankers: Annotated[
        list[str],
        Argument(
            metavar="RUN|RANKER...",
            help="Rankers by name, with settings, as in item-knn:decay=0.8, or tuned on dev without: {rankers}. Or "
            "folders of recommenders' runs, which were trained with --set data.protocol=PROTOCOL.",
        ),
    ],
    data: Annotated[Path, Option(help="The dataset: a folder that palate prepare wrote.")],
    protocol: Annotated[
        Literal["leave-last-out", "future", "new-users", "cold-items"],
        Option(
            help="What is held out: each user's last interaction, the newest tenth of all time, the last "
            "interaction of users of whom nothing is learned, or interactions with a tenth of the items, drawn by the "
            "seed, of which nothing is learned."
        ),
    ] = "leave-last-out",
    candidates: Annotated[
        str,
        Option(
            metavar="all|N|FILE",
            help="Items to rank: all, a number of drawn ones beside the targets, or a file with a user and items on "
            "each line.",
        ),
    ] = "all",
    trials: Annotated[int, Option(min=1, help="How many settings of each ranker are tried on dev.")] = 4,
    versus: Annotated[
        str | None,
        Option(metavar="NAME", help="Ranker to compare the others with; the best other one if not given."),
    ] = None,
    keep_seen: Annotated[
        bool, Option("--keep-seen", help="Rank items of the history, too, as for repeated purchases.")
    ] = False,
    seed: Annotated[int, Option(min=0, help="Seed of cold items, drawn candidates and intervals.")] = 0,
    seeds: Annotated[
        int,
        Option(
            min=1,
            help="How often a ranker with a setting seed is trained with its best settings; scores are means, and "
            "intervals over users and seeds.",
        ),
    ] = 1,
    as_json: Annotated[
        bool, Option("--json", help="Print the scores as one JSON document, all else to stderr.")
    ] = False,
) -> None:
    """Rank the items that users chose next, by references and models."""
    from palate.ranking.compare import rank as run
    from palate.ranking.tables import ranking_sheets

    table = run(
        rankers,
        data,
        protocol=protocol,
        candidates=candidates,
        trials=trials,
        seed=seed,
        seeds=seeds,
        keep_seen=keep_seen,
        versus=versus,
        report=tell,
    )
    if as_json:
        show_json(table.model_dump(mode="json"))
    else:
        for sheet in ranking_sheets(table):
            show_table(sheet)
    for warning in table.warnings:
        tell(f"warning: {warning}")
