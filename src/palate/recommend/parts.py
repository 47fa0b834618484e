"""Parts of a recommender: saved to files, loaded from a folder or the hub, and uploaded."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl
from pydantic import BaseModel
from safetensors.numpy import save
from scipy import sparse

from palate.data.event_types import EventTypes, Unrated
from palate.data.storage import ITEM_COLUMNS
from palate.errors import DataError
from palate.recommend.card import RecommenderCardFacts, recommender_card
from palate.recommend.content import ItemContent, TextReading
from palate.recommend.event_weights import EventWeights
from palate.recommend.network import ItemNetwork
from palate.recommend.rating_calibration import RatingCalibration
from palate.recommend.ratings import RatingModel
from palate.recommend.relations import PairRelation, Relation, VectorRelation
from palate.recommend.scorer import Scorer, ScorerWeights
from palate.runs.hub import SharedModel, saved_folder
from palate.schema import Feedback
from palate.system.arrays import map_arrays
from palate.system.files import fresh_folder, read_bytes, write_bytes, write_json, write_text
from palate.system.records import Frozen, parse_record

if TYPE_CHECKING:
    from typing_extensions import Self

    from palate.data.dataset import Dataset
    from palate.runs.run import RunFolder

RECOMMENDER_FORMAT = 4
"""Format number of a recommender's files; increase it with each change of their content or meaning."""
HEADER, TENSORS, ITEMS, CARD = "recommender.json", "recommender.safetensors", "items.parquet", "README.md"
_AGAIN = "copy the recommender again, or train it again"
_CONTENT = ("rarity", "reduction", "mean", "axes")
_SCORER_ARRAYS = ("popularity", "deviations", "new")
_SPARSE = ("data", "indices", "indptr", "shape")
_RATING_ARRAYS = ("items", "variance", "new", "content", "content_variance", "centre", "taste")


class CatalogueFacts(Frozen):
    """Facts about the training data that a recommender needs."""

    name: str
    feedback: Feedback
    repeats: bool = False
    """Whether repeated interactions with an item all count; otherwise only the last."""
    event_types: EventTypes | None = None
    rating_values: tuple[float, ...]
    like_above: float
    item_noun: str
    categories: tuple[str, ...]
    history: int
    missing: tuple[str, ...]
    """What the data lacks, each with the consequence, as sentences."""

    @property
    def unrated(self) -> Unrated:
        """Weight of events without a rating: by type, or 1; None if the data has ratings."""
        return None if self.feedback == "ratings" else self.event_types or 1.0

    @classmethod
    def of(cls, dataset: Dataset, history: int, missing: tuple[str, ...]) -> CatalogueFacts:
        """Collect the facts about a dataset."""
        info = dataset.info
        return cls(
            name=info.name,
            feedback=info.feedback,
            repeats=info.repeats,
            event_types=info.event_types,
            rating_values=info.rating_values,
            like_above=info.like_above,
            item_noun=info.item_noun,
            categories=info.categories,
            history=history,
            missing=missing,
        )


class _Ratings(Frozen):
    """Scalars of a rating model."""

    mean: float
    noise: tuple[float, ...]
    like_above: float
    calibration: RatingCalibration
    new_calibration: RatingCalibration

    @classmethod
    def of(cls, model: RatingModel) -> _Ratings:
        return cls(
            mean=model.mean,
            noise=tuple(model.noise.tolist()),
            like_above=model.like_above,
            calibration=model.calibration,
            new_calibration=model.new_calibration,
        )


class _Numbered(BaseModel):
    """Reads the format number alone, which every version of ``recommender.json`` has."""

    format: int


class _Header(Frozen):
    """Contents of ``recommender.json``."""

    format: int = RECOMMENDER_FORMAT
    facts: CatalogueFacts
    weights: ScorerWeights
    vector_relations: tuple[str, ...]
    poolings: tuple[EventWeights, ...] | None
    """Event weights of each of the network's poolings; None without a network."""
    reading: TextReading | None
    """Text templates and encoder; None without texts."""
    ratings: _Ratings | None


