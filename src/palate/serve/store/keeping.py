"""The cache of encodings: writes those of many requests in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from palate.serve.store.changes import split_values
from palate.serve.store.tables import catalogue, encoded, users


@dataclass(frozen=True)
class Encoded:
    """An encoded history: the serialised user prompt, a streaming encoder's state, and the history's version."""

    version: int
    prompt: bytes
    state: bytes | None = None


@dataclass(frozen=True)
class Keeping:
    """A request to cache a model's encoding of a user's history."""

    user_key: int
    model: str
    made: Encoded
    removals: int | None = None
    """Count of deletions of items at the time of encoding; None if the encoding holds no item indices."""

    @property
    def pages(self) -> int:
        """Size in database pages of 4 KiB."""
        return 1 + (len(self.made.prompt) + len(self.made.state or b"")) // 4096


def keep_all(connection: Connection, kept: Sequence[Keeping]) -> list[None]:
    """Cache encodings, except those that are older than a cached one or contain deleted events or items.

    Rows are locked in the same order as by a deletion of items, and users by their keys, which prevents deadlocks.
    """
    removals = connection.execute(select(catalogue.c.removals).with_for_update(read=True)).scalar_one()
    keys = sorted({one.user_key for one in kept})
    found = select(users.c.key, users.c.forgotten).order_by(users.c.key).with_for_update(read=True)
    forgotten = {
        row.key: row.forgotten
        for some in split_values(keys)
        for row in connection.execute(found.where(users.c.key.in_(some)))
    }
    rows: dict[tuple[int, str], Keeping] = {}
    for one in kept:
        place = one.user_key, one.model
        newer = place not in rows or rows[place].made.version < one.made.version
        valid = one.user_key in forgotten and forgotten[one.user_key] <= one.made.version
        if newer and valid and one.removals in (None, removals):
            rows[place] = one
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        row = dialect.insert(encoded)
        row = row.on_conflict_do_update(
            index_elements=[encoded.c.user_key, encoded.c.model],
            set_={name: row.excluded[name] for name in ("version", "prompt", "state")},
            where=encoded.c.version < row.excluded.version,
        )
        content = [
            {"user_key": one.user_key, "model": one.model, **asdict(one.made)} for one in rows.values()
        ]
        connection.execute(row, content)
    return [None] * len(kept)
