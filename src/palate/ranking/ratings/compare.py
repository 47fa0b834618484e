"""Compares rating predictors on the same held-out ratings: tuned on dev, scored on test, paired by user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.config.registry import rating_predictors
from palate.config.section import KindSettings
from palate.data.dataset import Dataset, load_dataset
from palate.errors import PalateError, RecipeError
from palate.evaluation.metrics import Score
from palate.ranking.base import bound_to
from palate.ranking.entries import (
    RankerEntry,
    check_named_once,
    check_trained_on,
    find_entry,
    settings_in_words,
)
from palate.ranking.ratings.base import RatingPredictor
from palate.ranking.ratings.metrics import PredictedRatings, Resamples
from palate.ranking.ratings.protocols import RatingCases, RatingProtocol, RatingSplit, make_rating_split
from palate.schema import Doubles, WindowKind
from palate.system.records import Frozen


class ShownRatings(Frozen):
    """Counts of one part of a comparison: the histories shown, and the ratings predicted."""

    shown: str
    users: int
    ratings: int
    pairs: int
    """Pairs of items with different ratings by the same user."""
    users_with_both: int
    """Users with both liked and other items, over whom UAUC is averaged."""
    liked: float
    """Share of the ratings that are likes."""


class RatingScores(Frozen):
    """Scores of one predictor."""

    name: str
    settings: dict[str, Any]
    trials: int
    """Number of settings tried on dev."""
    dev: float | None
    """RMSE on dev with the best settings; None if there was only one choice."""
    metrics: dict[str, dict[str, Score]]
    """Scores by part and metric; undefined metrics are left out."""
    differences: dict[str, dict[str, Score]]
    """Paired differences from the predictor in ``to``, by part and metric."""
    to: dict[str, str]
    """Name of the predictor compared with, by part."""
    seeds: int = 1
    """Number of trainings from different seeds that scores are averaged over."""
    seed_sd: dict[str, dict[str, float]] | None = None
    """Standard deviations of the scores over seeds; None for one seed."""
    fit_seconds: float
    seconds: float


class RatingTable(Frozen):
    """Results of a comparison of rating predictors.

    Example:
        >>> table = palate.score_ratings(["item-mean"], data, visible=[5])
        >>> table.parts[0].shown, 0 < table.score("item-mean", "5 visible").value < 4
        ('5 visible', True)
    """

    format: int = 1
    dataset: str
    fingerprint: str
    protocol: RatingProtocol
    kind: WindowKind
    """Which of a new user's ratings are shown: ``random`` or ``recent``."""
    seed: int
    like_above: float
    parts: tuple[ShownRatings, ...]
    predictors: tuple[RatingScores, ...]

    def score(self, name: str, shown: str, metric: str = "rmse") -> Score:
        """Return a score by predictor, part (``10 visible``) and metric; raises :class:`RecipeError` if unknown."""
        found = next((one for one in self.predictors if one.name == name), None)
        if found is None or metric not in found.metrics.get(shown, {}):
            raise RecipeError(
                f"no {metric!r} of {name!r} from {shown!r}; there are "
                f"{', '.join(one.name for one in self.predictors)} from {', '.join(one.shown for one in self.parts)}"
            )
        return found.metrics[shown][metric]


@dataclass(frozen=True)
class RatingOptions:
    """Options of :func:`score_ratings`, which describes them."""

    protocol: RatingProtocol = "new-users"
    visible: tuple[int, ...] = (10, 20, 50, 100)
    kind: WindowKind = "random"
    periods: tuple[int, int] | None = None
    trials: int = 4
    seed: int = 0
    versus: str | None = None
    seeds: int = 1


