"""Fits a recommender to the training users of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from palate.errors import DataError
from palate.recommend.content import ItemContent, fit_content, has_texts
from palate.recommend.event_weights import EventWeights
from palate.recommend.held_out import HeldOut, hold_out, user_folds
from palate.recommend.network import ItemNetwork
from palate.recommend.network_training import NetworkData, train_network
from palate.recommend.newcomer_tuning import SimulatedNewItems, simulate_new_items, tune_newcomers
from palate.recommend.order import COMMON, common_order
from palate.recommend.parts import RECOMMENDER_FORMAT, CatalogueFacts
from palate.recommend.progress import (
    FitProgress,
    generator_state,
    read_progress,
    set_generator_state,
    write_progress,
)
from palate.recommend.rating_fit import fit_rating_model
from palate.recommend.ratings import RatingModel
from palate.recommend.recommender import Recommender
from palate.recommend.relations import (
    PairRelation,
    Relation,
    VectorRelation,
    cooccurrence,
    regression,
    succession,
)
from palate.recommend.scorer import (
    RelationWeights,
    Scorer,
    ScorerWeights,
    chosen_windows,
    popularity_of,
)
from palate.recommend.tuning import CELLS, DEPTH, Fold, Grids, best_penalty, mean_ndcg, seen_items, tune
from palate.schema import Bools, Floats, Interactions, Ints
from palate.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from palate.config.recipe import ItemSettings, RecommendSettings
    from palate.data.dataset import Dataset

DEFAULT_RIDGE = 1000.0
VALIDATED = 1_000
"""Maximum number of held-out interactions that early stopping of the network is measured on."""
FEWEST = 20
"""Held-out interactions below which no weights are tuned."""


def fit_recommender(
    dataset: Dataset,
    users: Ints,
    settings: RecommendSettings,
    items: ItemSettings,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
    progress: Path | None = None,
) -> Recommender:
    """Fit a recommender to the interactions of training users.

    Args:
        dataset: Dataset to learn from.
        users: Indices of the training users, [U]; users without interactions are ignored.
        settings: Settings of the recommender.
        items: Settings of the item encoder.
        seed: Seed of the held-out users and of the rating model's initial values.
        report: Called with one line per stage.
        progress: Folder where the tuned weights are saved; an interrupted training resumes from them.

    Returns:
        The fitted recommender.

    Raises:
        DataError: No training user has an interaction.
    """
    tell = report or (lambda line: None)
    events = dataset.interactions.of_users(users[dataset.interactions.lengths[users] > 0])
    if not dataset.chosen(events).any():
        raise DataError(
            "no training user has an interaction; prepare the data with more training users", dataset.path
        )
    rng = np.random.default_rng(seed)
    content, described = fit_content(dataset, settings, items)
    missing = _missing(dataset, described, settings)
    for line in missing:
        tell(line)
    fitting = _Fitting(dataset, settings, content, described, _deviations(dataset, events), seed, tell)
    found = _learned(fitting, events, rng, progress)
    scorer = found.scorer(events)
    if found.epochs and scorer.weights.network:
        tell(f"network: retrained on all training users, for {counted(found.epochs, 'epoch')}")
        network, _ = train_network(
            found.network_data(events, scorer.relations), settings, seed, epochs=found.epochs
        )
        scorer = replace(scorer, network=network)
    ratings = _ratings(dataset, events, settings, described, rng)
    return Recommender(
        CatalogueFacts.of(dataset, settings.history, missing), dataset.items, scorer, ratings, content
    )


def _learned(
    fitting: _Fitting, events: Interactions, rng: np.random.Generator, progress: Path | None
) -> _Fitting:
    """Tune the weights, or restore those that an interrupted training saved."""
    kept = None if progress is None else read_progress(progress, RECOMMENDER_FORMAT)
    settings, tell = fitting.settings, fitting.tell
    if kept is not None:
        tell("resuming after the weights, which are tuned already")
        set_generator_state(rng, kept.random)
        settings = settings.model_copy(update={"ordered": kept.ordered, "ridge": kept.ridge})
        return replace(fitting, settings=settings, weights=kept.weights, epochs=kept.epochs)
    ordered = _is_ordered(fitting.dataset, events, settings, rng, tell)
    found = _tuned(replace(fitting, settings=settings.model_copy(update={"ordered": ordered})), events, rng)
    if progress is not None:
        write_progress(
            progress,
            FitProgress(
                format=RECOMMENDER_FORMAT,
                ordered=ordered,
                ridge=found.settings.ridge,
                weights=found.weights,
                epochs=found.epochs,
                random=generator_state(rng),
            ),
        )
    return found


def _missing(
    dataset: Dataset, content: Mapping[str, VectorRelation], settings: RecommendSettings
) -> tuple[str, ...]:
    said = []
    if "categories" not in content:
        said.append("no categories: they relate no items, and items cannot be filtered by them")
    if "texts" not in content:
        left_out = not settings.texts and has_texts(dataset)
        why = "recommend.texts is false" if left_out else "no item texts"
        said.append(f"{why}: items without interactions are scored from their categories alone")
    if dataset.info.feedback != "ratings":
        said.append("no ratings: ratings cannot be predicted")
    if not dataset.info.has_times:
        said.append("no times: recency is measured by the order of interactions alone")
    return tuple(said)


def _is_ordered(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> bool:
    if settings.ordered != "auto":
        return settings.ordered
    if dataset.info.has_times or (found := common_order(events, len(dataset.items), rng)) < COMMON:
        return True
    tell(
        f"no order: histories follow one order of the items, as in sorted files (rank correlation {found:.2f} on "
        "held-out users), and are treated as sets; set ordered: true if the order is chronological"
    )
    return False


def _deviations(dataset: Dataset, events: Interactions) -> Floats:
    """Standardise the rating values by mean and standard deviation of the interactions, [R]; 0 if all are equal."""
    values = dataset.rating_values
    found = values[events.rating_index]
    spread = float(found.std())
    deviations: Floats = ((values - found.mean()) / spread if spread > 0 else values * 0).astype(np.float32)
    return deviations


@dataclass(frozen=True)
class _Fitting:
    """Inputs shared by all folds of the training users, and the tuned weights once known."""

    dataset: Dataset
    settings: RecommendSettings
    content: ItemContent
    described: Mapping[str, VectorRelation]
    deviations: Floats
    seed: int
    tell: Callable[[str], None]
    weights: ScorerWeights | None = None
    epochs: int = 0
    """Epochs of the best network; 0 without a network."""

    @property
    def ordered(self) -> bool:
        return bool(self.settings.ordered)

    def scorer(self, events: Interactions) -> Scorer:
        """Fit everything but the network."""
        items = len(self.dataset.items)
        events = self.chosen(events)
        relations = {**_relations(events, items, self.settings), **self.described}
        counts = np.bincount(events.item_index, minlength=items).astype(np.float32)
        types = self.dataset.event_weights
        values = tuple(weight / max(types) for weight in types)
        start = EventWeights(decay=0.5 if self.ordered else 1.0, values=values)
        weights = self.weights or ScorerWeights(
            relations=dict.fromkeys(relations, RelationWeights(weight=1.0, events=start)), types=types
        )
        new = self.dataset.new_items
        after = np.empty(0, dtype=np.int64) if new is None else np.flatnonzero(new)
        return Scorer(relations, popularity_of(counts), self.deviations, weights, new=after)

    def chosen(self, events: Interactions) -> Interactions:
        """Drop interactions that count against their item: relations are not learned from them."""
        return events.where(self.dataset.chosen(events))

    def without_skips(self, events: Interactions, held_out: HeldOut) -> tuple[Interactions, HeldOut]:
        """Drop events that count against items, from interactions and from held-out histories."""
        windows = chosen_windows(held_out.windows, self.dataset.event_weights)
        return self.chosen(events), replace(held_out, windows=windows)

    def targets(self, events: Interactions) -> Bools:
        """Mask interactions that may be held out, [N]: with event types, a user's first positive one with an item."""
        allowed = self.dataset.chosen(events)
        if self.dataset.event_weights:
            rows = np.flatnonzero(allowed)
            pair = events.owner[rows] * len(self.dataset.items) + events.item_index[rows]
            allowed = np.zeros_like(allowed)
            allowed[rows[np.unique(pair, return_index=True)[1]]] = True
        return allowed

    def held_out(self, events: Interactions, rng: np.random.Generator) -> list[tuple[Interactions, HeldOut]]:
        """Split off held-out interactions, one per held-out user.

        Returns:
            For each fold the other users' interactions and the held-out ones; one fold, or several that hold out every
            user in turn where users are few.
        """
        parts = []
        for held in user_folds(
            _read_lengths(self.targets(events), events, self.ordered), self.settings.held_out, rng
        ):
            others = events.of_users(np.setdiff1d(np.arange(len(events.lengths)), held))
            asked = events.of_users(held)
            parts.append(
                (others, hold_out(asked, self.ordered, self.settings.history, rng, self.targets(asked)))
            )
        return parts

    def simulated_new_items(self, events: Interactions, rng: np.random.Generator) -> SimulatedNewItems | None:
        """Treat some items as new, and hold out interactions with them."""
        chosen = self.chosen(events)
        return simulate_new_items(
            chosen,
            self.targets(chosen),
            len(self.dataset.items),
            self.ordered,
            self.settings.history,
            rng,
        )

    def network_data(self, events: Interactions, relations: Mapping[str, Relation]) -> NetworkData:
        """Collect the network's training data."""
        items = len(self.dataset.items)
        known = [relations[name] for name in ("cooccurrence", "succession") if name in relations]
        related = sparse.csr_matrix(sum(one.matrix for one in known if isinstance(one, PairRelation)))
        timed = self.ordered and self.dataset.info.has_times
        content = self.content.dense(self.described, items)
        return NetworkData(self.chosen(events), related, content, self.deviations, self.ordered, timed)

    def fold(self, events: Interactions, held_out: HeldOut) -> tuple[Fold, int]:
        """Fit to some users; the network trains for the number of epochs that is best on the held-out interactions."""
        scorer = self.scorer(events)
        if not self.settings.network_size:
            return Fold(scorer, held_out), 0
        items = len(self.dataset.items)
        most = max(min(VALIDATED, CELLS // items), 100)
        asked = held_out.limited(most, np.random.default_rng(self.seed))
        hidden = seen_items(asked, items)

        def ndcg(network: ItemNetwork) -> float:
            logits = network.logits(scorer.chosen(asked.windows), self.deviations)
            found = mean_ndcg(logits + hidden, asked.target)
            self.tell(f"network: NDCG@{DEPTH} {found:.4f} on {len(asked):,} held-out interactions")
            return found

        data = self.network_data(events, scorer.relations)
        network, epochs = train_network(data, self.settings, self.seed, ndcg)
        return Fold(replace(scorer, network=network), held_out), epochs


def _read_lengths(targets: Bools, events: Interactions, ordered: bool) -> Ints:
    """Count each user's interactions, [U]: up to the last target if ordered; 0 without a target."""
    rows = np.flatnonzero(targets)
    end = np.searchsorted(rows, events.offsets[1:])
    last = np.concatenate([[-1], rows])[end]
    lengths = np.maximum(last + 1 - events.offsets[:-1], 0)
    return lengths if ordered else np.where(lengths > 0, events.lengths, 0)


def _relations(events: Interactions, items: int, settings: RecommendSettings) -> dict[str, Relation]:
    found: dict[str, Relation] = {
        "cooccurrence": cooccurrence(events, items, settings.damping, settings.neighbours)
    }
    if settings.ordered:
        found["succession"] = succession(events, items, settings.damping, settings.neighbours)
    if items <= settings.ridge_items:
        found["ridge"] = regression(events, items, settings.ridge or DEFAULT_RIDGE)
    return found


def _tuned(fitting: _Fitting, events: Interactions, rng: np.random.Generator) -> _Fitting:
    """Tune the ridge penalty, the network's epochs and all weights on held-out users."""
    settings, items, tell = fitting.settings, len(fitting.dataset.items), fitting.tell
    parts = fitting.held_out(events, rng)
    number = sum(len(held_out) for _, held_out in parts)
    if number < FEWEST:
        tell(
            f"{number} held-out interactions are too few to tune the weights, which keep their initial values"
        )
        return fitting
    if settings.ridge is None and items <= settings.ridge_items:
        penalty = best_penalty([fitting.without_skips(*part) for part in parts], items)
        tell(f"ridge penalty {penalty:g}")
        fitting = replace(fitting, settings=settings.model_copy(update={"ridge": penalty}))
    folds, epochs = zip(*(fitting.fold(others, held_out) for others, held_out in parts), strict=True)
    timed = fitting.ordered and fitting.dataset.info.has_times
    grids = Grids(
        fitting.ordered, timed, bool(fitting.deviations.any()) and not fitting.dataset.event_weights
    )
    weights = tune(folds, grids, settings.rounds, rng, tell)
    if fitting.described and (taken := fitting.simulated_new_items(events, rng)) is not None:
        tuned = [Fold(replace(one.scorer, weights=weights), one.held_out) for one in folds]
        newcomers = tune_newcomers(taken, tuned, grids, rng, tell)
        weights = weights.model_copy(update={"newcomers": newcomers})
    if settings.network_size and not weights.network:
        tell("network: left out, because it does not improve NDCG on held-out interactions")
    return replace(fitting, weights=weights, epochs=round(float(np.mean(epochs))))


def fit_ratings_of(
    dataset: Dataset, users: Ints, settings: RecommendSettings, items: ItemSettings, seed: int = 0
) -> RatingModel:
    """Fit the rating model alone; arguments as of :func:`fit_recommender`.

    Raises:
        DataError: The data has no ratings.
    """
    events = dataset.interactions.of_users(users[dataset.interactions.lengths[users] > 0])
    _, described = fit_content(dataset, settings, items)
    found = _ratings(dataset, events, settings, described, np.random.default_rng(seed))
    if found is None:
        raise DataError(f"{dataset.info.name} has no ratings, so none can be predicted", dataset.path)
    return found


def _ratings(
    dataset: Dataset,
    events: Interactions,
    settings: RecommendSettings,
    described: Mapping[str, VectorRelation],
    rng: np.random.Generator,
) -> RatingModel | None:
    if dataset.info.feedback != "ratings" or settings.rating_models == 0:
        return None
    return fit_rating_model(dataset, events, settings, described, rng)
