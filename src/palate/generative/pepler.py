"""PEPLER (Li, Zhang and Chen, 2023): explanations and ratings from a user vector and an item vector.

Continuous prompts are two learned vectors, [u; i], before the explanation; discrete ones are words of both. With
continuous prompts ratings may be predicted from the same two vectors, which regularises them: by their product (MF) or
by a small network (MLP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.encoders.base import UserPrompt
from palate.model.generation import cross_entropy, score, write
from palate.model.prompt import Edges, Prompt, inject

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.config.recipe import PeplerSettings
    from palate.generative.newcomers import NewcomerEncoder
    from palate.generative.pepler_cases import PromptWords
    from palate.items.table import ItemTable

SPREAD = 0.1
"""Bound of the uniform initialisation of user and item vectors."""
TOKENS_A_WORD = 3
"""Maximum number of tokens of a text or prompt per word; longer ones, such as links, are truncated."""
_SAMPLE = 4096
"""Number of tokens to measure the norm of a backbone's embeddings on."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """B pairs of users and items to explain or rate."""

    user: Tensor  # [B] into the users
    item: Tensor  # [B] into the items
    vectors: Tensor | None = None  # [B, E] in the place of the users' own, for users without one


@dataclass(frozen=True, eq=False)
class PeplerLoss:
    """Losses of a batch; ``whole`` is ``language`` plus the weighted ``rating``."""

    whole: Tensor
    language: Tensor | None
    rating: Tensor | None

    def with_rating_weight(self, weight: float) -> Tensor:
        """Return the total loss with another weight of the rating loss; unchanged if only one of both is trained."""
        if self.language is None or self.rating is None:
            return self.whole
        return self.language + weight * self.rating


