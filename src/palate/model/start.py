"""Initialisation of a new model's weights: from the catalogue, the backbone's embeddings, or another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from palate.backbones.base import Backbone
from palate.config.recipe import StreamingSettings
from palate.encoders.batch import VectorCatalogue
from palate.encoders.catalogue_free import UniversalEncoder
from palate.encoders.equipped import EquippedEncoder
from palate.encoders.ranking import NamedCategories
from palate.encoders.streaming import LatentQueries, StreamingEncoder
from palate.encoders.uem import UEM
from palate.errors import DataError, MismatchError, RecipeError
from palate.items.probe import CategoryProbe, category_probe
from palate.items.table import ItemTable
from palate.model.config import ITEMS, WEIGHTS, model_folder, model_settings
from palate.model.tables import Table, encoder_sizes, load_table, vectors_of
from palate.schema import Ints

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.model import PersonalizedModel

LIKING_WORDS = (" liked", " disliked")
"""Words towards which a category's vector is shifted, for pretrained backbones."""
LIKING_STEP = 0.1
"""Shift per unit of log-odds, as a fraction of a token's distance from the mean token."""
NAMED_STEPS = 3.0
"""Shift of the vectors that name categories, in these units."""
NOTHING_WORD = " nothing"
"""Word that initialises the vector of a position without a category."""
PART = "user_encoder."
TO_THE_BACKBONE = frozenset({"project", "name", "liking", "named", "view"})
"""Parameters of user encoders in a backbone's embedding space, which cannot be transferred to another backbone."""
INNER = "encoder"
"""Name of the wrapped encoder in an equipped one."""


