"""The streaming user encoder: any number of interactions pooled into a fixed number of latent queries, one by one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.config.recipe import StreamingSettings
from palate.encoders.base import EncoderSizes, UserPrompt
from palate.encoders.ranking import NamedCategories, SoftRank
from palate.encoders.state import UserState
from palate.errors import MismatchError

if TYPE_CHECKING:
    from palate.encoders.batch import EventBatch

VALUES = 24
"""Numbers that a query pools of the items, and as many of their ratings."""
POOLED = 2 * VALUES + 1
"""Those, and the rating itself."""
FEATURES = POOLED + 2
"""What a query knows of a history: their means, the history's share against the null, and its count."""
YEAR = 365.0
"""The time in days in which recency starts to forget: a weight falls to 1/e."""
ALL_ITEMS = 6.0
"""The logit with which the query that reads every item starts."""


class EventReader(nn.Module):
    """What one event adds to a user's state: a weight in each query, and the values that are averaged with it."""

    def __init__(self, queries: int, size: int, recency: bool) -> None:
        super().__init__()
        self.key = nn.Linear(size, queries)
        self.item_value = nn.Linear(size, VALUES)
        self.rating_value = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, VALUES))
        rate = math.log(math.expm1(1 / YEAR))  # so that softplus of it is one in a year
        self.decay = nn.Parameter(torch.full((queries,), rate)) if recency else None

    def forward(self, events: EventBatch) -> UserState:
        """The state of each window, in float32 whatever the backbone is computed in."""
        with torch.autocast(self.key.weight.device.type, enabled=False):
            kind = self.key.weight.dtype
            items = events.item_vectors.flatten(1).to(kind)  # [N, F·S]: each distinct item is projected once
            logits = functional.logsigmoid(self.key(items).float())[events.item]  # [B, P, Q]
            if self.decay is not None:
                logits = logits + self.forgotten_by(events.time)
            numbers = events.rating_numbers[:, None].to(kind)  # [R, 1]
            ratings = torch.cat([numbers, self.rating_value(numbers)], dim=-1)[events.rating]  # [B, P, 1 + V]
            values = torch.cat([ratings, self.item_value(items)[events.item]], dim=-1)  # [B, P, 1 + 2V]
            return UserState.of(logits, values.float(), events.mask, events.time)

    def forgotten_by(self, time: Tensor) -> Tensor:
        """What recency adds to the logits of an event at ``time`` [...], so that older ones fall back: [..., Q]."""
        if self.decay is None:
            return torch.zeros((), device=time.device)
        return time[..., None] * functional.softplus(self.decay).double()

    def identity(self) -> str:
        """sha256 of the weights: states of another reader mean nothing to this one."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().float().contiguous().numpy().data)
        return f"sha256:{digest.hexdigest()}"


class StreamingEncoder(nn.Module):
    """Q latent queries read the window: M user-prompt vectors, whatever the window's length, one for each query.

    With ``named`` categories in the settings, vectors that name the likeliest in order stand behind them.

    All that they keep of it is a :class:`UserState`, which takes events in and out in constant time and merges:
    ``prompt(add(init_state(B), events))`` is what ``forward(events)`` gives.

    - Keys come from an item's text alone, values from item and rating: a query finds "the comedies" and reads how
      they were rated. The rating enters as a number, because sentence vectors of ratings are not in order.
    - A key is a log-probability, log σ(w·v + b): all items that a query means weigh the same, and the log of the
      softmax denominator, which is handed on, is the log of their number. A plain softmax forgets that number.
    - With recency, a weight decays with time, exp(-decay · days), at a rate that each query learns.
    - Each softmax has a learned null sink, which shrinks the mean of few interactions as a prior would.
    - A category's query speaks the backbone's language from the start: its user-prompt vector is the embedding of
      the category's name, moved by how much the user likes and dislikes it.
    """

    category_of_query: Tensor

    def __init__(self, settings: StreamingSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        queries, width = settings.num_queries, settings.d_model
        self.reader = EventReader(queries, sizes.fields * sizes.vector, settings.recency)
        self.null = nn.Parameter(torch.zeros(queries))
        self.query = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.read = nn.Linear(FEATURES, width)
        self.compare = nn.Sequential(
            nn.Linear(queries * FEATURES, 4 * width), nn.GELU(), nn.Linear(4 * width, queries * width)
        )
        self.rank = SoftRank(queries, FEATURES, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                settings.num_heads,
                2 * width,
                settings.dropout,
                "gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.categories = nn.Linear(queries * width, 2 * sizes.categories)
        self.project = nn.Linear(width, sizes.embedding)
        self.name = nn.Parameter(torch.randn(queries, sizes.embedding))
        self.liking = nn.Linear(2, sizes.embedding, bias=False)
        self.named: NamedCategories | None = None
        if settings.named:
            self.named = NamedCategories(settings.named, sizes.categories, sizes.embedding)
        named = min(sizes.categories, queries - 1)  # the next one means every item
        self.register_buffer("category_of_query", torch.arange(named))

    @torch.no_grad()
    def start_from(
        self,
        categories: Tensor,
        weights: Tensor,
        bias: Tensor,
        names: Tensor,
        liking: Tensor | None = None,
    ) -> None:
        """Let the first queries mean categories, and the one after them every item.

        ``categories`` [C] are the categories' indices, ``weights`` [C, F·S] and ``bias`` [C] a linear probe's
        log-odds that an item has the category, and ``names`` [C, E] the names' mean backbone embeddings. ``liking``
        [2, E] is how far a category's vector is moved from its name for a unit of liking and of disliking; it is
        random when not given.
        """
        queries = len(categories)
        self.category_of_query = categories
        key = self.reader.key
        key.weight[:queries], key.bias[:queries] = weights, bias
        self.name[:queries] = names
        if liking is not None:
            self.liking.weight.copy_(liking.T)
        if queries < len(self.query):
            key.weight[queries], key.bias[queries] = 0.0, ALL_ITEMS

    def forward(self, events: EventBatch) -> UserPrompt:
        """Read each window: [B, P] interactions become [B, M, E]."""
        return self.user_prompt(self.reader(events))

    def init_state(self, users: int) -> UserState:
        """The state of ``users`` without a history."""
        return UserState.empty(users, len(self.query), POOLED, self.null.device)

    @torch.no_grad()
    def add(self, state: UserState, events: EventBatch) -> UserState:
        """The state of B users after their events, [B, P] in any order; its cost does not depend on their past."""
        return state.merge(self.reader(events))

    @staticmethod
    def merge(first: UserState, second: UserState) -> UserState:
        """The state of histories of which each state has a part."""
        return first.merge(second)

    @torch.no_grad()
    def remove(
        self, state: UserState, events: EventBatch, remaining: Callable[[Tensor], EventBatch] | None = None
    ) -> UserState:
        """The state of B users without events that it has read.

        Where so much leaves that rounding would show, or the newest event that recency is counted from, the state
        is built again: ``remaining`` is given the users' rows and returns the events that they still have. Raises
        :class:`MismatchError` where it is needed and not given, and for more events than the state has read.
        """
        left = None if remaining is None else lambda rows: self.reader(remaining(rows))
        return self.subtract(state, self.reader(events), left)

    @torch.no_grad()
    def subtract(
        self, state: UserState, taken: UserState, remaining: Callable[[Tensor], UserState] | None = None
    ) -> UserState:
        """Take the events of one state out of another; :meth:`remove` with states in the place of events."""
        if bool((taken.count > state.count).any()):
            raise MismatchError(
                "more events were to be removed than the state has read; build it from the stored events"
            )
        left = state.without(taken)
        lost = left.blurred(self._floor(left))
        if self.reader.decay is not None:
            lost = lost | ((taken.newest >= state.newest) & (left.count > 0))
        if not bool(lost.any()):
            return left
        if remaining is None:
            raise MismatchError(
                "removing these events leaves a state that rounding shows in; give remaining=, which returns the "
                "events that are left"
            )
        rows = lost.nonzero().flatten()
        return left.replaced(rows, remaining(rows))

    @torch.no_grad()
    def prompt(self, state: UserState) -> Tensor:
        """User prompts [B, M, E] of B users."""
        return self.user_prompt(state).embeddings

    def save_state(self, state: UserState, path: Path) -> None:
        """Write a state as safetensors, all or nothing."""
        state.save(path, self.reader.identity())

    def load_state(self, path: Path) -> UserState:
        """Read what :meth:`save_state` wrote; raises :class:`DataError` for a damaged file or another encoder's."""
        return UserState.load(path, self.reader.identity(), self.init_state(0))

    def user_prompt(self, state: UserState) -> UserPrompt:
        """Make the user prompts of B users from their states: [B, M, E], with the category logits [B, L, 2]."""
        hidden = self._think(self._features(state))  # [B, Q, width]
        logits = self.categories(hidden.flatten(1)).unflatten(1, (-1, 2))  # [B, L, 2]
        liking = self.liking(logits[:, self.category_of_query])  # [B, C, E]
        liking = functional.pad(liking, (0, 0, 0, hidden.shape[1] - liking.shape[1]))
        embeddings = self.name + liking + 0.5 * self.project(hidden)  # [B, Q, E]
        if self.named is not None:
            embeddings = torch.cat([embeddings, self.named(logits).to(embeddings.dtype)], dim=1)
        mask = embeddings.new_ones(embeddings.shape[:2], dtype=torch.bool)
        return UserPrompt(embeddings, mask, logits)

    def _features(self, state: UserState) -> Tensor:
        """What each query knows of the history: [B, Q, FEATURES]."""
        sums = state.sums + state.rest
        offset = state.exponent.double() * math.log(2) - self._now(state)  # [B, Q] log of the sums' unit
        reference = torch.maximum(offset, self.null).detach()
        scale, null = ((log - reference).exp().float()[..., None] for log in (offset, self.null))
        denominator = sums[..., :1] * scale + null  # [B, Q, 1]
        pooled = sums * scale / denominator  # the share of the history against the null, then the numbers
        size = denominator.log() + reference[..., None]
        return torch.cat([pooled[..., 1:], pooled[..., :1], size], dim=-1).to(self.read.weight.dtype)

    def _now(self, state: UserState) -> Tensor:
        """What recency adds to a logit at the time of the newest event, [B, Q]."""
        return self.reader.forgotten_by(state.newest.clamp(min=0))

    def _floor(self, state: UserState) -> Tensor:
        """log2 of the null's weight beside the state's sums, [B, Q]."""
        return ((self.null + self._now(state)) / math.log(2)).expand(state.exponent.shape)

    def _think(self, features: Tensor) -> Tensor:
        """The latent queries after they have been compared with each other: [B, Q, width]."""
        compared = self.compare(features.flatten(1)).unflatten(1, self.query.shape)
        hidden = self.query + self.read(features) + compared + self.rank(features)
        for layer in self.layers:
            hidden = layer(hidden)
        normed: Tensor = self.norm(hidden)
        return normed
