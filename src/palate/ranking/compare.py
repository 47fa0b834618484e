"""Compares rankers on the same cases: tuned on dev with equal budgets, scored on test, differences paired by user."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.config.section import KindSettings
from palate.data.dataset import Dataset, load_dataset
from palate.data.protocols import RankingCases, RankingSplit, make_split
from palate.errors import PalateError, RecipeError
from palate.evaluation.metrics import Score, paired_p_value, score_means
from palate.ranking.base import DevNdcg, Ranker
from palate.ranking.candidates import find_candidates
from palate.ranking.entries import RankerEntry, check_trained_on, find_entry, settings_in_words
from palate.ranking.groups import CaseGroups, case_groups
from palate.ranking.metrics import METRICS, coverage, novelty, rank_metrics
from palate.ranking.score import RankedCases, RankingTest
from palate.recommend.relations import membership_matrix
from palate.schema import Doubles, RankingProtocol
from palate.system.records import Frozen

PRIMARY = "ndcg@10"
"""The metric that tuning maximises and rankers are compared by."""


class RankerDifference(Frozen):
    """A ranker's NDCG@10 minus the compared one's, on the same users."""

    to: str
    value: float
    low: float
    high: float
    p: float
    """Of a paired two-sided t-test."""


class RankerScores(Frozen):
    """Scores of one ranker."""

    name: str
    settings: dict[str, Any]
    trials: int
    """How many settings were tried on dev."""
    dev: float
    """NDCG@10 of the dev cases with these settings."""
    metrics: dict[str, Score]
    coverage: float
    novelty: float
    groups: dict[str, dict[str, float]]
    """NDCG@10 by group of cases."""
    difference: RankerDifference | None
    fit_seconds: float
    seconds: float


class RankingTable(Frozen):
    """Scores of rankers on the same cases.

    Example:
        >>> table = palate.rank(["popularity", "item-knn"], data)
        >>> table.users, round(table.score("popularity", "hr@10").high, 1) <= 1
        (24, True)
    """

    format: int = 1
    dataset: str
    fingerprint: str
    protocol: RankingProtocol
    candidates: str
    seed: int
    keep_seen: bool
    users: int
    targets: int
    items: int
    left_out: dict[str, int]
    groups: dict[str, dict[str, int]]
    """Numbers of users by group of cases."""
    warnings: tuple[str, ...]
    rankers: tuple[RankerScores, ...]

    def of(self, name: str) -> RankerScores:
        """Return the scores of a ranker; raises :class:`RecipeError` if it was not compared."""
        for one in self.rankers:
            if one.name == name:
                return one
        raise RecipeError(f"no ranker {name!r}; there are {', '.join(one.name for one in self.rankers)}")

    def score(self, name: str, metric: str = PRIMARY) -> Score:
        """Return a ranker's score by the metric's name, such as ``hr@10``."""
        metrics = self.of(name).metrics
        if metric not in metrics:
            raise RecipeError(f"no metric {metric!r}; there are {', '.join(metrics)}")
        return metrics[metric]


@dataclass(frozen=True)
class RankOptions:
    """Options of a comparison of rankers."""

    protocol: RankingProtocol = "leave-last-out"
    candidates: str | int | Path = "all"
    trials: int = 4
    seed: int = 0
    keep_seen: bool = False
    versus: str | None = None


def rank(
    entries: Sequence[str | Path | tuple[str, Ranker]],
    data: Dataset | Path | str,
    *,
    protocol: RankingProtocol = "leave-last-out",
    candidates: str | int | Path = "all",
    trials: int = 4,
    seed: int = 0,
    keep_seen: bool = False,
    versus: str | None = None,
    report: Callable[[str], None] | None = None,
) -> RankingTable:
    """Rank the items that users chose next, by several rankers on the same users.

    Args:
        entries: Registered rankers by name, with settings like ``item-knn:decay=0.8`` or tuned on dev without; folders
            of recommenders' runs that were trained with ``data.protocol``; and rankers of your own with a name.
        data: The dataset, or its folder.
        protocol: ``leave-last-out``, ``future`` or ``new-users``; see :func:`palate.data.protocols.make_split`.
        candidates: Items that are ranked: ``all``, a number of drawn ones beside the targets, or a file of lines with
            a user and items.
        trials: How many settings of each ranker are tried on dev.
        seed: Seed of drawn candidates and intervals.
        keep_seen: Rank items of the history, too, as for repeated purchases.
        versus: Ranker that the others are compared with; the best of the others for each if None.
        report: Called with progress messages.

    Returns:
        Scores with 95% intervals over users.

    Raises:
        DataError: The data lacks what the protocol or a ranker needs.
        RecipeError: A ranker is not registered, is named twice, or its settings are invalid.
        MismatchError: A run was trained on other data, or on targets.
        PalateError: A ranker's scores are not finite.

    Example:
        >>> table = palate.rank(["popularity", "item-knn:decay=0.8"], data, protocol="leave-last-out")
        >>> [one.name for one in table.rankers]
        ['popularity', 'item-knn:decay=0.8']
    """
    options = RankOptions(protocol, candidates, trials, seed, keep_seen, versus)
    found = [_entry(one, options) for one in entries]
    names = [one.name for one in found]
    if not names:
        raise RecipeError("no ranker; name at least one, such as popularity")
    if len(set(names)) < len(names):
        raise RecipeError(f"a ranker is named twice in {', '.join(names)}; name each once")
    if versus is not None and versus not in names:
        raise RecipeError(f"no ranker {versus!r} to compare with; there are {', '.join(names)}")
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    comparison = _Comparison.prepared(dataset, options, report or (lambda line: None))
    comparison.check(found)
    return comparison.table(found)


def _entry(entry: str | Path | tuple[str, Ranker], options: RankOptions) -> RankerEntry:
    if isinstance(entry, str | Path):
        return find_entry(str(entry), options.trials)
    name, ranker = entry
    return RankerEntry.of_ranker(name, lambda: ranker)


@dataclass(frozen=True)
class _Fitted:
    """A ranker with the best of its settings."""

    ranker: Ranker
    settings: KindSettings
    trials: int
    dev: float
    seconds: float


@dataclass(frozen=True)
class _Scored:
    entry: RankerEntry
    fitted: _Fitted
    ranked: RankedCases
    values: Doubles  # [B, M]
    seconds: float


@dataclass(frozen=True)
class _Comparison:
    """Everything but the rankers."""

    dataset: Dataset
    options: RankOptions
    split: RankingSplit
    dev: RankingTest
    test: RankingTest
    say: Callable[[str], None]

    @classmethod
    def prepared(cls, dataset: Dataset, options: RankOptions, say: Callable[[str], None]) -> _Comparison:
        split = make_split(dataset, options.protocol, options.keep_seen)

        def test_of(cases: RankingCases) -> RankingTest:
            chosen, listed = find_candidates(
                options.candidates, dataset, cases, options.keep_seen, options.seed
            )
            return RankingTest(chosen, listed, len(dataset.items), options.keep_seen)

        return cls(dataset, options, split, test_of(split.dev), test_of(split.test), say)

    def check(self, entries: Sequence[RankerEntry]) -> None:
        """Check that no run has learned from targets; raises :class:`MismatchError`."""
        for entry in entries:
            if entry.run is not None:
                check_trained_on(
                    entry.run, self.dataset, self.split.training, self.options.protocol, self.options.seed
                )

    def table(self, entries: Sequence[RankerEntry]) -> RankingTable:
        scored = [self._score(entry) for entry in entries]
        groups = case_groups(self.split.training, self.test.cases)
        cases = self.test.cases
        return RankingTable(
            dataset=self.dataset.info.name,
            fingerprint=self.dataset.info.fingerprint,
            protocol=self.options.protocol,
            candidates=str(self.options.candidates),
            seed=self.options.seed,
            keep_seen=self.options.keep_seen,
            users=len(cases),
            targets=int((cases.targets >= 0).sum()),
            items=len(self.dataset.items),
            left_out=self.split.left_out,
            groups=groups.sizes,
            warnings=tuple(self._warnings()),
            rankers=tuple(self._scores(one, scored, groups) for one in scored),
        )

    def _score(self, entry: RankerEntry) -> _Scored:
        fitted = self._tuned(entry)
        start = time.perf_counter()
        ranked = self.test.ranked(fitted.ranker, entry.name)
        seconds = time.perf_counter() - start
        return _Scored(entry, fitted, ranked, rank_metrics(ranked.ranks), seconds)

    def _tuned(self, entry: RankerEntry) -> _Fitted:
        best: _Fitted | None = None
        for number, settings in enumerate(entry.settings, 1):
            start = time.perf_counter()
            ranker = entry.kind.build(settings)
            ranker.fit(self.split.training, self._told_ndcg(entry.name))
            seconds = time.perf_counter() - start
            dev = self.dev.ndcg(ranker, entry.name)
            self.say(
                f"{entry.name}, settings {number} of {len(entry.settings)}: {settings_in_words(settings) or 'none'}: "
                f"dev NDCG@10 {dev:.4f}, fitted in {seconds:.1f} s"
            )
            if best is None or dev > best.dev:
                best = _Fitted(ranker, settings, len(entry.settings), dev, seconds)
        if best is None:
            raise PalateError(f"{entry.name} has no settings to try; expected at least one")
        return best

    def _told_ndcg(self, name: str) -> DevNdcg:
        """Return the dev score for early stopping, which is told each time that it is asked for."""

        def ndcg(ranker: Ranker) -> float:
            found = self.dev.ndcg(ranker, name)
            self.say(f"{name}, in training: dev NDCG@10 {found:.4f}")
            return found

        return ndcg

    def _scores(self, one: _Scored, scored: Sequence[_Scored], groups: CaseGroups) -> RankerScores:
        seed = self.options.seed
        training = self.split.training.interactions
        holders = membership_matrix(training, len(self.dataset.items)).getnnz(axis=0)
        means = score_means(one.values, seed)
        return RankerScores(
            name=one.entry.name,
            settings=one.fitted.settings.model_dump(mode="json", exclude={"kind"}),
            trials=one.fitted.trials,
            dev=one.fitted.dev,
            metrics=dict(zip(METRICS, means, strict=True)),
            coverage=coverage(one.ranked.lists, len(self.dataset.items)),
            novelty=novelty(one.ranked.lists, holders, int((training.lengths > 0).sum())),
            groups=groups.means(one.values[:, METRICS.index(PRIMARY)]),
            difference=self._difference(one, scored),
            fit_seconds=one.fitted.seconds,
            seconds=one.seconds,
        )

    def _difference(self, one: _Scored, scored: Sequence[_Scored]) -> RankerDifference | None:
        others = [other for other in scored if other is not one]
        if self.options.versus is not None:
            others = [other for other in others if other.entry.name == self.options.versus]
        if not others:
            return None
        at = METRICS.index(PRIMARY)
        other = max(others, key=lambda other: float(other.values[:, at].mean()))
        differences = one.values[:, at] - other.values[:, at]
        [mean] = score_means(differences[:, None], self.options.seed)
        return RankerDifference(
            to=other.entry.name,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            p=paired_p_value(differences),
        )

    def _warnings(self) -> list[str]:
        found = []
        if self.test.candidates is not None and str(self.options.candidates).isdecimal():
            found.append(
                f"ranked among {self.test.candidates.shape[1]} drawn items and the target: such scores are far above "
                "those among all items, and may order rankers otherwise (Krichene and Rendle, 2020)"
            )
        return found
