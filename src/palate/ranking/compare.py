"""Compares rankers on the same cases: tuned on dev with equal budgets, scored on test, differences paired by user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from palate.config.section import KindSettings
from palate.data.dataset import Dataset, load_dataset
from palate.data.protocols import RankingCases, RankingSplit, make_split
from palate.errors import PalateError
from palate.evaluation.metrics import paired_p_value, score_means_of_seeds
from palate.ranking.base import ChoicesOnly, DevNdcg, Ranker
from palate.ranking.candidates import find_candidates, only_among
from palate.ranking.entries import (
    RankerEntry,
    check_named_once,
    check_trained_on,
    find_entry,
    settings_in_words,
)
from palate.ranking.groups import CaseGroups, case_groups
from palate.ranking.metrics import METRICS, coverage, novelty, rank_metrics
from palate.ranking.results import PRIMARY, ColdScores, RankerDifference, RankerScores, RankingTable
from palate.ranking.score import RankedCases, RankingTest
from palate.recommend.relations import membership_matrix
from palate.schema import Doubles, RankingProtocol

_AT = METRICS.index(PRIMARY)
Value = TypeVar("Value")


@dataclass(frozen=True)
class RankOptions:
    """Options of :func:`rank`, which describes them."""

    protocol: RankingProtocol = "leave-last-out"
    candidates: str | int | Path = "all"
    trials: int = 4
    seed: int = 0
    keep_seen: bool = False
    versus: str | None = None
    seeds: int = 1
    users: int | None = None


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
    seeds: int = 1,
    users: int | None = None,
    report: Callable[[str], None] | None = None,
) -> RankingTable:
    """Compare rankers by how highly they rank the items that users chose next.

    Args:
        entries: Names of registered rankers, tuned on dev unless settings are given (``item-knn:decay=0.8``); folders
            of recommender runs that were trained with ``data.protocol``; or pairs of a name and your own ranker.
        data: Dataset or its folder.
        protocol: ``leave-last-out``, ``future``, ``new-users`` or ``cold-items``; see
            :func:`palate.data.protocols.make_split`.
        candidates: Items to rank: ``all``, a number of sampled items beside the targets, or a file whose lines hold a
            user and items.
        trials: Maximum number of settings tried per ranker on dev.
        seed: Seed of cold items, sampled candidates and bootstrap intervals.
        keep_seen: Also rank items of the history, as for repeated purchases.
        versus: Name of the ranker that the others are compared with; by default, each one's best competitor.
        seeds: Number of trainings of each ranker with a setting ``seed``, at its best settings and from that seed
            on; scores are means, and intervals are over users and seeds.
        users: Number of test users, drawn by the seed, and of dev users; all if None or if there are no more.
        report: Called with progress messages.

    Returns:
        Scores with 95% bootstrap intervals over users.

    Raises:
        DataError: The data lacks what the protocol or a ranker needs.
        RecipeError: A ranker is not registered or named twice, or its settings are invalid.
        MismatchError: A run was trained on other data, or on test targets.
        PalateError: A ranker's scores are not finite.

    Example:
        >>> table = palate.rank(["popularity", "item-knn:decay=0.8"], data, protocol="leave-last-out")
        >>> [one.name for one in table.rankers]
        ['popularity', 'item-knn:decay=0.8']
    """
    options = RankOptions(protocol, candidates, trials, seed, keep_seen, versus, seeds, users)
    found = [_entry(one, options) for one in entries]
    check_named_once(found, versus, "ranker", "popularity")
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
    """A fitted ranker with its best settings."""

    ranker: Ranker
    settings: KindSettings
    trials: int
    dev: float | None
    seconds: float


@dataclass(frozen=True)
class _Scored:
    """A ranker's metrics: M of B users, from S seeds."""

    entry: RankerEntry
    fitted: _Fitted
    ranked: tuple[RankedCases, ...]
    values: Doubles  # [S, B, M]
    cold: Doubles | None  # [S, B, M]
    seconds: float