@dataclass(frozen=True, eq=False)
class RecommenderParts(SharedModel):
    """Contents of a recommender's files.

    They hold what was learned of the data: the items with their texts, and sums over users, such as how often two
    items were chosen by the same one. No user's history is in them.
    """

    noun: ClassVar[str] = "recommender"

    facts: CatalogueFacts
    items: pl.DataFrame  # item_id, title, year (nullable), categories (list of str), description (nullable)
    scorer: Scorer
    ratings: RatingModel | None
    content: ItemContent
    run: RunFolder | None = field(default=None, kw_only=True)
    """The run that trained it; None if it was not loaded from a run."""

    def card_named(self, name: str, licence: str | None = None) -> str:
        """Write the model card, in Markdown, with the name that it is loaded by, and its licence."""
        return recommender_card(self._card_facts(name, licence))

    def _card_facts(self, name: str, licence: str | None) -> RecommenderCardFacts:
        facts, scorer = self.facts, self.scorer
        return RecommenderCardFacts(
            data_name=facts.name,
            items=len(self.items),
            categories=len(facts.categories),
            rating_values=facts.rating_values if self.ratings is not None else (),
            relations=tuple(scorer.relations),
            network=scorer.network is not None,
            texts=self.content.reading is not None,
            item_ids=self.items["item_id"].head(2).to_list(),
            example_ratings=facts.rating_values[-2:],
            missing=facts.missing,
            name=name,
            licence=licence,
        )

    def save_pretrained(self, folder: Path | str) -> None:
        """Save the files and a model card atomically to a new or empty folder.

        Raises:
            OutputError: The folder is not empty, or cannot be written.
        """
        scorer, ratings = self.scorer, self.ratings
        arrays: dict[str, np.ndarray] = {name: getattr(scorer, name) for name in _SCORER_ARRAYS}
        for name, relation in scorer.relations.items():
            content = relation.matrix if isinstance(relation, PairRelation) else relation.vectors
            arrays |= _arrays(f"relations.{name}", content)
            if isinstance(relation, VectorRelation) and relation.kept is not None:
                arrays[f"relations.{name}.kept"] = relation.kept
        arrays |= {f"content.{name}": getattr(self.content, name) for name in _CONTENT}
        if scorer.network is not None:
            arrays |= {f"network.{name}": array for name, array in scorer.network.arrays().items()}
        if ratings is not None:
            arrays |= {f"ratings.{name}": getattr(ratings, name) for name in _RATING_ARRAYS}
        header = _Header(
            facts=self.facts,
            weights=scorer.weights,
            vector_relations=tuple(
                name for name, relation in scorer.relations.items() if isinstance(relation, VectorRelation)
            ),
            poolings=None if scorer.network is None else scorer.network.poolings,
            reading=self.content.reading,
            ratings=None if ratings is None else _Ratings.of(ratings),
        )
        table = io.BytesIO()
        self.items.cast(pl.Schema(ITEM_COLUMNS)).write_parquet(table)
        with fresh_folder(folder) as place:
            write_bytes(place / ITEMS, table.getvalue())
            write_bytes(
                place / TENSORS, save({name: np.ascontiguousarray(one) for name, one in arrays.items()})
            )
            write_text(place / CARD, self.card)
            write_json(place / HEADER, header.model_dump(mode="json"))

    @classmethod
    def from_pretrained(cls, folder: Path | str, revision: str | None = None) -> Self:
        """Load a folder of :meth:`save_pretrained`, or a recommender of the hub.

        Args:
            folder: The folder, or ``OWNER/NAME`` on the hub, where there is no folder called OWNER here.
            revision: Branch, tag or commit of one of the hub.

        Returns:
            The recommender.

        Raises:
            DataError: A file is missing or damaged, or there is no such recommender on the hub.
            MismatchError: A folder has no revision.
        """
        folder = saved_folder(folder, revision)
        header = _read_header(folder / HEADER)
        arrays = map_arrays(folder / TENSORS, "the tensors", _AGAIN)
        try:
            relations = {
                name: _relation(arrays, f"relations.{name}", name in header.vector_relations)
                for name in header.weights.relations
            }
            network = None if header.poolings is None else _network(header.poolings, arrays)
            scorer = Scorer(
                relations,
                weights=header.weights,
                network=network,
                **{name: arrays[name] for name in _SCORER_ARRAYS},
            )
            content = ItemContent(
                header.facts.categories, header.reading, *(arrays[f"content.{name}"] for name in _CONTENT)
            )
            ratings = None if header.ratings is None else _rating_model(header.ratings, arrays)
        except (KeyError, ValueError) as error:
            raise DataError(
                f"not the tensors that {HEADER} describes ({error}); {_AGAIN}", folder / TENSORS
            ) from error
        items = _read_items(folder / ITEMS)
        if len(items) != len(scorer.popularity):
            raise DataError(
                f"{len(items)} items, but {TENSORS} has {len(scorer.popularity)}; {_AGAIN}", folder / ITEMS
            )
        return cls(header.facts, items, scorer, ratings, content)


