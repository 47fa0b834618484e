"""User prompts of catalogue-free encoders: the names of the selected categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from palate.encoders.base import UserPrompt
from palate.encoders.places import PERIODS, place_features

HALVES = 2
"""Liked and disliked."""
BETWEEN = 3
"""Number of tokens between the halves of an answer: those of " and doesn't like" in the packaged backbone's
tokenizer."""
RATING_BUMPS = 11
"""Number of basis functions over the rating scale that encode a category's expected rating in a question."""
COMPARED = 4.0
"""Factor of the difference between the scores of categories or items that a question compares."""
ASKED_PERIODS = 2
"""Periods that encode the positions of a name's tokens in a question."""


class NamesPrompt(nn.Module):
    """User prompt of the selected names as token embeddings, in order, and of a few vectors pooled from the state.

    Each half, liked or disliked, consists of a heading that encodes the number of names, the names' tokens separated
    by commas, and an end; an empty half has the tokens of the answer's text for it, such as "no genre". So the prompt
    holds the tokens of the answer, in its order. A vector is the backbone's embedding of the token plus features of
    its position: the number of tokens since "likes" and, for disliked names, also since "doesn't like". A small
    backbone finds the next token to generate by them; a large, frozen backbone reads ``plain`` names. In a question,
    the name of a category has position features of its own, and the category's vector. No weight depends on a
    catalogue: :meth:`bind` sets its names.

    Args:
        width: Size W of a category's hidden state.
        size: Size E of the backbone's token embeddings.
        embeddings: Returns the backbone's embeddings, which are not weights of this module.
        most: Maximum number of names in a half.
        max_tokens: Maximum number of tokens of a name in the prompt; longer names are truncated.
        pooled: Number of vectors pooled from all categories' hidden states. Together with headings, commas and ends
            (8 vectors for 3 names in each half) they are at most 16.
        plain: Whether names are token embeddings alone, without position features.
    """

    tokens: Tensor  # [L + 2, N] token ids of the names and of the two empty halves, padded with 0
    lengths: Tensor  # [L + 2] numbers of their tokens
    places: Tensor  # [S, 2 * len(PERIODS)] features of positions

    def __init__(
        self,
        width: int,
        size: int,
        embeddings: Callable[[], nn.Module],
        most: int = 3,
        max_tokens: int = 24,
        pooled: int = 4,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.most, self.max_tokens, self.plain = most, max_tokens, plain
        self._embeddings = embeddings
        self._scaled: Callable[[Tensor], Tensor] = _as_it_is
        self.heading = nn.Parameter(torch.randn(HALVES, most + 1, size) * 0.5)
        self.end = nn.Parameter(torch.randn(HALVES, size) * 0.5)
        self.comma = nn.Parameter(torch.randn(size) * 0.5)
        if plain:
            self.compared = nn.Linear(RATING_BUMPS, size, bias=False)
            self.repeated = nn.Linear(RATING_BUMPS, 1, bias=False)
        else:
            self.along, self.within = (nn.Linear(2 * len(PERIODS), size) for _ in range(HALVES))
            self.asked = nn.Linear(2 * ASKED_PERIODS, size)
            longest = HALVES * (most * (max_tokens + 1) + 1) + BETWEEN
            self.register_buffer("places", place_features(longest, len(PERIODS)), persistent=False)
        self.query = nn.Parameter(torch.randn(pooled, width) * width**-0.5)
        self.state = nn.Linear(width, size)
        self.entity = nn.Linear(width + HALVES + RATING_BUMPS, size)
        self.register_buffer("tokens", torch.zeros(HALVES, 1, dtype=torch.long), persistent=False)
        self.register_buffer("lengths", torch.zeros(HALVES, dtype=torch.long), persistent=False)

    def bind(
        self,
        names: Sequence[Sequence[int]],
        nothing: Sequence[Sequence[int]],
        embeddings: Callable[[], nn.Module] | None = None,
        scaled: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Set the catalogue's names and the backbone.

        Args:
            names: Token ids of L names within a text (:func:`palate.backbones.spelling.spelled`).
            nothing: Token ids of the answer's texts for an empty liked and an empty disliked half.
            embeddings: Returns the backbone's embeddings; unchanged if None.
            scaled: Scales vectors that are not token embeddings [..., E] for the backbone; unchanged if None.
        """
        self._embeddings, self._scaled = embeddings or self._embeddings, scaled or self._scaled
        cut = [torch.tensor(name[: self.max_tokens], dtype=torch.long) for name in (*names, *nothing)]
        self.tokens = pad_sequence(cut, batch_first=True).to(self.heading.device)
        self.lengths = torch.tensor([len(name) for name in cut], device=self.heading.device)

    def forward(
        self, named: Tensor, hidden: Tensor, logits: Tensor, rated: Tensor | None = None
    ) -> UserPrompt:
        """Compute the user prompts of B users.

        Args:
            named: Selected categories, liked and disliked, likeliest first, -1 at empty ranks, [B, 2, most].
            hidden: Hidden states of the categories, [B, L, W].
            logits: Log-odds that a category is liked and disliked, [B, L, 2].
            rated: Expected mean ratings of the categories, from 0 at the scale's low end to 1 at its high end,
                [B, L]; unknown if None.

        Returns:
            User prompts [B, M, E] without gaps, with ``category_logits``, ``named`` and ``entities``.
        """
        hidden, pooled = hidden.to(self.state.weight.dtype), self._pooled(hidden)  # [B, P, E]
        names, mask = self._names(named)
        embeddings = torch.cat([pooled, names], dim=1)
        mask = torch.cat([mask.new_ones(pooled.shape[:2]), mask], dim=1)
        ratings = hidden.new_zeros(*hidden.shape[:2], RATING_BUMPS) if rated is None else _bumps(rated)
        known = torch.cat([hidden, logits.to(hidden.dtype), ratings.to(hidden.dtype)], dim=-1)
        entities = self._scaled(self.entity(known))
        return UserPrompt(embeddings, mask, logits, named, entities)

    @property
    def name_places(self) -> Tensor | None:
        """Position vectors of the first S tokens of a name in a question [S, E]; None if names are plain."""
        return None if self.plain else self.asked(self.places[: self.max_tokens, : 2 * ASKED_PERIODS])

    def mentioned(
        self,
        entities: Tensor,
        scores: Tensor | None,
        category: Tensor,
        expected: Tensor,
        names: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Compute the vectors of the Q categories and items that each of B questions names, for plain names.

        The vector of an item depends on its expected rating. If a question names several, each vector is an
        interpolation between this and the name's first token, plus a vector; both depend on the difference between its
        score and the mean of the others. So the name of the best can be repeated, and a language model copies it.

        Args:
            entities: Vectors of the categories, [B, L, E].
            scores: Expected scores of the categories as differences on the rating scale, [B, L]; None if unknown.
            category: Indices of the categories named, -1 for none, [B, Q].
            expected: Expected ratings of the items named, from 0 to 1, -1 for others, [B, Q].
            names: Embeddings of the names' first tokens, [B, Q, E].

        Returns:
            Vectors [B, Q, E], and a mask [B, Q].
        """
        index, items = category.clamp(min=0), expected >= 0
        vectors = entities.gather(1, index[..., None].expand(-1, -1, entities.shape[-1]))
        place = expected.clamp(min=0)
        ratings = _bumps(place.to(self.entity.weight.dtype))
        unknown = ratings.new_zeros(*place.shape, self.entity.in_features - RATING_BUMPS)
        of_items = self._scaled(self.entity(torch.cat([unknown, ratings], dim=-1)))
        vectors = torch.where(items[..., None], of_items, vectors)
        stands = (category >= 0) | items
        if scores is None:
            return vectors, stands
        place = torch.where(items, place, scores.gather(1, index).to(place)) * stands
        number = stands.sum(dim=1, keepdim=True)
        others = (place.sum(dim=1, keepdim=True) - place) / (number - 1).clamp(min=1)
        better = _bumps(0.5 + COMPARED * (place - others)).to(vectors.dtype)
        repeated = self.repeated(better) * (names.to(vectors.dtype) - vectors)
        several = (stands & (number > 1))[..., None]
        compared = self._scaled(vectors + repeated + self.compared(better))
        return torch.where(several, compared, vectors), stands

    def _pooled(self, hidden: Tensor) -> Tensor:
        """Pool the hidden states by learned queries, [B, P, E]."""
        hidden = hidden.to(self.state.weight.dtype)
        weights = (hidden @ self.query.T).softmax(dim=1)  # [B, L, P]
        return self._scaled(self.state(weights.mT @ hidden))

    def _names(self, named: Tensor) -> tuple[Tensor, Tensor]:
        """Return both halves [B, N', E], right-padded, and their mask."""
        users, device = len(named), named.device
        count = (named >= 0).sum(dim=2)  # [B, 2]
        empty = len(self.tokens) - HALVES + torch.arange(HALVES, device=device)
        spoken = torch.where(named >= 0, named, -1)
        spoken[..., 0] = torch.where(count > 0, spoken[..., 0], empty)
        rows = spoken.clamp(min=0)
        lengths = (self.lengths[rows] * (spoken >= 0))[..., None]  # [B, 2, most, 1]
        width = max(int(lengths.max()), 1) if users else 1
        offset = torch.arange(width + 1, device=device)  # the last position is for a comma
        follows = (torch.arange(self.most, device=device) + 1 < count[..., None])[
            ..., None
        ]  # by another name
        comma = (offset == lengths) & follows
        ids = functional.pad(self.tokens[rows][..., :width], (0, 1))
        tokens = self._embeddings()(ids).to(self.comma.dtype)
        plain = torch.where(comma[..., None], self._scaled(self.comma), tokens)
        stands = ((offset < lengths) | comma).flatten(0, 1).flatten(1)
        plain, mask = _without_gaps(plain.flatten(0, 1).flatten(1, 2), stands)
        plain = plain.view(users, HALVES, *plain.shape[1:])
        return self._with_edges(plain, mask, count)

    def _with_edges(self, plain: Tensor, mask: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Add heading, end and, unless plain, position features to halves without gaps [B, 2, S, E]."""
        users, _, size, _ = plain.shape
        end = self._scaled(self.end)[:, None].expand(users, -1, 1, -1)
        at = mask.view(users, HALVES, size).sum(dim=2)[..., None, None]  # [B, 2, 1, 1] position of the end
        place = torch.arange(size + 1, device=mask.device)[:, None]
        tokens = torch.where(place == at, end, functional.pad(plain, (0, 0, 0, 1)))
        heading = self._scaled(self.heading)[torch.arange(HALVES, device=mask.device), count][:, :, None]
        if not self.plain:
            tokens = tokens + self._placed(place[:, 0], at[:, 0, 0])
        whole = torch.cat([heading, tokens], dim=2)
        stands = functional.pad(place[:, 0] <= at[..., 0], (1, 0), value=True)  # [B, 2, 1 + S + 1]
        return _without_gaps(whole.flatten(1, 2), stands.flatten(1))

    def _placed(self, place: Tensor, ended: Tensor) -> Tensor:
        """Compute the position vectors [B, 2, S, E] of positions [S] in both halves; the liked half ends at [B, 1]."""
        later = (ended + BETWEEN + place).clamp(max=len(self.places) - 1)  # [B, S]
        liked = self.along(self.places[place]).expand(len(ended), -1, -1)
        return torch.stack([liked, self.along(self.places[later]) + self.within(self.places[place])], dim=1)


def _as_it_is(vectors: Tensor) -> Tensor:
    return vectors


def _bumps(places: Tensor) -> Tensor:
    """Encode values [...] from 0 to 1 as weights of the two nearest grid points, [..., RATING_BUMPS]."""
    steps = places.clamp(0, 1)[..., None] * (RATING_BUMPS - 1)
    return (1 - (steps - torch.arange(RATING_BUMPS, device=places.device)).abs()).clamp(min=0)


def _without_gaps(vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the vectors [B, N, E] where ``mask`` [B, N] is true to the left, and cut common padding."""
    longest = int(mask.sum(dim=1).max()) if len(mask) else 0
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    packed = vectors.gather(1, order[..., None].expand(-1, -1, vectors.shape[-1]))
    mask = mask.gather(1, order)
    return packed * mask[..., None], mask
