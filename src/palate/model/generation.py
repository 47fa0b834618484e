"""Scoring and generation with encoder-decoder and decoder-only backbones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from palate.backbones.base import generation_settings
from palate.backbones.conditioning import attending
from palate.model.prompt import IGNORED, ended, mask_labels

if TYPE_CHECKING:
    from transformers import Cache, LogitsProcessor, PreTrainedModel

    from palate.backbones.base import Frame
    from palate.encoders.base import UserPrompt
    from palate.model.prompt import Prompt
    from palate.model.token_sample import TokenSample


@dataclass(frozen=True, eq=False)
class Prefix:
    """Shared prefix [opening; K; U_e] of B users, with its KV cache."""

    prompt: Prompt
    cache: Cache
    user: UserPrompt

    @property
    def named(self) -> Tensor | None:
        """Categories that the user encoder has selected, [B, 2, most]."""
        return self.user.named

    def fresh_cache(self) -> Cache:
        """Copy the KV cache shallowly, so that appending to the copy does not change it."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return cache


class RoundEntities(TypedDict, total=False):
    """Categories and items that the questions of a round name, as in :class:`palate.model.asking.Asked`."""

    category: Tensor  # [B, Q]
    begun: Tensor  # [B, Q]
    after: Tensor  # [B, Q]
    expected: Tensor  # [B, Q]


class RoundChoices(TypedDict, total=False):
    """Probabilities of a question's answers, at the first token in which they differ."""

    decides: Tensor  # [B] position of this token
    choice: Tensor  # [B, C] the token of each answer
    chance: (
        Tensor  # [B, C] target probabilities; zeros if more than this token decides, or the answer is a text
    )


class Round(RoundEntities, RoundChoices):
    """One question and its target answer for each of B users, as token ids and masks."""

    instruction: Tensor  # [B, T], or [1, T] for all
    instruction_mask: Tensor
    target: Tensor  # [B, N']
    target_mask: Tensor


class TokenStreamer(Protocol):
    """Protocol of streamers, which receive an answer during generation."""

    def put(self, value: Tensor) -> None:
        """Receive the next token of each of B answers, [B]; first the decoder's start tokens, [B, 1]."""

    def end(self) -> None:
        """Signal the end of all answers."""


