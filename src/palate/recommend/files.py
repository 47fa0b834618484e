"""Files of a recommender: ``recommender.json``, ``recommender.safetensors`` and ``items.parquet``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel
from safetensors.numpy import save
from scipy import sparse

from palate.data.storage import ITEM_COLUMNS
from palate.errors import DataError
from palate.recommend.content import ItemContent, TextReading
from palate.recommend.event_weights import EventWeights
from palate.recommend.network import ItemNetwork
from palate.recommend.rating_calibration import RatingCalibration
from palate.recommend.ratings import RatingModel
from palate.recommend.recommender import RECOMMENDER_FORMAT, CatalogueFacts, Recommender
from palate.recommend.relations import PairRelation, Relation, VectorRelation
from palate.recommend.scorer import Scorer, ScorerWeights
from palate.runs.run import load_run, run_folder
from palate.system.arrays import map_arrays
from palate.system.files import fresh_folder, read_bytes, write_bytes, write_json
from palate.system.records import Frozen, parse_record

HEADER, TENSORS, ITEMS = "recommender.json", "recommender.safetensors", "items.parquet"
_AGAIN = "copy the recommender again, or train it again"
_CONTENT = ("rarity", "reduction", "mean", "axes")
_SCORER_ARRAYS = ("popularity", "deviations", "new")
_SPARSE = ("data", "indices", "indptr", "shape")
_RATING_ARRAYS = ("items", "variance", "new", "content", "content_variance", "centre", "taste")


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


def save_recommender(recommender: Recommender, folder: Path | str) -> None:
    """Save a recommender atomically to a new or empty folder.

    Raises:
        OutputError: The folder is not empty, or cannot be written.
    """
    scorer, ratings = recommender.scorer, recommender.ratings
    arrays: dict[str, np.ndarray] = {name: getattr(scorer, name) for name in _SCORER_ARRAYS}
    for name, relation in scorer.relations.items():
        content = relation.matrix if isinstance(relation, PairRelation) else relation.vectors
        arrays |= _arrays(f"relations.{name}", content)
        if isinstance(relation, VectorRelation) and relation.kept is not None:
            arrays[f"relations.{name}.kept"] = relation.kept
    arrays |= {f"content.{name}": getattr(recommender.content, name) for name in _CONTENT}
    if scorer.network is not None:
        arrays |= {f"network.{name}": array for name, array in scorer.network.arrays().items()}
    if ratings is not None:
        arrays |= {f"ratings.{name}": getattr(ratings, name) for name in _RATING_ARRAYS}
    header = _Header(
        facts=recommender.facts,
        weights=scorer.weights,
        vector_relations=tuple(
            name for name, relation in scorer.relations.items() if isinstance(relation, VectorRelation)
        ),
        poolings=None if scorer.network is None else scorer.network.poolings,
        reading=recommender.content.reading,
        ratings=None if ratings is None else _Ratings.of(ratings),
    )
    table = io.BytesIO()
    recommender.items.cast(pl.Schema(ITEM_COLUMNS)).write_parquet(table)
    with fresh_folder(folder) as place:
        write_bytes(place / ITEMS, table.getvalue())
        write_bytes(place / TENSORS, save({name: np.ascontiguousarray(one) for name, one in arrays.items()}))
        write_json(place / HEADER, header.model_dump(mode="json"))


def load_recommender(run: Path | str) -> Recommender:
    """Load the recommender of a run that ``palate train`` wrote from a recipe with a section ``recommend``.

    Args:
        run: Folder of a recommender's run, or of a language model's run with a recommender beside it.

    Returns:
        The recommender.

    Raises:
        DataError: The folder is not a run, holds no recommender, or a file is damaged.

    Example:
        >>> recommender = palate.load_recommender("runs/recommender")
        >>> recommender.facts.feedback
        'ratings'
    """
    return read_recommender(load_run(recommender_run(run)).model)


def is_recommender(run: Path | str) -> bool:
    """Return whether a folder is the run of a recommender without a language model."""
    found = run_folder(run)
    return found.there and found.recipe.is_recommenders


def recommender_run(run: Path | str) -> Path:
    """Return the recommender's run for a run: the one trained beside a language model, or else the run itself."""
    place = Path(run).expanduser()
    return recommender_beside(place) or place


def recommender_beside(run: Path | str) -> Path | None:
    """Return the run of the recommender that was trained beside a language model; None if there is none."""
    folder = run_folder(run).recommender
    return folder if is_recommender(folder) else None


def read_recommender(folder: Path) -> Recommender:
    """Read the files that :func:`save_recommender` wrote; raises as :func:`load_recommender` does."""
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
    return Recommender(header.facts, items, scorer, ratings, content)


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
