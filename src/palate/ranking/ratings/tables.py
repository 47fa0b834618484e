"""Tables of rating prediction results, for terminals and documents."""

from __future__ import annotations

from collections.abc import Iterator

from palate.evaluation.metrics import Score
from palate.ranking.entries import written_settings
from palate.ranking.ratings.compare import RatingScores, RatingTable, ShownRatings
from palate.ranking.ratings.metrics import RATING_METRICS
from palate.report.sheet import Sheet
from palate.words import counted

_HEAD = ("RMSE", "MAE", "pairs", "AUC", "UAUC", "ECE of\na like", "ECE of\nintervals")
_COMPARED = RATING_METRICS[:5]


def rating_sheets(table: RatingTable) -> Iterator[Sheet]:
    """Yield a table of scores and one of paired differences for each part."""
    for part in table.parts:
        rows = [
            [
                one.name,
                *(_number(one.metrics[part.shown].get(name)) for name in RATING_METRICS),
                f"{one.fit_seconds:.1f} s",
                written_settings(one.settings),
            ]
            for one in table.predictors
        ]
        head = ["predictor", *_HEAD, "fit", "settings"]
        yield Sheet(_title(table, part), head, rows, _note(table, part), (head[-1], head[-2]))
        compared = [one for one in table.predictors if part.shown in one.to]
        if compared:
            yield Sheet(
                f"{part.shown}: differences, with 95% bootstrap intervals over users",
                ["predictor", "to", *_HEAD[: len(_COMPARED)]],
                [_differences(one, part.shown) for one in compared],
            )


def _differences(one: RatingScores, shown: str) -> list[str]:
    found = one.differences[shown]
    return [one.name, one.to[shown], *(_difference(found.get(name)) for name in _COMPARED)]


def _number(score: Score | None) -> str:
    return "" if score is None else f"{score.value:.4f}"


def _difference(score: Score | None) -> str:
    return "" if score is None else f"{score.value:+.4f}\n({score.low:+.4f} to {score.high:+.4f})"


def _title(table: RatingTable, part: ShownRatings) -> str:
    shown = (
        {"random": "random ", "recent": "the newest "}[table.kind] if table.protocol == "new-users" else ""
    )
    return (
        f"{table.dataset}: {counted(part.ratings, 'rating')} of {counted(part.users, 'user')}, {table.protocol}, "
        f"{shown}{part.shown}, seed {table.seed}"
    )


def _note(table: RatingTable, part: ShownRatings) -> str:
    seeds = [
        f"{one.name}: means of {one.seeds} seeds; the standard deviation of RMSE over seeds is "
        f"{one.seed_sd[part.shown]['rmse']:.4f}, and intervals are over users and seeds."
        for one in table.predictors
        if one.seed_sd is not None
    ]
    about = (
        f"A like is a rating above {table.like_above:g}: {part.liked:.1%} of these. AUC is over all ratings, UAUC the "
        f"mean over the {counted(part.users_with_both, 'user')} with both classes, pairs the share in the right order "
        f"of {counted(part.pairs, 'pair')} of one user's items with different ratings."
    )
    return " ".join([about, *seeds])
