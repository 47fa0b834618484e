"""Synthetic event logs, and a row-by-row oracle of their fold."""

import csv
from typing import NamedTuple

import torch

from palate.config.recipe import StreamingSettings, UniversalSettings
from palate.items.categories import build_category_table
from palate.model.model import PersonalizedModel
from palate.schema import History
from small_dataset import small_dataset
from tiny import made_up_table, tiny_backbone, tiny_model, unbound_model

DATA = small_dataset()
SCALE = DATA.info.rating_values
USERS = ("anna", "bo", "7", "Ω", "e")
FIELDS = ("user_id", "item_id", "rating", "timestamp", "event_id", "deleted")


class Row(NamedTuple):
    """A row of a log; ``value`` is an index into the rating scale."""

    user: str
    item: int
    value: int
    time: int
    event: str = ""
    deleted: bool = False


def model_of(kind, repeats=False):
    """Build a model with random weights: ``counts``, ``latent`` (with counts), or ``streaming`` with recency."""
    if kind == "streaming":
        encoder = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2, recency=True)
        model = tiny_model(DATA, encoder, repeats=repeats)
    else:
        plain = unbound_model().bind(DATA)
        latent = None if kind == "counts" else StreamingSettings(num_queries=6, d_model=16, num_heads=2)
        encoder = UniversalSettings(d_model=16, num_layers=1, num_heads=2, latent=latent)
        settings = plain.settings.model_copy(update={"user_encoder": encoder, "repeats": repeats})
        vectors = None if latent is None else made_up_table(DATA)
        torch.manual_seed(3)
        model = PersonalizedModel(
            settings, tiny_backbone(), build_category_table(DATA, vectors), plain.summary
        ).eval()
    with torch.no_grad():
        for name, weight in model.user_encoder.named_parameters():
            if "reader" in name and weight.dim() > 1:
                weight.mul_(3)
    return model


def write_log(path, rows):
    """Write rows as CSV, with ids and deletions if there are any."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(FIELDS)
        for row in rows:
            rating = "" if row.deleted else SCALE[row.value]
            lines.writerow(
                [
                    row.user,
                    DATA.item_ids[row.item],
                    rating,
                    row.time,
                    row.event,
                    "true" if row.deleted else "",
                ]
            )
    return path


def last_rows(rows, repeats=False):
    """Fold row by row: return the effective rows by user, oldest first."""
    rank = lambda row: (row.time, row.deleted, 0 if row.deleted else row.value)  # noqa: E731
    kept = {}
    for row in rows:
        kept.setdefault((row.user, row.item), set()).add(row)
    found = {}
    for (user, _), some in kept.items():
        if repeats:
            ended = max((row.time for row in some if row.deleted), default=-1)
            live = [row for row in some if not row.deleted and row.time > ended]
        else:
            live = [max(some, key=rank)]
            live = [row for row in live if not row.deleted]
        if live:
            found.setdefault(user, []).extend(live)
    for user, some in found.items():
        last = {}
        for row in some:
            if row.event:
                last[row.event] = max(row, last.get(row.event, row), key=rank)
        some = [row for row in some if not row.event or last[row.event] is row]
        found[user] = sorted(some, key=lambda row: (row.time, row.item, row.event, row.value))
    return found


def history_of(user, rows):
    """Return the history of effective rows."""
    ids = [row.event for row in rows] if any(row.event for row in rows) else ()
    return History(
        user,
        [DATA.item_ids[row.item] for row in rows],
        [SCALE[row.value] for row in rows],
        [row.time for row in rows],
        ids,
    )