@torch.no_grad()
def start_task_prompt(model: PersonalizedModel, backbone: Backbone, text: str) -> None:
    """Initialise K from a text's token embeddings, repeated or truncated to its length."""
    tokens = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise RecipeError("model.task_prompt_text has no tokens; write some words, or leave it out")
    length = len(model.task_prompt)
    repeated = torch.tensor((tokens * -(-length // len(tokens)))[:length], dtype=torch.long)
    model.task_prompt.copy_(backbone.token_embeddings(repeated))


def start_stream(encoder: UEM, dataset: Dataset, table: ItemTable, event_texts: bool = False) -> None:
    """Initialise the UEM's input projection from the most frequent categories, with at most half of its channels."""
    if encoder.narrow is None:
        return
    chosen = _frequent(dataset, encoder.narrow.out_features // 2)
    probe = category_probe(table, dataset.category_matrix[:, chosen])
    encoder.start_from(_catalogue(table, event_texts), _weights(probe, table, event_texts))


def _catalogue(table: ItemTable, event_texts: bool) -> VectorCatalogue:
    """Create the catalogue of the items, with a field of zeros for texts of events if these are read."""
    catalogue = VectorCatalogue(table)
    if event_texts:
        vectors = catalogue.item_vectors
        catalogue.item_vectors = torch.cat([vectors, torch.zeros_like(vectors[:, :1])], dim=1)
    return catalogue


def _weights(probe: CategoryProbe, table: ItemTable, event_texts: bool) -> Tensor:
    """Return a probe's weights [C, F·S], padded with zeros for texts of events."""
    return torch.nn.functional.pad(torch.from_numpy(probe.weights), (0, table.size if event_texts else 0))


def _frequent(dataset: Dataset, most: int) -> Ints:
    """Return the indices of the most frequent categories of the catalogue, ascending."""
    frequency = dataset.category_matrix.sum(axis=0)
    return np.sort(np.argsort(-frequency, kind="stable")[:most])


def start_keys(latent: LatentQueries, dataset: Dataset, table: Table, event_texts: bool = False) -> None:
    """Initialise the keys of latent queries from the most frequent categories, except one for all items."""
    vectors = vectors_of(table)
    assert vectors is not None, "latent queries read item vectors"
    chosen = _frequent(dataset, len(latent.query) - 1)
    probe = category_probe(vectors, dataset.category_matrix[:, chosen])
    latent.start_keys(_weights(probe, vectors, event_texts), torch.from_numpy(probe.bias))


def with_latent(
    model: PersonalizedModel, settings: StreamingSettings, table: Table, dataset: Dataset
) -> PersonalizedModel:
    """Return a model whose universal encoder also has latent queries, initialised so that they change nothing.

    Args:
        model: A model that is bound to the dataset.
        settings: Sizes of the latent queries.
        table: The dataset's items, with vectors.
        dataset: The dataset.

    Returns:
        The model; all other weights are shared.
    """
    encoder = model.user_encoder
    assert isinstance(encoder, UniversalEncoder)
    sizes = encoder_sizes(table, model.soft_task_prompt.shape[-1], len(dataset.categories))
    added = encoder.with_latent(settings, sizes)
    assert added.latent is not None
    start_keys(added.latent, dataset, table)
    latent = model.settings.user_encoder.model_copy(update={"latent": settings})
    return model.with_encoder(added, model.settings.model_copy(update={"user_encoder": latent}), table)


def start_queries(
    model: PersonalizedModel,
    encoder: StreamingEncoder,
    dataset: Dataset,
    table: ItemTable,
    backbone: Backbone,
) -> None:
    """Initialise the queries from the most frequent categories, except one for all items."""
    chosen = _frequent(dataset, len(encoder.query) - 1)
    probe = category_probe(table, dataset.category_matrix[:, chosen])
    liking, names = _liking(model, backbone), _name_embeddings(dataset, backbone)
    encoder.start_from(
        torch.from_numpy(chosen),
        _weights(probe, table, model.settings.event_texts),
        torch.from_numpy(probe.bias),
        names[chosen],
        liking,
    )
    if encoder.named is not None:
        _start_names(encoder.named, names, liking, backbone)


def start_equipped(
    model: PersonalizedModel,
    encoder: EquippedEncoder,
    dataset: Dataset,
    table: Table,
    backbone: Backbone,
) -> None:
    """Initialise an equipped encoder's inputs from the catalogue, and its names from the backbone's embeddings."""
    vectors = vectors_of(table)
    assert vectors is not None, "an equipped encoder reads item vectors"
    if encoder.settings.standardised:
        chosen = _frequent(dataset, encoder.settings.d_model // 2)
        probe = category_probe(vectors, dataset.category_matrix[:, chosen])
        texts = model.settings.event_texts
        weights = _weights(probe, vectors, texts)
        encoder.start_from(_catalogue(vectors, texts), weights, torch.from_numpy(chosen))
    if encoder.named is not None:
        names = _name_embeddings(dataset, backbone)
        _start_names(encoder.named, names, _liking(model, backbone), backbone)


def _name_embeddings(dataset: Dataset, backbone: Backbone) -> Tensor:
    """Return the mean embeddings of the categories' names, [L, E]."""
    return backbone.mean_embeddings([f" {name}" for name in dataset.categories])


def _liking(model: PersonalizedModel, backbone: Backbone) -> Tensor | None:
    """Return the shifts towards liked and disliked, [2, E]; None for a backbone that is trained."""
    if (like := model.token_like) is None:
        return None
    away = backbone.mean_embeddings(LIKING_WORDS) - like.mean
    # small steps, as the backbone cannot recognise a name whose vector is shifted far
    return LIKING_STEP * like.distance * torch.nn.functional.normalize(away, dim=-1)


def _start_names(named: NamedCategories, names: Tensor, liking: Tensor | None, backbone: Backbone) -> None:
    halves = torch.zeros(2, names.shape[-1]) if liking is None else NAMED_STEPS * liking
    named.start_from(torch.cat([names, backbone.mean_embeddings([NOTHING_WORD])]), halves)


@torch.no_grad()
def start_user_encoder(model: PersonalizedModel, run: Path) -> None:
    """Initialise the user encoder from a trained run, except for parameters in the backbone's embedding space.

    Raises:
        MismatchError: The run's encoder has another kind or size, or other items or categories.
        DataError: The run's files cannot be read.
    """
    folder = model_folder(run)
    settings = model_settings(run)
    own = model.settings
    theirs = settings.user_encoder
    if isinstance(theirs, StreamingSettings) and isinstance(own.user_encoder, StreamingSettings):
        theirs = theirs.model_copy(
            update={"named": own.user_encoder.named}
        )  # in the backbone's space, not copied
    pairs: dict[str, tuple[object, object]] = {
        "a user encoder": (theirs, own.user_encoder),
        "categories": (settings.categories, own.categories),
    }
    if theirs == own.user_encoder and (vectors := vectors_of(model.table)) is not None:
        known = vectors_of(load_table(theirs, folder / ITEMS))
        pairs["item vectors"] = (known and known.encoder, vectors.encoder)
    for what, (found, wanted) in pairs.items():
        if found != wanted:
            raise MismatchError(
                f"model.user_encoder_from: {run} has {what} {found}, and this recipe {wanted}; make them equal, or "
                "leave it out"
            )
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:  # reads only the encoder's tensors
            state = {
                name.removeprefix(PART): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - it is no mapping
                if name.startswith(PART) and not _to_the_backbone(name.split(".")[1:])
            }
    except (OSError, SafetensorError) as error:
        raise DataError(f"not the weights of a model ({error}); copy it again", folder / WEIGHTS) from error
    meant = state.get("category_of_query")
    if meant is not None and not torch.equal(meant, model.user_encoder.get_buffer("category_of_query")):
        raise MismatchError(
            f"model.user_encoder_from: the queries of {run} are of other categories, the most frequent ones of "
            "another catalogue; train both on the same data, or leave it out"
        )
    model.user_encoder.load_state_dict(state, strict=False)


def _to_the_backbone(names: Sequence[str]) -> bool:
    """Return whether a user encoder's parameter is in a backbone's embedding space, by the parts of its name."""
    first, *rest = names
    return first in TO_THE_BACKBONE or (first == INNER and bool(rest) and rest[0] in TO_THE_BACKBONE)
