"""Population summaries: statistics of training users that catalogue-free user encoders take as input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.data.windows import require_training_users
from palate.errors import DataError
from palate.schema import Bools, Doubles, Feedback, Interactions, Ints, LabelRule, WindowKind
from palate.system.files import read_bytes, write_bytes
from palate.system.records import tensor_metadata
from palate.tasks.decisions import Decisions
from palate.tasks.statistics import CategoryStatistics, category_statistics

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.tasks.category_preference import CategoryPreference

FORMAT = "palate population 2"
MOST_FACTORS = 32
"""Maximum rank of the factor of the covariance between categories."""
QUANTILES = 257
"""Number of quantiles kept of the history lengths: enough to resolve the longest few percent."""
PRIOR_PAIRS = 30.0
"""Prior weight, in users, with which covariances are shrunk to those of exchangeable categories."""
LONG_ENOUGH = 30.0
"""Number of interactions at which a history has weight 1/2 in the estimate of the shares' overdispersion."""
FOLDS = 5
"""Number of folds of the training users; each user gets a summary of the other folds."""
PRIOR_USERS = 1.0
"""Prior weight, in users, with which a category's frequencies are shrunk to the mean over categories."""


@dataclass(frozen=True, eq=False)
class PopulationSummary:
    """Statistics of a population of users over L categories: inputs of an encoder, not weights.

    Ratings, means and deviations are in the units of the ratings.
    """

    categories: tuple[str, ...]
    feedback: Feedback
    rating_values: tuple[float, ...]
    rule: LabelRule
    """The label rule; with ``own-mean`` the midpoint of the thresholds stands for the user's mean."""
    like_above: float
    dislike_below: float
    min_count: int
    max_labels: int
    users: int
    mean: float
    """Mean of all ratings."""
    spread: float
    """Standard deviation of all ratings."""
    noise: float
    """Standard deviation of a rating around its user's mean of the category."""
    lengths: Doubles  # [Q] quantiles of the number of interactions of a user
    means: Doubles  # [L] mean ratings
    share: Doubles  # [L] mean share of a user's interactions
    variety: (
        Doubles  # [L] how much the shares differ: the overdispersion of a beta-binomial distribution, 0 to 1
    )
    weighted_share: Doubles  # [L] share of all interactions, weighted by rating
    often: Doubles  # [L] share of users with at least min_count interactions
    liked: Doubles  # [L] share of users with the category as a liked label
    disliked: Doubles  # [L] share of users with the category as a disliked label
    factor: Doubles  # [L, K] covariance of the users' means is factor · factorᵀ + diag(own)
    own: Doubles  # [L]
    decisions: Decisions | None = None
    """Decisions calibrated on the population's users; None if they are not calibrated."""
    windows: WindowKind | None = None
    """Kind of windows that the decisions are calibrated on."""

    @property
    def step(self) -> float:
        """Unit of the rating scale, see :func:`rating_step`."""
        return float(rating_step(self.rating_values))

    def decided(self, decisions: Decisions | None, windows: WindowKind | None = None) -> PopulationSummary:
        """Return a copy with other decisions, calibrated on this kind of windows."""
        return replace(self, decisions=decisions, windows=None if decisions is None else windows)

    def extended(self, categories: tuple[str, ...]) -> PopulationSummary:
        """Append categories that no user of the population has rated, up to ``categories`` [L']."""
        more = len(categories) - len(self.categories)
        freedom = (self.factor**2).sum(axis=1) + self.own
        new = {
            "means": self.mean,
            "share": self.share.min(initial=1.0) / 2,
            "variety": self.variety.mean() if len(self.variety) else 0.1,
            "weighted_share": 0.0,
            "own": freedom.mean() if len(freedom) else (0.1 * self.spread) ** 2,
            **{
                name: (getattr(self, name).mean() if len(self.categories) else 0.0)
                * PRIOR_USERS
                / (self.users + PRIOR_USERS)
                for name in ("often", "liked", "disliked")
            },
        }
        columns = {name: np.append(getattr(self, name), np.full(more, value)) for name, value in new.items()}
        return replace(
            self,
            **columns,  # type: ignore[arg-type]
            categories=categories,
            factor=np.pad(self.factor, ((0, more), (0, 0))),
            decisions=None if self.decisions is None else self.decisions.extended(more),
        )

    @property
    def usual_decisions(self) -> Decisions:
        """The calibrated decisions, or uncalibrated ones if there are none."""
        return self.decisions or Decisions.bare(self.liked, self.disliked, float(np.median(self.lengths)))

    @property
    def digest(self) -> str:
        """The sha256 of the summary, part of the cache key of everything computed with it."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"

    def to_bytes(self) -> bytes:
        """Serialize to safetensors, with the scalars in the metadata."""
        arrays, scalars = _parts(asdict(self))
        # A single metadata entry: the order of several differs from call to call.
        summary = json.dumps({"format": FORMAT} | scalars, sort_keys=True)
        return bytes(save(arrays, metadata={"summary": summary}))

    def save(self, path: Path) -> None:
        """Write :meth:`to_bytes` to a file atomically."""
        write_bytes(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> PopulationSummary:
        """Read a file of :meth:`save`; raises :class:`DataError` if it is missing, damaged or of another format."""
        data = read_bytes(path, "the population's summary is missing; run palate summarise")
        try:
            arrays = load(data)
            scalars = json.loads(tensor_metadata(data)["summary"])
            if (found := scalars.pop("format", None)) != FORMAT:
                raise ValueError(f"format {found!r}, expected {FORMAT!r}")
            return _joined(arrays, scalars)
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"not a population's summary ({reason}); run palate summarise again", path
            ) from error


def rating_step(rating_values: tuple[float, ...] | list[float]) -> Fraction:
    """Return the step of the rating scale, the largest common divisor of its values: 1/2 for half stars."""
    parts = [Fraction(str(round(float(value), 6))) for value in rating_values if round(float(value), 6)]
    if not parts:
        return Fraction(1)
    below = lcm(*(part.denominator for part in parts))
    return Fraction(gcd(*(int(part * below) for part in parts)), below)


def rating_steps(rating_values: tuple[float, ...] | list[float]) -> Ints:
    """Return the rating values as integer multiples of :func:`rating_step`, [R]."""
    step = rating_step(rating_values)
    return np.array(
        [round(Fraction(str(round(float(value), 6))) / step) for value in rating_values], np.int64
    )


def summarise(dataset: Dataset, task: CategoryPreference, users: Ints | None = None) -> PopulationSummary:
    """Summarise training users of a dataset, without calibrated decisions.

    Args:
        dataset: The dataset.
        task: The task, with its label rule.
        users: User indices [N]; all training users if None.

    Returns:
        The summary.

    Raises:
        LeakageError: ``users`` contains dev or test users.
    """
    users = dataset.users("train") if users is None else users
    require_training_users(dataset, users, "a population's summary")
    chosen = dataset.interactions.of_users(users)
    return summarise_histories(
        chosen, dataset.category_matrix, dataset.info.rating_values, task, dataset.info.feedback
    )


def summaries_without(
    dataset: Dataset, task: CategoryPreference, users: Ints | None = None, folds: int = FOLDS
) -> tuple[list[PopulationSummary], Ints]:
    """Summarise training users by folds, so that each user has a summary computed without them.

    Args:
        dataset: The dataset.
        task: The task, with its label rule.
        users: User indices [N]; all training users if None.
        folds: Number of folds.

    Returns:
        One summary per fold, of the users of all other folds; and the fold of each user, [N].

    Raises:
        LeakageError: ``users`` contains dev or test users.
    """
    users = dataset.users("train") if users is None else users
    part = np.arange(len(users)) % min(folds, max(len(users), 1))
    return [summarise(dataset, task, users[part != one]) for one in range(part.max(initial=0) + 1)], part


def summarise_histories(
    histories: Interactions,
    category_matrix: Bools,
    rating_values: tuple[float, ...],
    task: CategoryPreference,
    feedback: Feedback = "ratings",
    quantiles: int = QUANTILES,
) -> PopulationSummary:
    """Summarise the full histories of U users.

    Args:
        histories: Their interactions.
        category_matrix: Mask of each item's categories, [I, L].
        rating_values: The rating scale.
        task: The task, with its label rule.
        feedback: Whether the values are ratings, or weights of implicit feedback.
        quantiles: Number of quantiles kept of the history lengths.

    Returns:
        The summary.
    """
    values = np.asarray(rating_values, dtype=np.float32)
    full = category_statistics(histories, category_matrix, values)
    squares = category_statistics(histories, category_matrix, values**2).total
    ratings = values.astype(np.float64)[histories.rating_index]
    spread = float(ratings.std()) if len(ratings) else 0.0
    spread = spread or max(float(np.ptp(values)) / 4, float(rating_step(rating_values)))
    labels = task.labels(full).membership(full.count.shape[1])
    count, users = full.count.sum(axis=0), len(full.length)
    mean = float(full.whole.sum() / max(full.length.sum(), 1))
    means = (full.total.sum(axis=0) + mean) / (count + 1)
    within = (squares - full.total**2 / np.maximum(full.count, 1)).sum()
    freedom = np.maximum(full.count - 1, 0).sum()
    noise = float(np.sqrt(max((within + 0.5 * spread**2 * 10) / (freedom + 10), (0.1 * spread) ** 2)))
    covariance = _covariance(histories, category_matrix, values, means, noise, spread)
    factor, own = _low_rank(covariance, (0.05 * spread) ** 2)
    share, variety = _shares(full)
    return PopulationSummary(
        categories=tuple(task.label_names),
        feedback=feedback,
        rating_values=tuple(float(value) for value in rating_values),
        rule=task.settings.rule or "thresholds",
        like_above=float(task.like_above),
        dislike_below=float(task.dislike_below),
        min_count=task.settings.min_count,
        max_labels=task.settings.max_labels,
        users=users,
        mean=mean,
        spread=spread,
        noise=noise,
        lengths=np.quantile(np.maximum(full.length, 1), np.linspace(0, 1, quantiles))
        if users
        else np.ones(quantiles),
        means=means,
        share=share,
        variety=variety,
        weighted_share=full.total.sum(axis=0) / max(full.whole.sum(), 1e-9),
        often=_frequency(full.count >= task.settings.min_count),
        liked=_frequency(labels[..., 0]),
        disliked=_frequency(labels[..., 1]),
        factor=factor,
        own=own,
    )


def _frequency(carried: Bools) -> Doubles:
    """Compute the share of users with each label, [L], from a mask [U, L], slightly shrunk to the overall share."""
    common = carried.mean() if carried.size else 0.0
    return np.asarray((carried.sum(axis=0) + PRIOR_USERS * common) / (len(carried) + PRIOR_USERS))


def _shares(full: CategoryStatistics) -> tuple[Doubles, Doubles]:
    """Compute the categories' mean shares and their overdispersion by moments, [L] each."""
    length = np.maximum(full.length, 1)[:, None]
    shares = full.count / length
    least = 0.5 / (length.sum() + 1)
    mean = np.clip(shares.mean(axis=0) if len(shares) else np.zeros(shares.shape[1]), least, 1 - least)
    single = mean * (1 - mean)
    weight = length / (length + LONG_ENOUGH)  # the shares of a short history are noisier
    surplus = (weight * ((shares - mean) ** 2 - single / length)).sum(axis=0)
    possible = (weight * single * (1 - 1 / length)).sum(axis=0)
    common = surplus.sum() / max(possible.sum(), 1e-9)  # rare categories are shrunk to this
    prior = 3 * single
    variety = (surplus + prior * common) / np.maximum(possible + prior, 1e-9)
    return mean, np.clip(variety, 1e-3, 0.5)