def score_ratings(
    entries: Sequence[str | Path | tuple[str, RatingPredictor]],
    data: Dataset | Path | str,
    *,
    protocol: RatingProtocol = "new-users",
    visible: Sequence[int] = (10, 20, 50, 100),
    kind: WindowKind = "random",
    periods: tuple[int, int] | None = None,
    trials: int = 4,
    seed: int = 0,
    versus: str | None = None,
    seeds: int = 1,
    report: Callable[[str], None] | None = None,
) -> RatingTable:
    """Compare rating predictors on held-out ratings, from the same histories.

    Args:
        entries: Names of registered predictors (``item-mean``, ``biased-mf``, ``recommender``), tuned on dev unless
            settings are given (``biased-mf:factors=8``); folders of recommender runs; or pairs of a name and your own
            predictor.
        data: Dataset or its folder.
        protocol: ``new-users``, ``future`` or ``cold-items``; see
            :func:`palate.ranking.ratings.protocols.make_rating_split`.
        visible: Numbers of ratings shown of a new user; one part of the comparison each.
        kind: Which ratings are shown: random or the newest (``recent``).
        periods: Start of the dev and of the test period of ``future``, in seconds; the newest tenths if None.
        trials: Maximum number of settings tried per predictor on dev.
        seed: Seed of random choices and bootstrap intervals.
        versus: Name of the predictor that the others are compared with; by default, each one's best competitor.
        seeds: Number of trainings of each predictor with a setting ``seed``, from that seed on; scores are means, and
            intervals are over users and seeds.
        report: Called with progress messages.

    Returns:
        Scores with 95% bootstrap intervals over users.

    Raises:
        DataError: The data lacks what the protocol or a predictor needs.
        RecipeError: A predictor is not registered or named twice, or its settings are invalid.
        MismatchError: A run was trained on other data, or on test ratings.
        PalateError: A prediction is not finite.

    Example:
        >>> table = palate.score_ratings(["item-mean", "biased-mf:factors=2"], data, visible=[2, 5])
        >>> [one.name for one in table.predictors]
        ['item-mean', 'biased-mf:factors=2']
    """
    options = RatingOptions(protocol, tuple(visible), kind, periods, trials, seed, versus, seeds)
    found = [_entry(one, options) for one in entries]
    check_named_once(found, versus, "rating predictor", "item-mean")
    if not options.visible or min(options.visible) < 0 or len(set(visible)) < len(visible):
        raise PalateError(f"visible ratings {list(visible)}; expected distinct numbers, 0 or more")
    dataset = data if isinstance(data, Dataset) else load_dataset(data)
    split = make_rating_split(dataset, protocol, options.visible, kind, periods, seed)
    for run in [one.run for one in found if one.run is not None]:
        if periods is not None:
            raise RecipeError(
                f"{run.path} was not trained with these periods; leave them out, or name the predictor recommender, "
                "which is trained here"
            )
        check_trained_on(run, dataset, split.training, protocol, seed)
    return _RatingComparison(dataset, options, split, report or (lambda line: None)).table(found)


def _entry(entry: str | Path | tuple[str, RatingPredictor], options: RatingOptions) -> RankerEntry:
    if isinstance(entry, str | Path):
        return find_entry(str(entry), options.trials, rating_predictors)
    name, predictor = entry
    return RankerEntry.of_ranker(name, lambda: predictor)


@dataclass(frozen=True)
class _Predicted:
    """A predictor's ratings of all parts, with each metric for all users and for resampled users, of S seeds."""

    entry: RankerEntry
    settings: KindSettings
    dev: float | None
    parts: dict[str, PredictedRatings]
    """Predictions of the first seed, by part."""
    values: dict[str, dict[str, Doubles]]  # [S, 1 + R]
    fit_seconds: float
    seconds: float


