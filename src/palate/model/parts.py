"""First layer of the model class: item table, user encoder, task prompt and backbone, and prompt assembly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from palate.backbones.base import Backbone, vocabulary_of
from palate.backbones.conditioning import Conditioning
from palate.backbones.tokens import padded_tokens
from palate.config.recipe import TextSettings
from palate.encoders.base import BindsToData, UserPrompt
from palate.encoders.batch import window_tensors
from palate.encoders.kinds import build_user_encoder
from palate.encoders.text import BlockCatalogue, TextHistory
from palate.errors import MismatchError
from palate.model.asking import Asked
from palate.model.config import PersonalizedSettings
from palate.model.prompt import Edges, Prompt, inject, inject_beside
from palate.model.tables import EventInput, Table, catalogue_of, encoder_sizes
from palate.model.token_like import TokenLike
from palate.schema import Ints, Windows
from palate.tasks.questions import Question, recognised

Instruction: TypeAlias = str | Question | Sequence[str | Question] | None
"""One instruction for all users, or one for each; None for the task's. A question also has the categories it names."""


class ModelParts(nn.Module):
    """Item table, user encoder, task prompt and backbone, and the assembly of prompts from them."""

    def __init__(self, settings: PersonalizedSettings, backbone: Backbone, table: Table) -> None:
        super().__init__()
        self.settings = settings
        self.tokenizer = backbone.tokenizer
        self.backbone, self.frame = backbone.model, backbone.frame
        self.table = table
        self.catalogue = catalogue_of(table, settings.user_encoder, self.tokenizer, settings.event_texts)
        embedding = self.backbone.get_input_embeddings().weight  # [V, E]
        if isinstance(settings.user_encoder, TextSettings):
            self.user_encoder: nn.Module = TextHistory(self.backbone.get_input_embeddings)
        else:
            sizes = encoder_sizes(table, embedding.shape[1], len(settings.categories), settings.event_texts)
            self.user_encoder = build_user_encoder(settings.user_encoder, sizes)
        words = torch.randint(backbone.vocab_size, (settings.task_prompt,))
        # [K, E], initialised from random tokens
        self.task_prompt = nn.Parameter(backbone.token_embeddings(words).detach().clone())
        self.conditioning: Conditioning | None = None
        """Cross-attention to user vectors; None if they are part of the prompt."""
        if settings.conditioning == "cross-attention":
            self.conditioning = Conditioning(self.backbone, settings.cross_attention_every)
        self.token_like = TokenLike(embedding.shape[1]) if settings.like_tokens else None
        if self.token_like is not None:
            self.token_like.start_from(backbone)

    @property
    def reads_text(self) -> bool:
        """Whether the history is read as text, without a trained user encoder."""
        return isinstance(self.settings.user_encoder, TextSettings)

    @property
    def binding(self) -> BindsToData:
        """The user encoder, if it can be bound to any catalogue; raises :class:`MismatchError` otherwise."""
        if not isinstance(self.user_encoder, BindsToData):
            kind = self.settings.user_encoder.kind
            raise MismatchError(
                f"the weights of a {kind!r} user encoder are of one catalogue, and it cannot be bound to other data; "
                "train it on that data, or use a 'universal' one"
            )
        return self.user_encoder

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.task_prompt.device

    @property
    def vocab_size(self) -> int:
        """Number of tokens that are in the tokenizer's vocabulary and have an embedding in the backbone."""
        return vocabulary_of(self.backbone, self.tokenizer)

    @property
    def soft_task_prompt(self) -> Tensor:
        """Task prompt K [K, E] as the backbone reads it, rescaled if ``like_tokens`` is set."""
        if self.token_like is None:
            return self.task_prompt
        prompt: Tensor = self.token_like(self.task_prompt)
        return prompt

    def embedded(self, token_ids: Tensor) -> Tensor:
        """Embed token ids [...] as [..., E], with the backbone's scaling."""
        embedded: Tensor = self.backbone.get_input_embeddings()(token_ids)
        return embedded

    def _edges(self) -> Edges | None:
        """Return the embeddings of a decoder-only backbone's frame; None for an encoder-decoder."""
        if self.frame is None:
            return None
        opening, closing = (
            self.embedded(torch.tensor(ids, dtype=torch.long, device=self.device))
            for ids in (self.frame.opening, self.frame.closing)
        )
        return Edges(opening, closing)

    def like_tokens(self, user: UserPrompt) -> UserPrompt:
        """Rescale user-prompt vectors if ``like_tokens`` is set; idempotent."""
        if self.token_like is None or isinstance(self.user_encoder, TextHistory | BindsToData):
            return user  # contains token embeddings, which must not be rescaled
        return self.token_like.of_user(user)

    def _events(self, windows: Windows) -> EventInput:
        events: EventInput = self.catalogue(**window_tensors(windows, self.device))
        return events

    def prompt(self, windows: Windows, instruction: Instruction = None) -> Prompt:
        """Assemble the prompt Z of each window, [B, N, E] with its mask."""
        return self.complete(self.user_prompt(windows), instruction)

    def complete(self, user: UserPrompt, instruction: Instruction = None) -> Prompt:
        """Assemble Z, [B, N, E] with its mask, from user prompts U_e [B, M, E] of :meth:`user_prompt`."""
        return self._inject(user, self._asked(self._questions(instruction)))

    def user_prompt(self, windows: Windows) -> UserPrompt:
        """Encode each window as U_e, [B, M, E] with its mask."""
        return self.like_tokens(self.user_encoder(self._events(windows)))

    def input_lengths(self, windows: Windows) -> Ints:
        """Count the input vectors of each of B windows, [B]: tokens of a text history, else events.

        The task prompt is included, the instruction is not.
        """
        own = windows.length
        if isinstance(self.catalogue, BlockCatalogue):
            own = self.catalogue.lengths(**window_tensors(windows, self.device)).cpu().numpy()
        return np.asarray(own + self.settings.task_prompt, dtype=np.int64)

    def _inject(self, user: UserPrompt, asked: Asked) -> Prompt:
        vectors, mask = self._asked_vectors(asked, user)
        if self.conditioning is not None:
            prompt = inject_beside(self.soft_task_prompt, user, vectors, mask, self._edges())
        else:
            prompt = inject(
                self.soft_task_prompt, user, vectors, mask, self._edges(), self.settings.user_first
            )
        return prompt if self.frame is not None else prompt.to(self.backbone.dtype)

    def _asked_vectors(self, asked: Asked, user: UserPrompt) -> tuple[Tensor, Tensor]:
        """Embed instructions of B users with the vectors of their categories and items; with a mask."""
        if not self.settings.binds:
            return asked.embedded(self.embedded, len(user.mask), user.entities)
        named = None
        if self.binding.mentioned is not None and user.entities is not None:
            named = partial(self.binding.mentioned, user.entities, user.scores)
        return asked.embedded(self.embedded, len(user.mask), user.entities, self.binding.name_places, named)

    @property
    def reads_ratings(self) -> bool:
        """Whether items in questions come with their expected ratings."""
        return self.settings.binds and self.binding.mentioned is not None

    def _asked(self, questions: Sequence[Question]) -> Asked:
        return Asked.of(questions, self.tokenizer).to(self.device)

    def _questions(self, instruction: Instruction) -> list[Question]:
        """Convert instructions to questions: one for all users, or one for each."""
        several = [instruction] if isinstance(instruction, str | Question | None) else instruction
        task = Question(self.settings.instruction, kind="preference")
        known = self.settings.categories, self.settings.category_field
        return [
            one
            if isinstance(one, Question)
            else task
            if one in (None, "", task.text)
            else recognised(one, *known)
            for one in several
        ]

    def question(self, instruction: str | None = None) -> Question:
        """Parse an instruction into a question with its kind and the categories that it names."""
        return self._questions(instruction)[0]

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = padded_tokens(self.tokenizer, texts)
        return tokens.ids.to(self.device), tokens.mask.to(self.device)
