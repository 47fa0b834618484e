"""Tables of ranking results, for terminals and documents."""

from __future__ import annotations

from collections.abc import Iterator

from palate.ranking.entries import written_settings
from palate.ranking.metrics import LISTED
from palate.ranking.results import RankerDifference, RankerScores, RankingTable
from palate.report.sheet import Sheet
from palate.words import counted

_SHOWN = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr")
_COMPARED = ("NDCG@10\n95% interval", "to the best other\nor the named one", "p")
_HEAD = {"hr": "HR", "recall": "recall", "ndcg": "NDCG", "mrr": "MRR"}


def ranking_sheets(table: RankingTable) -> Iterator[Sheet]:
    """Yield the table of scores, one among cold items if there are any, and NDCG@10 by each kind of group."""
    yield rank_sheet(table)
    if table.cold_items is not None:
        yield _cold_sheet(table, table.cold_items)
    for kind, sizes in table.groups.items():
        rows = [[one.name, *(f"{one.groups[kind][name]:.4f}" for name in sizes)] for one in table.rankers]
        rows.append(["(users)", *(f"{size:,}" for size in sizes.values())])
        yield Sheet(f"NDCG@10 by {kind}", ["ranker", *sizes], rows)


def rank_sheet(table: RankingTable) -> Sheet:
    """Build the table of scores, one row per ranker."""
    several = table.targets > table.users
    shown = [*_SHOWN[:4], *(["recall@10", "recall@20"] if several else []), _SHOWN[4]]
    head = [
        "ranker",
        *map(_metric, shown),
        *_COMPARED,
        f"coverage\n@{LISTED}",
        f"novelty\n@{LISTED}",
        "fit",
        "settings",
    ]
    rows = [_row(one, shown) for one in table.rankers]
    spare = (head[-1], head[-2], head[-3], head[-4], "MRR", "p", head[-7], head[1], head[2])
    return Sheet(_title(table), head, rows, _note(table), spare)


def _row(one: RankerScores, shown: list[str]) -> list[str]:
    interval, difference = one.metrics["ndcg@10"], one.difference
    return [
        one.name,
        *(f"{one.metrics[name].value:.4f}" for name in shown),
        f"{interval.low:.4f}–{interval.high:.4f}",
        *_compared(difference),
        f"{one.coverage:.1%}",
        f"{one.novelty:.1f}",
        f"{one.fit_seconds:.1f} s",
        written_settings(one.settings),
    ]


def _compared(difference: RankerDifference | None) -> tuple[str, str]:
    """Format a difference with its interval, and the p-value."""
    if difference is None:
        return "", ""
    p = f"{difference.p:.1e}" if difference.p < 0.001 else f"{difference.p:.3f}"
    return f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})", p


def _cold_sheet(table: RankingTable, items: int) -> Sheet:
    """Build the table of scores among cold items alone."""
    rows = []
    for one in table.rankers:
        assert one.cold is not None
        interval = one.cold.metrics["ndcg@10"]
        rows.append(
            [
                one.name,
                *(f"{one.cold.metrics[name].value:.4f}" for name in _SHOWN),
                f"{interval.low:.4f}–{interval.high:.4f}",
                *_compared(one.cold.difference),
            ]
        )
    head = ["ranker", *map(_metric, _SHOWN), *_COMPARED]
    return Sheet(f"Among the {counted(items, 'cold item')} alone", head, rows)


def _metric(name: str) -> str:
    kind, at, cutoff = name.partition("@")
    return f"{_HEAD[kind]}{at}{cutoff}"


def _title(table: RankingTable) -> str:
    targets = f" with {table.targets:,} targets" if table.targets > table.users else ""
    return (
        f"{table.dataset}: {counted(table.users, 'user')}{targets}, {table.protocol}, "
        f"{_candidates(table)}, seed {table.seed}"
    )


def _candidates(table: RankingTable) -> str:
    if table.candidates == "all":
        return f"among all {counted(table.items, 'item')}"
    if table.candidates.isdecimal():
        return f"among {table.candidates} sampled items"
    return f"among the items of {table.candidates}"


def _note(table: RankingTable) -> str:
    notes = [f"Warning: {warning}." for warning in table.warnings]
    notes.append(
        "Means over users, with 95% bootstrap intervals over users; differences of NDCG@10 are paired by user, with "
        "the p-value of a paired t-test. Ties count by their expectation over all orders."
    )
    notes += [
        f"{one.name}: means of {one.seeds} seeds; the standard deviation of NDCG@10 over seeds is "
        f"{one.seed_sd['ndcg@10']:.4f}, and intervals are over users and seeds."
        for one in table.rankers
        if one.seed_sd is not None
    ]
    notes.append(
        "Items of the history are ranked, too." if table.keep_seen else "Items of the history are left out."
    )
    if table.left_out.get("only_seen_items"):
        notes.append(
            f"Left out are {counted(table.left_out['only_seen_items'], 'user')} who chose only seen items."
        )
    if table.left_out.get("without_history_or_target"):
        number = counted(table.left_out["without_history_or_target"], "user")
        notes.append(f"{number} have no history or no target by this protocol.")
    return " ".join(notes)
