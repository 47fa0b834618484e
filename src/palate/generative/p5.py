"""The language model of P5 and POD: a T5 over ids with whole-word embeddings, prompt vectors, and item scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from palate.encoders.base import UserPrompt
from palate.generative.pod import TaskVectors
from palate.generative.trie import Trie
from palate.generative.trie_decoder import trie_states
from palate.generative.whole_words import whole_word_indices
from palate.model.generation import write
from palate.model.prompt import Prompt, inject, mask_labels
from palate.schema import Floats

if TYPE_CHECKING:
    from transformers import LogitsProcessor

    from palate.backbones.base import Backbone
    from palate.config.generative import AnyGenerativeSettings, Family
    from palate.model.generation import TokenStreamer

_CELLS = 1 << 24
"""Maximum number of logits in memory while all items are scored."""
_CELLS_OF_CPU = 1 << 22
"""The same on a CPU, whose caches hold what a batch of so many logits needs."""


@dataclass(frozen=True, eq=False)
class _Read:
    """Encoder states for the decoder's cross-attention."""

    states: Tensor  # [B, N, E]
    mask: Tensor  # [B, N]

    def __getitem__(self, rows: Tensor) -> _Read:
        return _Read(self.states[rows], self.mask[rows])


class IdLanguageModel(nn.Module):
    """A T5 with whole-word embeddings, and the ids that it may generate.

    The embedding of a word's place is added to the embeddings of all its tokens, so that the pieces of one id belong
    together (Geng et al., 2022). All embeddings pass through :func:`palate.model.prompt.inject`.

    Args:
        backbone: A T5.
        settings: Families, and whether they have learned vectors.
        item_names: Ids of the items as text, [I].
    """

    def __init__(
        self, backbone: Backbone, settings: AnyGenerativeSettings, item_names: Sequence[str]
    ) -> None:
        super().__init__()
        self.model: Any = backbone.model
        self.backbone = backbone
        self.settings = settings
        self.tokenizer = backbone.tokenizer
        size = int(backbone.model.get_input_embeddings().weight.shape[1])
        self.whole_words = nn.Embedding(settings.whole_words + 1, size, padding_idx=0)
        self.vectors = TaskVectors(settings, size)
        self.trie = Trie.of(self._tokens(item_names))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.whole_words.weight.device

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def prompts(self, texts: Sequence[str], family: Family) -> Prompt:
        """Embed B prompts of a family, with its learned vectors before them if it has any."""
        read = self.tokenizer(list(texts), padding=True, return_offsets_mapping=True, return_tensors="pt")
        words = [
            whole_word_indices(text, spans)
            for text, spans in zip(texts, read.pop("offset_mapping").tolist(), strict=True)
        ]
        read = read.to(self.device)
        places = torch.tensor(words, device=self.device).clamp(max=self.settings.whole_words)  # [B, T]
        embedded = self.backbone.token_embeddings(read["input_ids"]) + self.whole_words(places)
        nobody = UserPrompt(embedded[:, :0], read["attention_mask"][:, :0].bool())
        return inject(self.vectors(family), nobody, embedded, read["attention_mask"])

    def loss(self, prompts: Sequence[str], answers: Sequence[str], family: Family) -> Tensor:
        """Compute the mean cross-entropy of the answers' tokens, each answer with its end token.

        Users' texts are truncated to ``max_text_tokens``; ids, ratings and names of categories are not.
        """
        prompt = self.prompts(prompts, family)
        most = self.settings.max_text_tokens if family == "explanation" else None
        wanted = self.tokenizer(
            list(answers), padding=True, truncation=most is not None, max_length=most, return_tensors="pt"
        ).to(self.device)
        found: Tensor = self.model(
            inputs_embeds=prompt.embeddings,
            attention_mask=prompt.mask,
            labels=mask_labels(wanted["input_ids"], wanted["attention_mask"]),
            use_cache=False,
        ).loss
        return found

    @torch.inference_mode()
    def item_scores(self, prompts: Sequence[str], family: Family) -> Floats:
        """Score all items by the log-probability of their ids.

        Args:
            prompts: B prompts.
            family: Their family.

        Returns:
            Sums of the log-probabilities of each item's tokens, [B, I].
        """
        read = self._read(prompts, family)
        cells = _CELLS_OF_CPU if self.device.type == "cpu" else _CELLS
        size = max(cells // (len(self.trie) * int(self.model.config.vocab_size)), 1)
        parts = [self._scored(read[rows]) for rows in torch.split(torch.arange(len(prompts)), size)]
        return np.concatenate(parts) if parts else np.empty((0, self.trie.items), dtype=np.float32)

    @torch.inference_mode()
    def answer_scores(self, prompts: Sequence[str], answers: Sequence[str], family: Family) -> Floats:
        """Score C answers after each of B prompts by their log-probability including the end token, [B, C]."""
        read = self._read(prompts, family)
        wanted = self.tokenizer(list(answers), padding=True, return_tensors="pt").to(self.device)
        labels, mask = wanted["input_ids"], wanted["attention_mask"]
        columns = []
        for answer in range(len(answers)):
            length = int(mask[answer].sum())
            tokens = labels[answer : answer + 1, :length].expand(len(prompts), -1)  # [B, T]
            logits = self._decoded(read, self.model._shift_right(tokens))
            chances = logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0]
            columns.append(chances.sum(1))
        return torch.stack(columns, dim=1).cpu().numpy()

    @torch.inference_mode()
    def beam_items(self, prompts: Sequence[str], family: Family, beams: int) -> tuple[np.ndarray, Floats]:
        """Search the likeliest items by beam search constrained to item ids.

        Args:
            prompts: B prompts.
            family: Their family.
            beams: Beam size K.

        Returns:
            Items, likeliest first, and their log-probabilities, both [B, K]; -1 if fewer were found.
        """
        read, trie = self._read(prompts, family), self.trie
        tokens, targets = (self._here(column) for column in trie.children)  # [M, C]
        score = torch.zeros(len(prompts), 1, device=self.device)
        state = torch.zeros_like(score, dtype=torch.long)  # a node, or M + an item
        for depth in range(int(trie.depth.max()) + 1):
            done = state >= len(trie)  # [B, K]
            node = torch.where(done, 0, state)
            chances = self._next_chances(read, node, depth)  # [B, K, V]
            step = chances.gather(2, tokens[node].clamp(min=0))  # [B, K, C]
            step = torch.where((tokens[node] < 0) | done[..., None], -torch.inf, step)
            reached = torch.cat(
                [score[..., None] + step, torch.where(done, score, -torch.inf)[..., None]], dim=2
            )
            follows = torch.cat([targets[node], state[..., None]], dim=2)
            best = reached.flatten(1).topk(min(beams, reached[0].numel()), dim=1)
            score, state = best.values, follows.flatten(1).gather(1, best.indices)
        items = torch.where(score.isfinite() & (state >= len(trie)), state - len(trie), -1)
        return items.cpu().numpy(), score.cpu().numpy()

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[str],
        family: Family,
        most: int | None = None,
        streamer: TokenStreamer | None = None,
        constraint: LogitsProcessor | None = None,
    ) -> list[str]:
        """Generate an answer to each prompt by greedy decoding.

        Args:
            prompts: B prompts.
            family: Their family.
            most: Maximum length of an answer in tokens; ``max_text_tokens`` if None.
            streamer: Receives the tokens as they are generated.
            constraint: Masks the tokens that may not follow.

        Returns:
            B answers.
        """
        prompt = self.prompts(prompts, family)
        most = most or self.settings.max_text_tokens
        written = write(self.model, None, prompt, most, streamer=streamer, constraint=constraint)
        found: list[str] = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in found]

    def _read(self, prompts: Sequence[str], family: Family) -> _Read:
        prompt = self.prompts(prompts, family)
        states = self.model.encoder(
            inputs_embeds=prompt.embeddings, attention_mask=prompt.mask
        ).last_hidden_state
        return _Read(states, prompt.mask)

    def _decoded(self, read: _Read, tokens: Tensor) -> Tensor:
        """Compute the logits after each of the decoder's tokens [B, T], [B, T, V]."""
        found: Tensor = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=read.states),
            attention_mask=read.mask,
            decoder_input_ids=tokens,
            use_cache=False,
        ).logits
        return found

    def _next_chances(self, read: _Read, nodes: Tensor, depth: int) -> Tensor:
        """Compute the log-probabilities of the tokens after nodes [B, K] of at most this depth, [B, K, V]."""
        prefixes = [[self._start, *self.trie.prefix(node)] for node in nodes.flatten().tolist()]
        padded = [one + [self._start] * (depth + 1 - len(one)) for one in prefixes]
        rows = torch.tensor(padded, device=self.device)
        last = torch.tensor([len(one) - 1 for one in prefixes], device=self.device)
        users = torch.arange(len(nodes), device=self.device).repeat_interleave(nodes.shape[1])
        logits = self._decoded(read[users], rows)[torch.arange(len(rows), device=self.device), last]
        return logits.log_softmax(-1).view(*nodes.shape, -1)

    def _here(self, column: np.ndarray) -> Tensor:
        """Copy an array to the device of the weights."""
        return torch.from_numpy(column).to(self.device)

    @property
    def _start(self) -> int:
        return int(self.model.config.decoder_start_token_id)

    def _scored(self, read: _Read) -> Floats:
        """Score all items in one decoder pass over the trie, in which a node attends to those on its path."""
        trie = self.trie
        logits = self.model.lm_head(trie_states(self.model, trie, read.states, read.mask))  # [B, M, V]
        source, token = self._here(trie.edge_source), self._here(trie.edge_token)
        along = logits[:, source, token] - logits.logsumexp(-1)[:, source]  # [B, D]
        total = along.new_zeros(len(along), len(trie) + trie.items)  # of nodes, then of items
        target = self._here(trie.edge_target)
        depth = self._here(trie.depth)[source]
        for level in range(int(trie.depth.max()) + 1):
            here = depth == level
            total[:, target[here]] = total[:, source[here]] + along[:, here]
        return np.asarray(total[:, len(trie) :].cpu().numpy())
