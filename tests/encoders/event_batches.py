"""Random event batches for user encoders, and selections from them."""

import torch

from palate.config.recipe import StreamingSettings
from palate.encoders.base import EncoderSizes
from palate.encoders.batch import EventBatch

SIZES = EncoderSizes(fields=2, vector=16, embedding=32, categories=5)
STREAMING_TINY = StreamingSettings(num_queries=8, d_model=16, num_layers=1, num_heads=2)
EVENTS = ("item", "rating", "mask", "time")


def events(lengths, width=None, items=30, seed=0):
    """Draw random windows of the given lengths, padded to ``width``."""
    rng = torch.Generator().manual_seed(seed)
    width = max(lengths) if width is None else width
    shape = (len(lengths), width)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return EventBatch(
        item_vectors=torch.randn(items, 2, 16, generator=rng),
        item=torch.randint(items, shape, generator=rng) * mask,
        rating_vectors=torch.randn(5, 16, generator=rng),
        rating_numbers=torch.linspace(-1, 1, 5),
        rating=torch.randint(5, shape, generator=rng) * mask,
        mask=mask,
        time=torch.rand(shape, generator=rng, dtype=torch.float64) * 9000,
    )


def changed(batch, **columns):
    return EventBatch(**{**vars(batch), **columns})


def part(batch, chosen):
    """Select events of every window by position."""
    return changed(batch, **{name: getattr(batch, name)[:, chosen] for name in EVENTS})


def cut(batch, row):
    """Select one row, without its padding."""
    length = int(batch.mask[row].sum())
    columns = {name: getattr(batch, name)[row : row + 1, :length] for name in EVENTS}
    return changed(batch, **columns)