@dataclass(frozen=True)
class _RatingComparison:
    """Inputs shared by all predictors of a comparison."""

    dataset: Dataset
    options: RatingOptions
    split: RatingSplit
    say: Callable[[str], None]

    def table(self, entries: Sequence[RankerEntry]) -> RatingTable:
        found = [self._predicted(entry) for entry in entries]
        info, options = self.dataset.info, self.options
        return RatingTable(
            dataset=info.name,
            fingerprint=info.fingerprint,
            protocol=options.protocol,
            kind=options.kind,
            seed=options.seed,
            like_above=info.like_above,
            parts=tuple(_part(shown, one) for shown, one in found[0].parts.items()),
            predictors=tuple(self._scores(one, found) for one in found),
        )

    def _predicted(self, entry: RankerEntry) -> _Predicted:
        settings, dev = self._tuned(entry)
        parts: list[dict[str, PredictedRatings]] = []
        fit_seconds, seconds = [], 0.0
        for one in self._of_seeds(settings):
            predictor, took = self._fitted(entry, one, self.split.final)
            start = time.perf_counter()
            parts.append(
                {
                    shown: self._ratings(predictor, entry.name, cases)
                    for shown, cases in self.split.test.items()
                }
            )
            seconds += time.perf_counter() - start
            fit_seconds.append(took)
            self.say(f"{entry.name}, test: RMSE {_in_words(parts[-1])}, fitted in {took:.1f} s")
        values = {shown: self._values([one[shown] for one in parts]) for shown in parts[0]}
        return _Predicted(
            entry, settings, dev, parts[0], values, float(np.mean(fit_seconds)), seconds / len(parts)
        )

    def _of_seeds(self, settings: KindSettings) -> Iterator[KindSettings]:
        """Yield the settings, then copies with further seeds if they have a seed."""
        yield settings
        first = getattr(settings, "seed", None)
        for seed in () if first is None else range(first + 1, first + self.options.seeds):
            yield settings.model_copy(update={"seed": seed})

    def _values(self, predicted: Sequence[PredictedRatings]) -> dict[str, Doubles]:
        """Compute each metric per seed, for all users and for resampled users, [S, 1 + R]."""
        by_seed = [self._resamples(one).values(one) for one in predicted]
        return {name: np.stack([one[name] for one in by_seed]) for name in by_seed[0]}

    def _tuned(self, entry: RankerEntry) -> tuple[KindSettings, float | None]:
        """Return the settings with the lowest RMSE on dev."""
        if not entry.settings:
            raise PalateError(f"{entry.name} has no settings to try; expected at least one")
        if len(entry.settings) == 1:
            return entry.settings[0], None
        best: tuple[float, KindSettings] | None = None
        for number, settings in enumerate(entry.settings, 1):
            predictor, seconds = self._fitted(entry, settings, self.split.training)
            parts = {
                shown: self._ratings(predictor, entry.name, cases) for shown, cases in self.split.dev.items()
            }
            dev = float(np.mean([_rmse(one) for one in parts.values()]))
            self.say(
                f"{entry.name}, settings {number} of {len(entry.settings)}: {settings_in_words(settings)}: "
                f"dev RMSE {dev:.4f}, fitted in {seconds:.1f} s"
            )
            if best is None or dev < best[0]:
                best = dev, settings
        assert best is not None
        return best[1], best[0]

    def _fitted(
        self, entry: RankerEntry, settings: KindSettings, dataset: Dataset
    ) -> tuple[RatingPredictor, float]:
        start = time.perf_counter()
        predictor: RatingPredictor = entry.kind.build(settings)
        predictor.fit(dataset)
        return predictor, time.perf_counter() - start

    def _ratings(self, predictor: RatingPredictor, name: str, cases: RatingCases) -> PredictedRatings:
        columns = []
        for batch in cases.batches():
            expected = bound_to(predictor, batch.user_index).predict(
                batch.windows, batch.item_index, batch.time
            )
            row, _ = np.nonzero(batch.wanted)
            said = [np.asarray(one)[batch.wanted] for one in (expected.mean, expected.sd, expected.chance)]
            if not all(np.isfinite(one).all() for one in said) or (said[1] <= 0).any():
                raise PalateError(
                    f"{name} returned a mean that is not finite, or a standard deviation that is not above 0"
                )
            rating = self.dataset.rating_values[batch.rating_index[batch.wanted]]
            columns.append((batch.user_index[row], rating, *said))
        user, rating, mean, sd, chance = (np.concatenate(column) for column in zip(*columns, strict=True))
        users, place = np.unique(user, return_inverse=True)
        lowest, *_, highest = self.dataset.rating_values
        return PredictedRatings(
            len(users),
            place,
            rating.astype(np.float64),
            rating > self.dataset.info.like_above,
            mean,
            sd,
            chance,
            (float(lowest), float(highest)),
        )

    def _resamples(self, predicted: PredictedRatings) -> Resamples:
        return Resamples.drawn(predicted.users, self.options.seed)

    def _scores(self, one: _Predicted, found: Sequence[_Predicted]) -> RatingScores:
        to = {shown: other for shown in one.parts if (other := self._compared(one, found, shown))}
        differences = {
            shown: {name: one.values[shown][name] - other.values[shown][name] for name in one.values[shown]}
            for shown, other in to.items()
        }

        def scores(values: dict[str, dict[str, Doubles]]) -> dict[str, dict[str, Score]]:
            return {shown: self._resamples(one.parts[shown]).scores(by) for shown, by in values.items()}

        by_seed = {
            shown: {name: value[:, 0] for name, value in by.items() if np.isfinite(value[:, 0]).all()}
            for shown, by in one.values.items()
        }
        seeds = len(next(iter(one.values.values()))["rmse"])
        return RatingScores(
            name=one.entry.name,
            settings=one.settings.model_dump(mode="json", exclude={"kind"}),
            trials=len(one.entry.settings),
            dev=one.dev,
            metrics=scores(one.values),
            differences=scores(differences),
            to={shown: other.entry.name for shown, other in to.items()},
            seeds=seeds,
            seed_sd={
                shown: {name: float(value.std(ddof=1)) for name, value in by.items()}
                for shown, by in by_seed.items()
            }
            if seeds > 1
            else None,
            fit_seconds=one.fit_seconds,
            seconds=one.seconds,
        )

    def _compared(self, one: _Predicted, found: Sequence[_Predicted], shown: str) -> _Predicted | None:
        others = [other for other in found if other is not one]
        if self.options.versus is not None:
            others = [other for other in others if other.entry.name == self.options.versus]
        return min(others, key=lambda other: float(other.values[shown]["rmse"][:, 0].mean()), default=None)


def _part(shown: str, predicted: PredictedRatings) -> ShownRatings:
    return ShownRatings(
        shown=shown,
        users=predicted.users,
        ratings=len(predicted.rating),
        pairs=predicted.pairs,
        users_with_both=predicted.users_with_both,
        liked=float(predicted.liked.mean()),
    )


def _rmse(predicted: PredictedRatings) -> float:
    return float(np.sqrt((predicted.error**2).mean()))


def _in_words(parts: dict[str, PredictedRatings]) -> str:
    return ", ".join(f"{_rmse(one):.4f} ({shown})" for shown, one in parts.items())
