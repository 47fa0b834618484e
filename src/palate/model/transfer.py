"""A user encoder that starts from one that another run has trained, whatever backbone that run spoke to."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from palate.config.recipe import StreamingSettings
from palate.errors import DataError, MismatchError
from palate.items.table import ItemTable
from palate.model.config import ITEMS, WEIGHTS, model_folder, model_settings
from palate.model.model import PersonalizedModel

PART = "user_encoder."
TO_THE_BACKBONE = frozenset({"project", "name", "liking", "named"})
"""Parts of user encoders that speak a backbone's language: another backbone's are of no use."""


@torch.no_grad()
def start_user_encoder(model: PersonalizedModel, run: Path) -> None:
    """Give the user encoder the weights that ``run`` trained, but for what speaks the backbone's language.

    Raises :class:`MismatchError` where that run's encoder is of another kind or size, or reads other items or
    categories, and :class:`DataError` where it cannot be read.
    """
    folder = model_folder(run)
    settings = model_settings(run)
    own = model.settings
    theirs = settings.user_encoder
    if isinstance(theirs, StreamingSettings) and isinstance(own.user_encoder, StreamingSettings):
        theirs = theirs.model_copy(update={"named": own.user_encoder.named})  # speaks the backbone's language
    pairs: dict[str, tuple[object, object]] = {
        "a user encoder": (theirs, own.user_encoder),
        "categories": (settings.categories, own.categories),
    }
    if theirs == own.user_encoder and isinstance(model.table, ItemTable):
        pairs["item vectors"] = (ItemTable.load(folder / ITEMS).encoder, model.table.encoder)
    for what, (found, wanted) in pairs.items():
        if found != wanted:
            raise MismatchError(
                f"model.user_encoder_from: {run} has {what} {found}, and this recipe {wanted}; make them the same, or "
                "leave it out"
            )
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:  # a backbone that lies there, too, is not read
            state = {
                name.removeprefix(PART): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - it is no mapping
                if name.startswith(PART) and name.split(".")[1] not in TO_THE_BACKBONE
            }
    except (OSError, SafetensorError) as error:
        raise DataError(f"not the weights of a model ({error}); copy it again", folder / WEIGHTS) from error
    meant = state.get("category_of_query")
    if meant is not None and not torch.equal(meant, model.user_encoder.get_buffer("category_of_query")):
        raise MismatchError(
            f"model.user_encoder_from: the queries of {run} mean other categories, by another catalogue's "
            "frequencies; train both on the same data, or leave it out"
        )
    model.user_encoder.load_state_dict(state, strict=False)
