"""Tokenised instructions, with user-specific vectors inserted after the names of categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.backbones.tokens import padded_tokens
from palate.model.generation import Round
from palate.tasks.questions import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Asked:
    """Tokenised instructions of B users, or one for all."""

    tokens: Tensor  # [B, T] or [1, T]
    mask: Tensor  # [B, T] or [1, T]
    category: Tensor | None = None  # [B, Q] indices of the categories named, -1 for none
    begun: Tensor | None = None  # [B, Q] position of the first token of each name
    after: Tensor | None = None  # [B, Q] position of the last token of each name
    expected: Tensor | None = (
        None  # [B, Q] expected rating of each item named, from 0 to 1; -1 for a category
    )

    @classmethod
    def of(cls, instructions: Sequence[str | Question], tokenizer: PreTrainedTokenizerBase) -> Asked:
        """Tokenise instructions."""
        asked = [Question.of(one) for one in instructions]
        most = max((len(one.entities) for one in asked), default=0)
        ids, mask, ends = padded_tokens(tokenizer, [one.text for one in asked], offsets=most > 0)
        if ends is None:
            return cls(ids, mask)
        category, begun, after = (torch.full((len(asked), most), -1) for _ in range(3))
        expected = torch.full((len(asked), most), -1.0)
        for row, one in enumerate(asked):
            for place, entity in enumerate(one.entities):
                starts, stops = ends[row, :, 0], ends[row, :, 1]
                own = ((starts < entity.end) & (stops > starts) & (stops > entity.start)).nonzero()
                category[row, place], expected[row, place] = entity.category, entity.expected
                begun[row, place], after[row, place] = int(own.min()), int(own.max())
        return cls(ids, mask, category, begun, after, expected)

    @classmethod
    def of_round(cls, one: Round) -> Asked:
        """Create the instructions from a training round."""
        about = (one.get("category"), one.get("begun"), one.get("after"), one.get("expected"))
        return cls(one["instruction"], one["instruction_mask"], *about)

    def as_round(self, target: Tensor, target_mask: Tensor) -> Round:
        """Convert the instructions and their targets [B, N'] to a training round."""
        one = Round(
            instruction=self.tokens, instruction_mask=self.mask, target=target, target_mask=target_mask
        )
        if self.category is not None and self.begun is not None and self.after is not None:
            one |= {"category": self.category, "begun": self.begun, "after": self.after}
        if self.expected is not None:
            one["expected"] = self.expected
        return one

    def to(self, device: torch.device) -> Asked:
        """Move the tensors to a device."""
        about = (self.category, self.begun, self.after, self.expected)
        moved = (None if one is None else one.to(device) for one in about)
        return Asked(self.tokens.to(device), self.mask.to(device), *moved)

    def embedded(
        self,
        embed: Callable[[Tensor], Tensor],
        users: int,
        entities: Tensor | None,
        places: Tensor | None = None,
        named: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed the instructions of B users.

        Args:
            embed: Embeds token ids [...] as [..., E].
            users: Number B of users.
            entities: User-specific vectors of the categories, [B, L, E]; None to insert nothing.
            places: Position embeddings [S, E] for the first S tokens of a name, added to its tokens together with the
                category's vector, for a backbone trained with them; None to add nothing.
            named: Computes the vectors [B, Q, E] and the mask [B, Q] of what is named, from ``category``, ``expected``
                and the embeddings [B, Q, E] of the names' first tokens; None for the vectors of the categories, and
                none for items.

        Returns:
            Vectors [B, T', E] with their mask [B, T'], in which each name is followed by its vector.
        """
        vectors, mask = embed(self.tokens).expand(users, -1, -1), self.mask.expand(users, -1)
        if entities is None or self.category is None or self.begun is None or self.after is None:
            return vectors, mask
        category, after = self.category.expand(users, -1), self.after.expand(users, -1)
        if named is None or self.expected is None:
            index = category.clamp(min=0)[..., None].expand(-1, -1, entities.shape[-1])
            inserted, stands = entities.gather(1, index), category >= 0
        else:
            first = self.begun.clamp(min=0).expand(users, -1)[..., None].expand(-1, -1, vectors.shape[-1])
            inserted, stands = named(category, self.expected.expand(users, -1), vectors.gather(1, first))
        inserted = inserted.to(vectors.dtype)
        order = torch.arange(vectors.shape[1], device=mask.device).expand(users, -1)
        if places is not None:
            vectors = vectors + self._marks(inserted, order, places)
        order = torch.cat([2 * order, 2 * after + 1], dim=1).argsort(dim=1, stable=True)
        mask = torch.cat([mask, stands.to(mask.dtype)], dim=1).gather(1, order)
        vectors = torch.cat([vectors, inserted], dim=1)
        return vectors.gather(1, order[..., None].expand(-1, -1, vectors.shape[-1])), mask

    def _marks(self, entities: Tensor, at: Tensor, places: Tensor) -> Tensor:
        """Compute the summands [B, T, E] for tokens at positions [B, T], from the vectors [B, Q, E] of names."""
        assert self.category is not None
        assert self.begun is not None
        assert self.after is not None
        within = at[:, None] - self.begun[..., None]  # [B, Q, T]
        named = (within >= 0) & (at[:, None] <= self.after[..., None]) & (self.category >= 0)[..., None]
        marked = named & (within < len(places))
        marks = places[within.clamp(0, len(places) - 1)] * marked[..., None]
        return (marks + entities[:, :, None] * named[..., None]).sum(dim=1)
