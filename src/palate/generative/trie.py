"""Prefix trees (tries) of item ids, for constrained decoding and exhaustive scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from palate.errors import DataError
from palate.schema import Ints


@dataclass(eq=False)
class Trie:
    """A trie of the token sequences of I item ids; none is a prefix of another.

    Its M inner nodes are the incomplete prefixes, parents first; the root is node 0. An
    edge leads from a node to another or, at the end of an id, to its item.
    """

    parent: Ints  # [M] -1 for the root
    token: Ints  # [M] the last token of a prefix; -1 for the root
    depth: Ints  # [M]
    edge_source: Ints  # [D]
    edge_token: Ints  # [D]
    edge_target: Ints  # [D] a node, or M + an item
    items: int = field(default=0)

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Trie:
        """Build the trie of the items' token sequences.

        Raises:
            DataError: An id has no tokens, or equals another or is its prefix.
        """
        nodes: dict[tuple[int, ...], int] = {(): 0}
        ends: dict[tuple[int, ...], int] = {}
        for item, sequence in enumerate(sequences):
            whole = tuple(sequence)
            if not whole or whole in ends:
                raise DataError(
                    f"the id of item {item} has no tokens, or those of another id; use other ids (generative.ids)"
                )
            ends[whole] = item
            for length in range(1, len(whole)):
                nodes.setdefault(whole[:length], len(nodes))
        if inside := next((whole for whole in ends if whole in nodes), None):
            raise DataError(
                f"the id of item {ends[inside]} is a prefix of another; use other ids (generative.ids)"
            )
        order = sorted(nodes, key=lambda prefix: (len(prefix), prefix))
        number = {prefix: place for place, prefix in enumerate(order)}
        edges = [(number[one[:-1]], one[-1], number[one]) for one in order[1:]]
        edges += [(number[whole[:-1]], whole[-1], len(order) + item) for whole, item in ends.items()]
        source, token, target = (
            np.array(column, dtype=np.int64) for column in zip(*sorted(edges), strict=True)
        )
        return cls(
            np.array([number[one[:-1]] if one else -1 for one in order]),
            np.array([one[-1] if one else -1 for one in order]),
            np.array([len(one) for one in order]),
            source,
            token,
            target,
            len(sequences),
        )

    def __len__(self) -> int:
        return len(self.parent)

    @cached_property
    def children(self) -> tuple[Ints, Ints]:
        """Tokens and targets of each node's edges, both [M, C], -1 where a node has fewer."""
        count = np.bincount(self.edge_source, minlength=len(self))
        start = np.cumsum(count) - count
        place = np.arange(len(self.edge_source)) - start[self.edge_source]
        tokens, targets = (np.full((len(self), int(count.max())), -1, dtype=np.int64) for _ in range(2))
        tokens[self.edge_source, place] = self.edge_token
        targets[self.edge_source, place] = self.edge_target
        return tokens, targets

    @cached_property
    def paths(self) -> Ints:
        """Nodes on the way from the root to each node, itself included, then -1, [M, 1 + the largest depth]."""
        found = np.full((len(self), int(self.depth.max()) + 1), -1)
        for node, (parent, depth) in enumerate(zip(self.parent.tolist(), self.depth.tolist(), strict=True)):
            found[node, :depth] = found[parent, :depth]
            found[node, depth] = node
        return found

    def prefix(self, node: int) -> list[int]:
        """Return the token prefix of a node."""
        found: list[int] = []
        while node > 0:
            found.append(int(self.token[node]))
            node = int(self.parent[node])
        return found[::-1]

    def sequences(self) -> dict[tuple[int, ...], int]:
        """List all complete token sequences, each with its item."""
        return {
            (*self.prefix(source), token): target - len(self)
            for source, token, target in zip(
                self.edge_source.tolist(), self.edge_token.tolist(), self.edge_target.tolist(), strict=True
            )
            if target >= len(self)
        }
