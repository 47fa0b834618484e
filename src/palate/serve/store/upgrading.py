"""Stored state of upgrades: which users are encoded for the new model, and which of the two models answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple, TypeAlias

from sqlalchemy import and_, func, select
from sqlalchemy.dialects import postgresql, sqlite

from palate.serve.store.database import Database
from palate.serve.store.tables import encoded, upgrades, users

Which: TypeAlias = Literal["old", "new"]


class Pair(NamedTuple):
    """Identities of the old and the new model of an upgrade."""

    old: str
    new: str


@dataclass(frozen=True)
class Decision:
    """The model that answers in all servers of the store, and the reason."""

    serving: Which
    reason: str
    drift: str | None = None
    """Comparison of the models' answers, as JSON; None if they were not compared."""


class UpgradeStore:
    """Progress and decisions of upgrades, in the database of the user store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decision(self, pair: Pair) -> Decision | None:
        """Return the decision about two models; None before there is one."""
        found = select(upgrades.c.serving, upgrades.c.reason, upgrades.c.drift).where(
            upgrades.c.old == pair.old, upgrades.c.new == pair.new
        )
        with self._database.reading() as connection:
            row = connection.execute(found).one_or_none()
        return None if row is None else Decision(*row)

    def decide(self, pair: Pair, made: Decision, overwrite: bool) -> Decision:
        """Store a decision.

        Args:
            pair: The models.
            made: The decision.
            overwrite: Whether to overwrite an earlier decision, which otherwise stays valid.

        Returns:
            The valid decision.
        """
        dialect = sqlite if self._database.sqlite else postgresql
        row = dialect.insert(upgrades).values(**pair._asdict(), **asdict(made))
        keys = [upgrades.c.old, upgrades.c.new]
        if overwrite:  # the stored comparison is kept
            changed = {"serving": made.serving, "reason": made.reason}
            row = row.on_conflict_do_update(index_elements=keys, set_=changed)
        else:
            row = row.on_conflict_do_nothing(index_elements=keys)
        with self._database.writing() as connection:
            connection.execute(row)
        found = self.decision(pair)
        assert found is not None
        return found

    def unprepared(self, model: str, after: int, most: int) -> list[tuple[int, str]]:
        """Return keys and ids of at most ``most`` users without an encoding of a model, by key, after a key."""
        of_model = and_(encoded.c.user_key == users.c.key, encoded.c.model == model)
        found = (
            select(users.c.key, users.c.user_id)
            .select_from(users.outerjoin(encoded, of_model))
            .where(users.c.key > after, encoded.c.user_key.is_(None))
            .order_by(users.c.key)
            .limit(most)
        )
        with self._database.reading() as connection:
            return [(key, user_id) for key, user_id in connection.execute(found)]

    def progress(self, model: str) -> tuple[int, int]:
        """Return the number of users with an encoding of a model, and the number of all users."""
        made = select(func.count()).select_from(encoded).where(encoded.c.model == model)
        with self._database.reading() as connection:
            prepared = connection.execute(made).scalar_one()
            return int(prepared), int(
                connection.execute(select(func.count()).select_from(users)).scalar_one()
            )
