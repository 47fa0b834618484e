"""Reads folded states of one user, or of all users in batches, as states or user prompts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from palate.errors import MismatchError, UnknownUserError
from palate.fold.log import block_of
from palate.fold.manifest import FoldManifest, read_fold_manifest
from palate.fold.projections import builder_of, kept_states
from palate.fold.state_builder import StateBuilder
from palate.fold.state_files import read_columns, read_state_of, read_users
from palate.fold.tasks import BUILDER, STATES
from palate.model.history_state import HistoryState
from palate.system.files import read_bytes

if TYPE_CHECKING:
    from palate.encoders.base import KeptState, UserPrompt
    from palate.model.model import PersonalizedModel


class FoldedStates:
    """The folded states in a folder, with their model."""

    def __init__(self, folder: Path, model: PersonalizedModel) -> None:
        self.folder, self.model = folder, model
        self.manifest: FoldManifest = read_fold_manifest(folder)
        mine, its = builder_of(model), self._builder
        if mine.to_bytes() != its.to_bytes():
            raise MismatchError(
                f"{folder} holds states of other weights or items than the model's; fold again with this model's run, "
                "and with --previous to keep the events"
            )

    def __len__(self) -> int:
        return self.manifest.users

    @cached_property
    def _builder(self) -> StateBuilder:
        return StateBuilder.from_bytes(
            read_bytes(self.folder / BUILDER, "the file is missing; copy the fold again")
        )

    def state(self, user_id: str) -> HistoryState:
        """Return the state of one user; raises :class:`UnknownUserError` if there is none."""
        (block,) = block_of(pa.array([user_id]), len(self.manifest.blocks)).tolist()
        found = read_state_of(self._file(block), self._builder.parts, user_id)
        if found is None:
            raise UnknownUserError(f"no user {user_id!r} in {self.folder}")
        return HistoryState(self.model, kept_states(found, self._builder))

    def user_ids(self) -> Iterator[str]:
        """Yield the ids of all users, block by block."""
        for block in range(len(self.manifest.blocks)):
            yield from read_users(self._file(block))

    def blocks(self, users: int = 1024) -> Iterator[tuple[list[str], KeptState]]:
        """Yield the ids and states of up to ``users`` users at a time."""
        for block in range(len(self.manifest.blocks)):
            names = read_users(self._file(block))
            columns = read_columns(self._file(block), self._builder.parts)
            for start in range(0, len(names), users):
                some = names[start : start + users]
                rows = np.arange(start, start + len(some))
                yield some, kept_states(columns.taken(rows), self._builder)

    def prompts(self, users: int = 1024) -> Iterator[tuple[list[str], UserPrompt]]:
        """Yield the ids and user prompts [B, M, E] of up to ``users`` users at a time."""
        import torch

        for names, state in self.blocks(users):
            with torch.no_grad():
                yield names, self.model.like_tokens(self.model.keeper.user_prompt(state))

    def _file(self, block: int) -> Path:
        return self.folder / STATES / f"{block:06d}.parquet"


def load_states(folder: Path | str, model: PersonalizedModel) -> FoldedStates:
    """Open the states that ``palate fold`` wrote.

    Args:
        folder: The folder.
        model: The model of the run that they were folded with.

    Returns:
        The states.

    Raises:
        DataError: The folder is not a fold, or a file is damaged.
        MismatchError: The states belong to other weights or items.
    """
    return FoldedStates(Path(folder), model)