def score(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    target: Tensor,
    target_mask: Tensor,
    prefix: Prefix | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the logits of the targets by teacher forcing.

    Args:
        backbone: The language model.
        frame: Tokens around the input; None for an encoder-decoder.
        prompt: Assembled prompts of B users.
        target: Token ids of the targets, [B, N'].
        target_mask: True at tokens, [B, N'].
        prefix: Prefilled prefix of the prompts; None without one.

    Returns:
        Logits [B, N', V] and labels [B, N'] for :func:`cross_entropy`; one position longer with a decoder-only
            backbone, for the end token.
    """
    if frame is None:
        labels = mask_labels(target, target_mask)
        with attending(prompt.attended):
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
    with attending(prompt.attended):
        logits = backbone(
            inputs_embeds=whole.embeddings[:, read:],
            attention_mask=whole.mask,
            position_ids=whole.positions[:, read:],
            past_key_values=None if prefix is None else prefix.fresh_cache(),
            use_cache=prefix is not None,
            logits_to_keep=written.shape[1],  # logits of the prompt would need too much memory
        ).logits
    return logits, mask_labels(written, mask)


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    sample: TokenSample | None = None,
    choices: RoundChoices | None = None,
) -> Tensor:
    """Compute the cross entropy of answers.

    Args:
        logits: Logits of :func:`score`, [B, N', V].
        labels: Its labels, [B, N'].
        sample: Sampled tokens, which the logits are of; None for the whole vocabulary.
        choices: Probabilities of the answers at the token that decides; None to score the labels alone.

    Returns:
        The mean over the labels; with ``choices``, the mean of two means: over the deciding tokens, against the
        probabilities, and over the other labels.
    """
    if sample is not None:
        logits, labels = sample.adjusted(logits, labels)
    logits = logits.float()
    if choices is None or "chance" not in choices or not choices["chance"].any():
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    choice = choices["choice"] if sample is None else sample.places(choices["choice"])
    chance, rows = choices["chance"], torch.arange(len(labels), device=labels.device)
    known = chance.sum(dim=1) > 0
    likely = logits[rows, choices["decides"]].log_softmax(dim=-1).gather(1, choice)
    decision = -(chance * likely).sum() / known.sum()
    others = labels.clone()
    others[rows[known], choices["decides"][known]] = IGNORED
    rest = functional.cross_entropy(
        logits.flatten(0, 1), others.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return (decision + rest / (others != IGNORED).sum().clamp(min=1)) / 2


def choose(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    choices: Tensor,
    mask: Tensor,
    prefix: Prefix | None = None,
) -> Tensor:
    """Compute the probabilities of C answers for each of B prompts, normalised over the answers.

    If the answers of each row start with different tokens, only the first token is scored, otherwise all tokens.

    Args:
        backbone: The language model.
        frame: Tokens around the input; None for an encoder-decoder.
        prompt: Assembled prompts of B users.
        choices: Token ids of the answers, [B, C, N'].
        mask: True at tokens, [B, C, N'].
        prefix: Prefilled prefix of the prompts; None without one.

    Returns:
        Probabilities, [B, C].
    """
    first = choices[:, :, 0]
    ordered = first.sort(dim=1).values
    if bool((ordered[:, 1:] != ordered[:, :-1]).all()):
        logits, _ = score(backbone, frame, prompt, choices[:, 0, :1], mask[:, 0, :1], prefix)
        return logits[:, 0].float().gather(1, first).softmax(dim=1)
    likely = [
        log_likelihood(backbone, frame, prompt, choices[:, at], mask[:, at], prefix)
        for at in range(choices.shape[1])
    ]
    return torch.stack(likely, dim=1).softmax(dim=1)


def log_likelihood(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    target: Tensor,
    mask: Tensor,
    prefix: Prefix | None = None,
) -> Tensor:
    """Compute the log-probabilities [B] of B targets [B, N'] with their end tokens; arguments as for :func:`score`."""
    logits, labels = score(backbone, frame, prompt, target, mask, prefix)
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
    constraint: LogitsProcessor | None = None,
) -> Tensor:
    """Generate an answer for each of B prompts by greedy decoding.

    Args:
        backbone: The language model.
        frame: Tokens around the input; None for an encoder-decoder.
        prompt: Assembled prompts of B users.
        max_new_tokens: Maximum length of an answer.
        prefix: Prefilled prefix of the prompts; None without one.
        streamer: Receives the tokens as they are generated.
        constraint: Logits processor, such as :class:`palate.model.grammar.GrammarProcessor`.

    Returns:
        Token ids, [B, N'].
    """
    settings: dict[str, Any] = generation_settings(max_new_tokens)
    if frame is not None:
        settings |= {"eos_token_id": ends(backbone, frame), "pad_token_id": frame.end}
    if prefix is not None:
        settings["past_key_values"] = prefix.fresh_cache()
    if constraint is not None:
        settings["logits_processor"] = [constraint]
    with attending(prompt.attended):
        token_ids: Tensor = backbone.generate(
            inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, streamer=streamer, **settings
        )
    return token_ids


def read_ahead(backbone: PreTrainedModel, beginning: Prompt, user: UserPrompt) -> Prefix:
    """Prefill the prefix that contains the user prompt into a KV cache."""
    output = backbone(
        inputs_embeds=beginning.embeddings,
        attention_mask=beginning.mask,
        position_ids=beginning.positions,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix(beginning, output.past_key_values, user)


def ends(backbone: PreTrainedModel, frame: Frame) -> list[int]:
    """Return the ids of end tokens: the one used in training, and those of the checkpoint's generation config."""
    own = backbone.generation_config.eos_token_id
    return sorted({frame.end, *([own] if isinstance(own, int) else own or [])})