class RatingMlp(nn.Module):
    """A network from the vectors of users and items to a rating, with sigmoids between its layers."""

    def __init__(self, embedding: int, size: int, layers: int) -> None:
        super().__init__()
        widths = [2 * embedding, *[size] * layers]
        self.hidden = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(widths))
        self.out = nn.Linear(size, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Map vectors [B, E] of both to [B]."""
        stream = torch.cat([user, item], dim=-1)
        for layer in self.hidden:
            stream = layer(stream).sigmoid()
        return self.out(stream).squeeze(-1)  # type: ignore[no-any-return]


class Pepler(nn.Module):
    """Vectors of users and items before a decoder-only backbone."""

    mean: Tensor  # [] the mean training rating, 0 where ratings are predicted as they are
    trained: Tensor  # [U] which users were trained on
    gain: Tensor  # [] of the vectors in a prompt, which makes them as large as token embeddings

    def __init__(
        self, settings: PeplerSettings, backbone: Backbone, users: int, items: int, mean: float = 0.0
    ) -> None:
        super().__init__()
        assert backbone.frame is not None, "PEPLER's backbone is decoder-only"
        self.settings, self.frame, self.tokenizer = settings, backbone.frame, backbone.tokenizer
        self._embed = backbone.token_embeddings
        self.backbone = backbone.model
        size = int(backbone.model.get_input_embeddings().embedding_dim)
        self.users, self.items = nn.Embedding(users, size), nn.Embedding(items, size)
        for vectors in (self.users, self.items):
            nn.init.uniform_(vectors.weight, -SPREAD, SPREAD)
        self.mlp = (
            RatingMlp(size, settings.mlp_size, settings.mlp_layers) if settings.rating == "mlp" else None
        )
        self.newcomers: NewcomerEncoder | None = None
        """Encoder of users who were not trained on; None if there is none."""
        self.newcomer_table: ItemTable | None = None
        self.words: PromptWords | None = None
        self.register_buffer("mean", torch.tensor(mean if settings.rating_offset else 0.0))
        self.register_buffer("trained", torch.ones(users, dtype=torch.bool))
        with torch.no_grad():
            tokens = self._embed(torch.arange(min(backbone.vocab_size, _SAMPLE)))
        self.register_buffer("gain", (tokens.std() / (SPREAD / 3**0.5)).detach().cpu())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.gain.device

    def parts(self, stage: str) -> list[nn.Parameter]:
        """List the weights that a stage trains.

        Args:
            stage: ``language``, the backbone alone; ``prompt``, vectors and rating regularisation; ``both``; or
                ``newcomers``, the encoder of users who were not trained on.

        Returns:
            The weights; of the backbone those that its settings say are trained.
        """
        of_backbone = list(self.backbone.parameters())
        if getattr(self.settings.backbone, "train", "full") != "full":
            of_backbone = [weight for name, weight in self.backbone.named_parameters() if "lora_" in name]
        prompt = [*self.users.parameters(), *self.items.parameters()]
        prompt += [] if self.mlp is None else list(self.mlp.parameters())
        if self.settings.prompt == "discrete":
            prompt = []
        of_newcomers = [] if self.newcomers is None else list(self.newcomers.parameters())
        return {
            "language": of_backbone,
            "prompt": prompt,
            "both": prompt + of_backbone,
            "newcomers": of_newcomers,
        }[stage]

    @property
    def mean_user(self) -> Tensor:
        """Mean vector of the trained users, [E]."""
        return self.users.weight[self.trained].mean(dim=0)

    def pair_vectors(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Look up the vectors of users and items, [B, E] each."""
        user = self.users(pairs.user) if pairs.vectors is None else pairs.vectors
        return user, self.items(pairs.item)

    def prompt(self, pairs: Pairs | None, batch: int = 1) -> Prompt:
        """Assemble the prompts of B pairs; without pairs, the frame alone ``batch`` times."""
        size = self.users.embedding_dim
        batch = batch if pairs is None else len(pairs.user)
        nothing = torch.zeros(batch, 0, size, device=self.device)
        vectors, words = nothing, nothing
        mask = torch.zeros(batch, 0, dtype=torch.bool, device=self.device)
        if pairs is not None and self.settings.prompt == "discrete":
            tokens, mask = self._words(pairs)
            words = self._embed(tokens)
        elif pairs is not None:
            vectors = self.gain * torch.stack(self.pair_vectors(pairs), dim=1)  # [B, 2, E]
        there = torch.ones(vectors.shape[:2], dtype=torch.bool, device=self.device)
        frame = (torch.tensor(ids, dtype=torch.long, device=self.device) for ids in self._framed())
        edges = Edges(*(self._embed(ids) for ids in frame))
        return inject(nothing[0], UserPrompt(vectors, there), words, mask.bool(), edges)

    def _framed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.frame.opening, self.frame.closing

    def _words(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Tokenize words of the users, then of the items; nothing is known of a user without an index."""
        assert self.words is not None, "discrete prompts are of words"
        known, most = self.words, self.settings.prompt_words
        users = [known.users[number] if number >= 0 else "" for number in pairs.user.tolist()]
        items = [f"| {known.items[item]}" for item in pairs.item.tolist()]
        user, of_user = self.tokens(users, most)
        item, of_item = self.tokens(items, most)
        return torch.cat([user, item], dim=1), torch.cat([of_user, of_item], dim=1)

    def tokens(self, texts: Sequence[str], words: int) -> tuple[Tensor, Tensor]:
        """Tokenize B texts of at most so many words to ids and a mask, right-padded, [B, N'] each."""
        found = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=TOKENS_A_WORD * words,
            return_tensors="pt",
            add_special_tokens=False,
        )
        return found["input_ids"].to(self.device), found["attention_mask"].to(self.device)

    def ratings(self, pairs: Pairs) -> Tensor:
        """Predict ratings, [B]."""
        user, item = self.pair_vectors(pairs)
        found: Tensor = (user * item).sum(dim=-1) if self.mlp is None else self.mlp(user, item)
        return self.mean + found

    def loss(self, pairs: Pairs | None, texts: Sequence[str] | None, rating: Tensor | None) -> PeplerLoss:
        """Compute the losses of a batch.

        Args:
            pairs: B pairs of users and items; None to train on the texts alone.
            texts: Review texts, [B]; None for data without reviews, on which only ratings are trained.
            rating: True ratings, [B]; read only with rating regularisation.

        Returns:
            The losses. Without texts the total is the squared error.
        """
        language = None
        if texts is not None:
            target, mask = self.tokens(texts, self.settings.max_words)
            prompt = self.prompt(pairs, len(texts))
            language = cross_entropy(*score(self.backbone, self.frame, prompt, target, mask))
        error = None
        if pairs is not None and rating is not None and self.settings.rating != "none":
            error = functional.mse_loss(self.ratings(pairs), rating)
        if language is None:
            assert error is not None, "neither texts nor ratings are learned"
            return PeplerLoss(error, None, error)
        whole = language if error is None else language + self.settings.rating_weight * error
        return PeplerLoss(whole, language, error)

    @torch.no_grad()
    def explain(self, pairs: Pairs, max_new_tokens: int) -> list[str]:
        """Write an explanation for each of B pairs, by greedy decoding."""
        ids = write(self.backbone, self.frame, self.prompt(pairs), max_new_tokens)
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]