@dataclass(frozen=True)
class _Comparison:
    """Inputs shared by all rankers of a comparison."""

    dataset: Dataset
    options: RankOptions
    split: RankingSplit
    dev: RankingTest
    test: RankingTest
    cold: RankingTest | None
    """Test among cold items alone; None for other protocols."""
    of_users: int
    """Number of test users that those of the test were drawn from."""
    say: Callable[[str], None]

    @classmethod
    def prepared(cls, dataset: Dataset, options: RankOptions, say: Callable[[str], None]) -> _Comparison:
        split = make_split(dataset, options.protocol, options.keep_seen, options.seed)
        of_users = len(split.test)
        split = replace(split, dev=_drawn(split.dev, options), test=_drawn(split.test, options))

        def test_of(cases: RankingCases) -> RankingTest:
            chosen, listed = find_candidates(
                options.candidates, dataset, cases, options.keep_seen, options.seed
            )
            return RankingTest(chosen, listed, len(dataset.items), options.keep_seen)

        cold = None
        if split.cold is not None:
            among = only_among(split.cold, split.test)
            cold = RankingTest(split.test, among, len(dataset.items), options.keep_seen)
        return cls(dataset, options, split, test_of(split.dev), test_of(split.test), cold, of_users, say)

    def check(self, entries: Sequence[RankerEntry]) -> None:
        """Check that no run was trained on targets; raises :class:`MismatchError`."""
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
            cold_items=None if self.split.cold is None else len(self.split.cold),
            warnings=tuple(self._warnings()),
            rankers=tuple(self._scores(one, scored, groups) for one in scored),
        )

    def _score(self, entry: RankerEntry) -> _Scored:
        fitted = self._tuned(entry)
        ranked, cold, seconds = [], [], 0.0
        for ranker in self._of_seeds(entry, fitted):
            start = time.perf_counter()
            ranked.append(self.test.ranked(ranker, entry.name))
            seconds += time.perf_counter() - start
            if self.cold is not None:
                cold.append(rank_metrics(self.cold.ranked(ranker, entry.name).ranks))
        return _Scored(
            entry,
            fitted,
            tuple(ranked),
            np.stack([rank_metrics(one.ranks) for one in ranked]),
            np.stack(cold) if cold else None,
            seconds / len(ranked),
        )

    def _of_seeds(self, entry: RankerEntry, fitted: _Fitted) -> Iterator[Ranker]:
        """Yield the ranker, then refits of it from further seeds if it has a seed."""
        yield fitted.ranker
        first = getattr(fitted.settings, "seed", None)
        for seed in () if first is None else range(first + 1, first + self.options.seeds):
            settings = fitted.settings.model_copy(update={"seed": seed})
            ranker, _ = self._fit(entry, settings, f"{entry.name} from seed {seed}")
            self.say(f"{entry.name}, fitted from seed {seed}")
            yield ranker

    def _tuned(self, entry: RankerEntry) -> _Fitted:
        """Fit the settings of the highest NDCG@10 on dev, which is not scored where there is no choice."""
        if not entry.settings:
            raise PalateError(f"{entry.name} has no settings to try; expected at least one")
        if len(entry.settings) == 1:
            [only] = entry.settings
            ranker, seconds = self._fit(entry, only, entry.name)
            self.say(f"{entry.name}, fitted in {seconds:.1f} s")
            return _Fitted(ranker, only, 1, None, seconds)
        best: tuple[float, _Fitted] | None = None
        for number, settings in enumerate(entry.settings, 1):
            ranker, seconds = self._fit(entry, settings, entry.name)
            dev = self.dev.ndcg(ranker, entry.name)
            self.say(
                f"{entry.name}, settings {number} of {len(entry.settings)}: {settings_in_words(settings) or 'none'}: "
                f"dev NDCG@10 {dev:.4f}, fitted in {seconds:.1f} s"
            )
            if best is None or dev > best[0]:
                best = dev, _Fitted(ranker, settings, len(entry.settings), dev, seconds)
        assert best is not None
        return best[1]

    def _fit(self, entry: RankerEntry, settings: KindSettings, name: str) -> tuple[Ranker, float]:
        """Build and fit a ranker, and return it with the seconds that this took."""
        start = time.perf_counter()
        ranker = self._built(entry, settings)
        ranker.fit(self.split.training, self._told_ndcg(name))
        return ranker, time.perf_counter() - start

    def _built(self, entry: RankerEntry, settings: KindSettings) -> Ranker:
        ranker, weights = entry.kind.build(settings), self.dataset.event_weights
        reads_types = getattr(ranker, "reads_event_types", False)
        return ChoicesOnly(ranker, weights) if weights and not reads_types else ranker

    def _told_ndcg(self, name: str) -> DevNdcg:
        """Return the dev score for early stopping, which reports each value."""

        def ndcg(ranker: Ranker) -> float:
            found = self.dev.ndcg(ranker, name)
            self.say(f"{name}, in training: dev NDCG@10 {found:.4f}")
            return found

        return ndcg

    def _scores(self, one: _Scored, scored: Sequence[_Scored], groups: CaseGroups) -> RankerScores:
        seed = self.options.seed
        training = self.split.training.interactions
        holders = membership_matrix(training, len(self.dataset.items)).getnnz(axis=0)
        users, lists = int((training.lengths > 0).sum()), [ranked.lists for ranked in one.ranked]
        by_seed = one.values.mean(axis=1)  # [S, M]
        return RankerScores(
            name=one.entry.name,
            settings=one.fitted.settings.model_dump(mode="json", exclude={"kind"}),
            trials=one.fitted.trials,
            dev=one.fitted.dev,
            metrics=_named(score_means_of_seeds(one.values, seed)),
            coverage=float(np.mean([coverage(each, len(self.dataset.items)) for each in lists])),
            novelty=float(np.mean([novelty(each, holders, users) for each in lists])),
            groups=groups.means(one.values.mean(axis=0)[:, _AT]),
            difference=self._difference(one, scored, lambda of: of.values),
            differences=tuple(
                self._paired(one, other, lambda of: of.values) for other in scored if other is not one
            ),
            seeds=len(by_seed),
            seed_sd=_named(by_seed.std(axis=0, ddof=1).tolist()) if len(by_seed) > 1 else None,
            cold=self._cold_scores(one, scored),
            fit_seconds=one.fitted.seconds,
            seconds=one.seconds,
        )

    def _cold_scores(self, one: _Scored, scored: Sequence[_Scored]) -> ColdScores | None:
        if one.cold is None:
            return None
        means = score_means_of_seeds(one.cold, self.options.seed)
        return ColdScores(metrics=_named(means), difference=self._difference(one, scored, lambda of: of.cold))

    def _difference(
        self, one: _Scored, scored: Sequence[_Scored], values: Callable[[_Scored], Doubles | None]
    ) -> RankerDifference | None:
        """Compare a ranker's ``values`` [S, B, M] with those of ``versus``, or of its best competitor."""
        others = [other for other in scored if other is not one]
        if self.options.versus is not None:
            others = [other for other in others if other.entry.name == self.options.versus]
        if not others:
            return None
        best = max(others, key=lambda other: float(_primary(values(other)).mean()))
        return self._paired(one, best, values)

    def _paired(
        self, one: _Scored, other: _Scored, values: Callable[[_Scored], Doubles | None]
    ) -> RankerDifference:
        """Compute the paired difference in NDCG@10 to another ranker; a single seed is paired with each other one."""
        differences = _primary(values(one)) - _primary(values(other))  # [S, B]
        [mean] = score_means_of_seeds(differences[:, :, None], self.options.seed)
        return RankerDifference(
            to=other.entry.name,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            p=paired_p_value(differences.mean(axis=0)),
        )

    def _warnings(self) -> list[str]:
        found = []
        if (users := len(self.split.test)) < self.of_users:
            found.append(f"{users:,} of {self.of_users:,} test users, drawn by the seed {self.options.seed}")
        if self.test.candidates is not None and str(self.options.candidates).isdecimal():
            found.append(
                f"ranked among {self.test.candidates.shape[1]} sampled items and the target: such scores are far "
                "above those among all items, and may order rankers differently (Krichene and Rendle, 2020)"
            )
        return found


def _drawn(cases: RankingCases, options: RankOptions) -> RankingCases:
    """Draw as many users as the options ask for, in their order."""
    if options.users is None or options.users >= len(cases):
        return cases
    rows = np.random.default_rng([options.seed, options.users]).permutation(len(cases))
    return cases[np.sort(rows[: options.users])]


def _primary(values: Doubles | None) -> Doubles:
    """Select NDCG@10 of values [S, B, M], [S, B]."""
    assert values is not None
    found: Doubles = values[:, :, _AT]
    return found


def _named(values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(METRICS, values, strict=True))
