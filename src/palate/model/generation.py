"""How a backbone of either kind is scored on targets and writes an answer: encoder-decoder or decoder-only."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from palate.backbones.base import generation_settings
from palate.model.prompt import IGNORED, ended, mask_labels

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from palate.backbones.base import Frame
    from palate.model.prompt import Prompt
    from palate.model.token_sample import TokenSample


@dataclass(frozen=True, eq=False)
class Prefix:
    """What is read before every instruction, [opening; K; U_e] of B users, with its keys and values."""

    prompt: Prompt
    cache: Cache

    def fresh_cache(self) -> Cache:
        """The keys and values for one more reader, who appends to them; these stay as they are."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return cache


class Round(TypedDict):
    """One question to each of B users with its answer, as token ids and masks."""

    instruction: Tensor  # [B, T], or [1, T] for all
    instruction_mask: Tensor
    target: Tensor  # [B, N']
    target_mask: Tensor


class TokenStreamer(Protocol):
    """Is told of an answer while it is written."""

    def put(self, value: Tensor) -> None:
        """The next token of each of B answers, [B]; at first what the decoder starts from, [B, 1]."""

    def end(self) -> None:
        """All answers have come to their end."""


def score(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    target: Tensor,
    target_mask: Tensor,
    prefix: Prefix | None = None,
) -> tuple[Tensor, Tensor]:
    """The targets' logits [B, N', V] and their labels [B, N'], for :func:`cross_entropy`.

    ``target`` and ``target_mask`` are [B, N']; a decoder-only backbone's have one more, for the end. ``prefix`` is
    what of the prompts was read before.
    """
    if frame is None:
        labels = mask_labels(target, target_mask)
        logits: Tensor = backbone(
            inputs_embeds=prompt.embeddings,
            attention_mask=prompt.mask,
            decoder_input_ids=backbone.prepare_decoder_input_ids_from_labels(labels=labels),
            use_cache=False,
        ).logits
        return logits, labels
    written, mask = ended(target, target_mask, frame.end)
    whole = prompt.followed_by(backbone.get_input_embeddings()(target), target_mask)
    read = 0 if prefix is None else prefix.prompt.mask.shape[1]
    logits = backbone(
        inputs_embeds=whole.embeddings[:, read:],
        attention_mask=whole.mask,
        position_ids=whole.positions[:, read:],
        past_key_values=None if prefix is None else prefix.fresh_cache(),
        use_cache=prefix is not None,
        logits_to_keep=written.shape[1],  # a vocabulary is too wide to score the prompt with it, too
    ).logits
    return logits, mask_labels(written, mask)


def cross_entropy(logits: Tensor, labels: Tensor, sample: TokenSample | None = None) -> Tensor:
    """Of what :func:`score` gives, a mean over tokens; the logits are the sample's where there is one."""
    if sample is not None:
        logits, labels = sample.adjusted(logits, labels)
    return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)


def choose(
    backbone: PreTrainedModel, frame: Frame | None, prompt: Prompt, choices: Tensor, mask: Tensor
) -> Tensor:
    """How likely each of C answers is, beside the others, for each of B prompts: [B, C].

    ``choices`` and ``mask`` are [B, C, N']. Where the first tokens of a row's answers differ, theirs are the
    probabilities that count.
    """
    first = choices[:, :, 0]
    ordered = first.sort(dim=1).values
    if bool((ordered[:, 1:] != ordered[:, :-1]).all()):
        logits, _ = score(backbone, frame, prompt, choices[:, 0, :1], mask[:, 0, :1])
        return logits[:, 0].float().gather(1, first).softmax(dim=1)
    likely = [
        log_likelihood(backbone, frame, prompt, choices[:, at], mask[:, at]) for at in range(choices.shape[1])
    ]
    return torch.stack(likely, dim=1).softmax(dim=1)


def log_likelihood(
    backbone: PreTrainedModel, frame: Frame | None, prompt: Prompt, target: Tensor, mask: Tensor
) -> Tensor:
    """The log-probability of each of B targets [B, N'] with its end, [B]."""
    logits, labels = score(backbone, frame, prompt, target, mask)
    scored = labels != IGNORED
    each = logits.float().log_softmax(dim=-1).gather(2, labels.where(scored, 0)[..., None]).squeeze(2)
    return (each * scored).sum(dim=1)


def write(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    max_new_tokens: int,
    prefix: Prefix | None = None,
    streamer: TokenStreamer | None = None,
) -> Tensor:
    """One greedy answer for each of B prompts, as token ids [B, N']; ``prefix`` is what of them was read before.

    A ``streamer`` is told of the tokens as they come.
    """
    settings: dict[str, Any] = generation_settings(max_new_tokens)
    if frame is not None:
        settings |= {"eos_token_id": ends(backbone, frame), "pad_token_id": frame.end}
    if prefix is not None:
        settings["past_key_values"] = prefix.fresh_cache()
    token_ids: Tensor = backbone.generate(
        inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, streamer=streamer, **settings
    )
    return token_ids


def read_ahead(backbone: PreTrainedModel, beginning: Prompt) -> Prefix:
    """Keys and values of what stands before an instruction, read once."""
    output = backbone(
        inputs_embeds=beginning.embeddings,
        attention_mask=beginning.mask,
        position_ids=beginning.positions,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix(beginning, output.past_key_values)


def ends(backbone: PreTrainedModel, frame: Frame) -> list[int]:
    """The end that is trained, and those that the checkpoint stops at."""
    own = backbone.generation_config.eos_token_id
    return sorted({frame.end, *([own] if isinstance(own, int) else own or [])})
