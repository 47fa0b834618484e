"""Item tables by their kind: vectors, texts or categories, as the user encoder reads items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from palate.config.recipe import TextSettings
from palate.config.registry import Reads, user_encoders
from palate.encoders.base import EncoderSizes
from palate.encoders.batch import CategoryCatalogue, CategoryEvents, EventBatch, VectorCatalogue
from palate.encoders.text import BlockCatalogue, TextBatch
from palate.items.blocks import BlockTable
from palate.items.categories import CategoryTable
from palate.items.encoder import EncoderIdentity, ItemEncoder
from palate.items.table import ItemTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PreTrainedTokenizerBase

    from palate.config.section import KindSettings
    from palate.schema import Item

Table: TypeAlias = ItemTable | BlockTable | CategoryTable
ItemLookup: TypeAlias = VectorCatalogue | BlockCatalogue | CategoryCatalogue
EventInput: TypeAlias = EventBatch | TextBatch | CategoryEvents
"""Input of a user encoder, as returned by an :data:`ItemLookup`."""
TABLES: dict[Reads, type[Table]] = {
    "vectors": ItemTable,
    "texts": BlockTable,
    "categories": CategoryTable,
    "vectors and categories": CategoryTable,
}


def load_table(settings: KindSettings, folder: Path) -> Table:
    """Load the saved table for a user encoder; raises :class:`DataError` if it is missing or corrupt."""
    return TABLES[user_encoders.find(settings.kind).reads].load(folder)


def catalogue_of(
    table: Table, settings: KindSettings, tokenizer: PreTrainedTokenizerBase, event_texts: bool = False
) -> ItemLookup:
    """Create the lookup module of a table, which converts windows of indices to the user encoder's input."""
    if isinstance(table, BlockTable):
        assert isinstance(settings, TextSettings)
        return BlockCatalogue(table, tokenizer, settings.max_length)
    if isinstance(table, CategoryTable):
        return CategoryCatalogue(table, event_texts)
    return VectorCatalogue(table, event_texts)


def encoder_sizes(table: Table, embedding: int, categories: int, event_texts: bool = False) -> EncoderSizes:
    """Return the sizes of a user encoder by the table, backbone and task; texts of events count as a field."""
    vectors = vectors_of(table)
    fields, size = (0, 0) if vectors is None else vectors.vectors.shape[1:]
    return EncoderSizes(int(fields) + event_texts, int(size), embedding, categories)


def vectors_of(table: Table) -> ItemTable | None:
    """Return the item vectors of a table; None if it has none."""
    if isinstance(table, CategoryTable):
        return table.vectors
    return table if isinstance(table, ItemTable) else None


def extended_table(
    table: Table, items: Sequence[Item], encoder: ItemEncoder | None, device: torch.device
) -> Table:
    """Append new items; raises the errors of each table's ``extended``."""
    if isinstance(table, BlockTable):
        return table.extended(items)
    if isinstance(table, CategoryTable):
        return table.extended(items, encoder)
    return table.extended(items, encoder or ItemEncoder.of(table.encoder, device))


def made_by(table: Table) -> EncoderIdentity | str:
    """Return the identity that tables of one model have to share: item encoder, or kind."""
    if (vectors := vectors_of(table)) is not None:
        return vectors.encoder
    return table.field if isinstance(table, BlockTable) else "categories"


def item_reading(table: Table) -> str:
    """Describe the item encoder for the model card."""
    if (vectors := vectors_of(table)) is not None:
        return vectors.encoder.name
    return "none: items are read " + ("as text" if isinstance(table, BlockTable) else "by their categories")


def described_table(table: Table) -> str:
    """Describe a table, for messages."""
    if isinstance(table, BlockTable):
        return f"items as text, whose categories are called {table.field!r}"
    vectors = vectors_of(table)
    named = "" if vectors is None else f"item vectors of {vectors.encoder.name!r}"
    if isinstance(table, CategoryTable):
        return f"items by their categories and {named}" if named else "items by their categories"
    return named
