"""The ``palate rank`` command: compares rankers of items, or predictors of ratings, on held-out interactions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, BadParameter, Option

from palate.cli.console import show_json, show_table, tell

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palate.report.sheet import Sheet

_ITEMS, _RATINGS = "With --task items", "With --task ratings"


def rank(
    rankers: Annotated[
        list[str],
        Argument(
            metavar="RUN|RANKER...",
            help="Rankers by name, with given settings, as in item-knn:decay=0.8, or else tuned on dev: {rankers}; "
            "for ratings: {rating_predictors}. Or run folders of recommenders that were trained with --set "
            "data.protocol=PROTOCOL.",
        ),
    ],
    data: Annotated[Path, Option(help="Dataset folder, as written by palate prepare.")],
    task: Annotated[
        Literal["items", "ratings"],
        Option(help="Task: ranking the next items, or predicting the ratings of held-out items."),
    ] = "items",
    protocol: Annotated[
        Literal["leave-last-out", "future", "new-users", "cold-items"] | None,
        Option(
            help="Held-out interactions. leave-last-out: each user's last one (default for items). future: the newest "
            "tenth by time. new-users: interactions of users who are not trained on, the last one or 50 random "
            "ratings (default for ratings). cold-items: interactions with a tenth of the items, drawn by the seed, "
            "which are not trained on, each user's last one or all ratings.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        Option(
            metavar="all|N|FILE",
            help="Candidate items: all (default), a number of sampled negatives in addition to the targets, or a file "
            "with a user and items on each line.",
            rich_help_panel=_ITEMS,
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int, Option(min=1, help="Number of settings of each ranker that are tried on dev.")
    ] = 4,
    versus: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Ranker that each other one is compared with; the best of the others if not given.",
        ),
    ] = None,
    keep_seen: Annotated[
        bool,
        Option(
            "--keep-seen",
            help="Also rank items of the history, as for repeated purchases.",
            rich_help_panel=_ITEMS,
        ),
    ] = False,
    visible: Annotated[
        str | None,
        Option(
            metavar="N[,N...]",
            help="Numbers of visible ratings of a new user; 10,20,50,100 if not given.",
            rich_help_panel=_RATINGS,
            show_default=False,
        ),
    ] = None,
    window_kind: Annotated[
        Literal["recent", "random"] | None,
        Option(
            help="Visible ratings of a new user: random ones (default), or the newest.",
            rich_help_panel=_RATINGS,
            show_default=False,
        ),
    ] = None,
    periods: Annotated[
        str | None,
        Option(
            metavar="DATE,DATE",
            help="Start dates of the dev and the test period of --protocol future, in UTC; if not given, each has a "
            "tenth of the ratings, the newest two tenths in all.",
            rich_help_panel=_RATINGS,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, Option(min=0, help="Seed of cold items, sampled candidates and bootstrap intervals.")
    ] = 0,
    seeds: Annotated[
        int,
        Option(
            min=1,
            help="Number of seeds with which a ranker that has a setting seed is trained at its best settings; scores "
            "are means, and intervals are over users and seeds.",
        ),
    ] = 1,
    users: Annotated[
        int | None,
        Option(
            min=1,
            help="Number of test users, drawn by the seed, for rankers that are slow; all if not given.",
            rich_help_panel=_ITEMS,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        Option("--json", help="Print the scores as one JSON document, and all other output to stderr."),
    ] = False,
) -> None:
    """Evaluate rankers of the next items, or predictors of ratings: references and trained recommenders."""
    if task == "ratings":
        _only_for("items", {"--candidates": candidates, "--keep-seen": keep_seen or None, "--users": users})
        if protocol == "leave-last-out":
            raise BadParameter(
                "leave-last-out is for --task items; expected new-users, future or cold-items for ratings",
                param_hint="'--protocol'",
            )
        _ratings(rankers, data, protocol, visible, window_kind, periods, trials, seed, versus, seeds, as_json)
        return
    _only_for("ratings", {"--visible": visible, "--window-kind": window_kind, "--periods": periods})
    from palate.ranking.compare import rank as run
    from palate.ranking.tables import ranking_sheets

    table = run(
        rankers,
        data,
        protocol=protocol or "leave-last-out",
        candidates=candidates or "all",
        trials=trials,
        seed=seed,
        seeds=seeds,
        keep_seen=keep_seen,
        versus=versus,
        users=users,
        report=tell,
    )
    _show(table, ranking_sheets(table), as_json)
    for warning in table.warnings:
        tell(f"warning: {warning}")


def _ratings(
    predictors: list[str],
    data: Path,
    protocol: Literal["future", "new-users", "cold-items"] | None,
    visible: str | None,
    window_kind: Literal["recent", "random"] | None,
    periods: str | None,
    trials: int,
    seed: int,
    versus: str | None,
    seeds: int,
    as_json: bool,
) -> None:
    protocol = protocol or "new-users"
    if protocol != "new-users":
        _only_for("--protocol new-users", {"--visible": visible, "--window-kind": window_kind})
    if protocol != "future":
        _only_for("--protocol future", {"--periods": periods})
    numbers, starts = _numbers(visible or "10,20,50,100"), _periods(periods)
    from palate.ranking.ratings.compare import score_ratings
    from palate.ranking.ratings.tables import rating_sheets

    table = score_ratings(
        predictors,
        data,
        protocol=protocol,
        visible=numbers,
        kind=window_kind or "random",
        periods=starts,
        trials=trials,
        seed=seed,
        seeds=seeds,
        versus=versus,
        report=tell,
    )
    _show(table, rating_sheets(table), as_json)


def _show(table: BaseModel, sheets: Iterable[Sheet], as_json: bool) -> None:
    if as_json:
        show_json(table.model_dump(mode="json"))
        return
    for sheet in sheets:
        show_table(sheet)


def _only_for(what: str, given: dict[str, object]) -> None:
    """Raise an error for given options that only apply to another task or protocol."""
    for name, value in given.items():
        if value is not None:
            task = what if what.startswith("-") else f"--task {what}"
            raise BadParameter(f"it is an option of {task}; leave it out", param_hint=f"'{name}'")


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    numbers = {int(part): None for part in parts if re.fullmatch(" *[0-9]+ *", part)}
    if len(numbers) < len(parts):
        raise BadParameter(
            f"{text!r}, expected a number of ratings like 50, or different ones like 10,20,50",
            param_hint="'--visible'",
        )
    return list(numbers)


def _periods(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        first, second = (datetime.fromisoformat(part.strip()) for part in text.split(","))
    except ValueError:
        first = second = datetime.min
    if first >= second:
        raise BadParameter(
            f"{text!r}, expected two dates like 2002-04-01,2002-09-01, the earlier one first",
            param_hint="'--periods'",
        )
    return int(_utc(first)), int(_utc(second))


def _utc(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
