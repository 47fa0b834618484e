"""The streaming user encoder: attention pooling of a history into a fixed number of latent queries."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
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
"""Number of values that a query pools from the items, and again from their ratings."""
POOLED = 2 * VALUES + 1
"""Number of pooled values, including the rating itself."""
FEATURES = POOLED + 2
"""Number of a query's features: pooled means, history's weight relative to the null sink, log of the denominator."""
YEAR = 365.0
"""Initial time constant of the recency decay, in days: weights fall to 1/e."""
ALL_ITEMS = 6.0
"""Initial logit of the query that attends to every item."""


class EventReader(nn.Module):
    """Maps an event to its contribution to a user's state: a weight per query, and the values that are averaged."""

    def __init__(self, queries: int, size: int, recency: bool) -> None:
        super().__init__()
        self.key = nn.Linear(size, queries)
        self.item_value = nn.Linear(size, VALUES)
        self.rating_value = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, VALUES))
        rate = math.log(math.expm1(1 / YEAR))  # inverse softplus of 1 / YEAR
        self.decay = nn.Parameter(torch.full((queries,), rate)) if recency else None

    def forward(self, events: EventBatch) -> UserState:
        """Compute the state of each window, in float32 whatever the precision of the backbone."""
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
        """Compute the recency term of the logits at ``time`` [...], in days: [..., Q], lower for older events."""
        if self.decay is None:
            return torch.zeros((), device=time.device)
        return time[..., None] * functional.softplus(self.decay).double()

    def identity(self) -> str:
        """Return the SHA-256 of the weights; states computed with other weights are refused."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().float().contiguous().numpy().data)
        return f"sha256:{digest.hexdigest()}"


class LatentQueries(nn.Module):
    """Latent queries over the item vectors of one catalogue: map events to a :class:`UserState`, and it to logits.

    - Keys depend on an item's text only, values on item and rating: a query selects "the comedies" and averages their
      ratings. The rating is a number, because sentence embeddings of ratings do not preserve their order.
    - A key is a log-probability, log σ(w·v + b): all matching items have equal weight, and the log of the softmax
      denominator, which is a feature, is the log of their number. A plain softmax loses that number.
    - With recency, a weight decays over time as exp(-decay · days), at a learned rate per query.
    - Each softmax has a learned null sink, which shrinks the mean of few interactions like a prior.
    """

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

    def init_state(self, users: int) -> UserState:
        """Create the state of users without a history."""
        return UserState.empty(users, len(self.query), POOLED, self.null.device)

    @torch.no_grad()
    def add(self, state: UserState, events: EventBatch) -> UserState:
        """Add events [B, P], in any order, to the states of B users, at a cost that does not depend on the history."""
        return state.merge(self.reader(events))

    @staticmethod
    def merge(first: UserState, second: UserState) -> UserState:
        """Combine the states of two parts of the histories."""
        return first.merge(second)

    @torch.no_grad()
    def remove(
        self, state: UserState, events: EventBatch, remaining: Callable[[Tensor], EventBatch] | None = None
    ) -> UserState:
        """Remove events from the states of B users.

        The state is rebuilt from the remaining events if rounding errors would become significant, or if the newest
        event is removed, which recency is relative to.

        Args:
            state: States of B users.
            events: Events to remove, which the states contain, [B, P].
            remaining: Function that takes row indices and returns the remaining events of these users.

        Returns:
            The states without the events.

        Raises:
            MismatchError: A state must be rebuilt and ``remaining`` is None, or there are more events than it
                contains.
        """
        left = None if remaining is None else lambda rows: self.reader(remaining(rows))
        return self.subtract(state, self.reader(events), left)

    @torch.no_grad()
    def subtract(
        self, state: UserState, taken: UserState, remaining: Callable[[Tensor], UserState] | None = None
    ) -> UserState:
        """Remove the events of one state from another, like :meth:`remove` with states instead of events."""
        if bool((taken.count > state.count).any()):
            raise MismatchError(
                "there are more events to remove than the state contains; rebuild it from the stored events"
            )
        left = state.without(taken)
        lost = left.blurred(self._floor(left))
        if self.reader.decay is not None:
            lost = lost | ((taken.newest >= state.newest) & (left.count > 0))
        if not bool(lost.any()):
            return left
        if remaining is None:
            raise MismatchError(
                "removing these events would leave significant rounding errors; give remaining=, which returns the "
                "remaining events"
            )
        rows = lost.nonzero().flatten()
        return left.replaced(rows, remaining(rows))

    def category_logits(self, state: UserState) -> Tensor:
        """Compute the logits that each category is liked and disliked, [B, L, 2]."""
        return self._logits(self._hidden(state))

    @torch.no_grad()
    def start_keys(self, weights: Tensor, bias: Tensor) -> None:
        """Initialise the keys of the first C queries from categories, and the next query's to match all items.

        Args:
            weights: Weights of a linear probe for the log-odds that an item has a category, [C, F·S].
            bias: Biases of the probe, [C].
        """
        queries, key = len(weights), self.reader.key
        key.weight[:queries], key.bias[:queries] = weights, bias
        if queries < len(self.query):
            key.weight[queries], key.bias[queries] = 0.0, ALL_ITEMS

    def _hidden(self, state: UserState) -> Tensor:
        return self._think(self._features(state))  # [B, Q, width]

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.categories(hidden.flatten(1)).unflatten(1, (-1, 2))
        return logits

    def _features(self, state: UserState) -> Tensor:
        """Compute each query's features of the history, [B, Q, FEATURES]."""
        sums = state.sums + state.rest
        offset = state.exponent.double() * math.log(2) - self._now(
            state
        )  # [B, Q] log of the unit of the sums
        reference = torch.maximum(offset, self.null).detach()
        scale, null = ((log - reference).exp().float()[..., None] for log in (offset, self.null))
        denominator = sums[..., :1] * scale + null  # [B, Q, 1]
        pooled = sums * scale / denominator  # the history's weight relative to the null sink, then the means
        size = denominator.log() + reference[..., None]
        return torch.cat([pooled[..., 1:], pooled[..., :1], size], dim=-1).to(self.read.weight.dtype)

    def _now(self, state: UserState) -> Tensor:
        """Compute the recency term at the time of the newest event, [B, Q]."""
        return self.reader.forgotten_by(state.newest.clamp(min=0))

    def _floor(self, state: UserState) -> Tensor:
        """Compute log2 of the null sink's weight relative to the state's sums, [B, Q]."""
        return ((self.null + self._now(state)) / math.log(2)).expand(state.exponent.shape)

    def _think(self, features: Tensor) -> Tensor:
        """Compute the queries' hidden states after comparison with each other, [B, Q, width]."""
        compared = self.compare(features.flatten(1)).unflatten(1, self.query.shape)
        hidden = self.query + self.read(features) + compared + self.rank(features)
        for layer in self.layers:
            hidden = layer(hidden)
        normed: Tensor = self.norm(hidden)
        return normed