def _covariance(
    histories: Interactions, category_matrix: Bools, values: Any, means: Doubles, noise: float, spread: float
) -> Doubles:
    """Estimate the covariance of the users' true means between categories, [L, L].

    Each history is split at random into halves with independent noise, so that noise does not count as a difference
    between users.
    """
    first = np.random.default_rng(0).random(len(histories)) < 0.5
    owner = histories.owner
    weighted, weights = [], []
    for half in (first, ~first):
        lengths = np.bincount(owner[half], minlength=len(histories.lengths))
        statistics = category_statistics(histories.take(half, lengths), category_matrix, values)
        deviation = statistics.total / np.maximum(statistics.count, 1) - means
        weight = statistics.count / (statistics.count + 4 * noise**2 / spread**2)
        weighted.append(weight * deviation)
        weights.append(weight)
    surplus, pairs = weighted[0].T @ weighted[1], weights[0].T @ weights[1]
    surplus, pairs = (surplus + surplus.T) / 2, (pairs + pairs.T) / 2
    apart = ~np.eye(len(means), dtype=bool)
    alike = 0.02 * spread**2  # prior, which matters with few users
    shared = (surplus[apart].sum() + alike) / (pairs[apart].sum() + 1)
    single = (np.trace(surplus) + 3 * alike) / (np.trace(pairs) + 1)
    expected = np.where(apart, shared, max(single, shared, 0.01 * spread**2))
    return np.asarray((surplus + PRIOR_PAIRS * expected) / (pairs + PRIOR_PAIRS))