def _read_header(path: Path) -> _Header:
    content = read_bytes(path, "no recommender here; train one from a recipe with a section 'recommend'")
    found = parse_record(_Numbered, content, path, _AGAIN).format
    if found != RECOMMENDER_FORMAT:
        raise DataError(
            f"format {found}, but this palate reads format {RECOMMENDER_FORMAT}; train the recommender again",
            path,
        )
    return parse_record(_Header, content, path, _AGAIN)


def _network(poolings: tuple[EventWeights, ...], arrays: dict[str, np.ndarray]) -> ItemNetwork:
    prefix = "network."
    named = {name.removeprefix(prefix): one for name, one in arrays.items() if name.startswith(prefix)}
    return ItemNetwork.of_arrays(poolings, named)


def _rating_model(numbers: _Ratings, arrays: dict[str, np.ndarray]) -> RatingModel:
    return RatingModel(
        numbers.mean,
        numbers.like_above,
        np.array(numbers.noise),
        arrays["ratings.items"],
        arrays["ratings.variance"],
        arrays["ratings.new"],
        arrays["ratings.content"],
        arrays["ratings.content_variance"],
        arrays["ratings.centre"],
        arrays["ratings.taste"],
        numbers.calibration,
        numbers.new_calibration,
    )


def _arrays(name: str, content: np.ndarray | sparse.csr_matrix) -> dict[str, np.ndarray]:
    if isinstance(content, np.ndarray):
        return {name: content}
    parts = (content.data, content.indices, content.indptr, np.asarray(content.shape, dtype=np.int64))
    return {f"{name}.{part}": array for part, array in zip(_SPARSE, parts, strict=True)}


def _relation(arrays: dict[str, np.ndarray], name: str, vectors: bool) -> Relation:
    content = arrays.get(name)
    if content is None:
        data, indices, indptr, shape = (arrays[f"{name}.{part}"] for part in _SPARSE)
        content = sparse.csr_matrix((data, indices, indptr), shape=tuple(shape.tolist()))
    return VectorRelation(content, arrays.get(f"{name}.kept")) if vectors else PairRelation(content)


def _read_items(path: Path) -> pl.DataFrame:
    content = read_bytes(path, f"the items are missing; {_AGAIN}")
    try:
        items = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"the items cannot be read ({str(error).splitlines()[0]}); {_AGAIN}", path) from error
    if dict(items.schema) != ITEM_COLUMNS:
        raise DataError(f"not a recommender's items; {_AGAIN}", path)
    return items