class StreamingEncoder(LatentQueries):
    """Streaming user encoder: Q latent queries pool a history of any length into M user-prompt vectors.

    With ``named`` in the settings, embeddings of the likeliest categories' names are appended in order.

    Its state is a :class:`UserState`, to which events are added and from which they are removed in constant time:
    ``prompt(add(init_state(B), events))`` equals ``forward(events)``.

    The query of a category starts from the backbone's embeddings: its user-prompt vector is the embedding of the
    category's name, shifted by how much the user likes and dislikes the category.
    """

    category_of_query: Tensor

    def __init__(self, settings: StreamingSettings, sizes: EncoderSizes) -> None:
        super().__init__(settings, sizes)
        queries, width = settings.num_queries, settings.d_model
        self.project = nn.Linear(width, sizes.embedding)
        self.name = nn.Parameter(torch.randn(queries, sizes.embedding))
        self.liking = nn.Linear(2, sizes.embedding, bias=False)
        self.named: NamedCategories | None = None
        if settings.named:
            self.named = NamedCategories(settings.named, sizes.categories, sizes.embedding)
        named = min(sizes.categories, queries - 1)  # the next query matches every item
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
        """Initialise the first C queries from categories, and the next one to match all items.

        Args:
            categories: Indices of the categories, [C].
            weights: Weights of a linear probe for the log-odds that an item has the category, [C, F·S].
            bias: Biases of the probe, [C].
            names: Mean backbone embeddings of the category names, [C, E].
            liking: Shift of a category's vector per unit of liking and of disliking, [2, E]; random if None.
        """
        queries = len(categories)
        self.category_of_query = categories
        self.start_keys(weights, bias)
        self.name[:queries] = names
        if liking is not None:
            self.liking.weight.copy_(liking.T)

    def forward(self, events: EventBatch) -> UserPrompt:
        """Encode each window: [B, P] interactions to [B, M, E]."""
        return self.user_prompt(self.reader(events))

    @torch.no_grad()
    def prompt(self, state: UserState) -> Tensor:
        """Compute the user prompts of B users, [B, M, E]."""
        return self.user_prompt(state).embeddings

    def save_state(self, state: UserState, path: Path) -> None:
        """Write a state as safetensors, atomically."""
        state.save(path, self.reader.identity())

    def load_state(self, path: Path) -> UserState:
        """Read a file of :meth:`save_state`; raises :class:`DataError` if it is damaged or of another encoder."""
        return UserState.load(path, self.reader.identity(), self.init_state(0))

    def pack(self, state: UserState, table: object) -> list[bytes]:
        """Serialise states, which depend on these weights but not on the item table."""
        reader = self.reader.identity()
        return [one.to_bytes(reader) for one in state.each()]

    def unpack(self, data: Sequence[bytes], table: object, path: Path | None = None) -> UserState:
        """Deserialise states; raises :class:`DataError` if one is damaged or of another encoder."""
        reader, like = self.reader.identity(), self.init_state(0)
        return UserState.joined([UserState.from_bytes(one, reader, like, path) for one in data])

    def user_prompt(self, state: UserState) -> UserPrompt:
        """Compute the user prompts [B, M, E] of B users with the category logits [B, L, 2]."""
        hidden = self._hidden(state)
        logits = self._logits(hidden)
        liking = self.liking(logits[:, self.category_of_query])  # [B, C, E]
        liking = functional.pad(liking, (0, 0, 0, hidden.shape[1] - liking.shape[1]))
        embeddings = self.name + liking + 0.5 * self.project(hidden)  # [B, Q, E]
        if self.named is not None:
            embeddings = torch.cat([embeddings, self.named(logits).to(embeddings.dtype)], dim=1)
        mask = embeddings.new_ones(embeddings.shape[:2], dtype=torch.bool)
        return UserPrompt(embeddings, mask, logits)