def _low_rank(covariance: Doubles, least: float) -> tuple[Doubles, Doubles]:
    """Approximate a covariance by a low-rank factor [L, K] and the remaining variance of each category [L]."""
    values, vectors = np.linalg.eigh(covariance)
    kept = np.argsort(-values)[:MOST_FACTORS]
    factor = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0.0))
    # The signs of eigenvectors differ between libraries: make the largest entry positive.
    sign = np.sign(factor[np.abs(factor).argmax(axis=0), np.arange(len(kept))])
    factor = factor * np.where(sign == 0, 1, sign)
    return factor, np.maximum(np.diag(covariance) - (factor**2).sum(axis=1), least)


def _parts(content: dict[str, Any], prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a summary into named arrays and scalars."""
    arrays, scalars = {}, {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = np.ascontiguousarray(value)
        elif isinstance(value, dict):
            arrays |= _parts(value, f"{name}.")[0]
        elif value is not None:
            scalars[prefix + name] = value
    return arrays, scalars


def _joined(arrays: dict[str, Any], scalars: dict[str, Any]) -> PopulationSummary:
    decisions = {name.partition(".")[2]: array for name, array in arrays.items() if "." in name}
    own = {name: array for name, array in arrays.items() if "." not in name}
    given: dict[str, Any] = {
        **own,
        **{name: tuple(value) if isinstance(value, list) else value for name, value in scalars.items()},
    }
    found = PopulationSummary(**given)
    labels = len(found.categories)
    wrong = [name for name, array in own.items() if name != "lengths" and array.shape[0] != labels]
    if wrong or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"{(wrong or ['an array'])[0]} does not fit {labels} categories or is not finite")
    return found.decided(Decisions(**decisions) if decisions else None, found.windows)
