"""Speculative decoding: drafts from the user encoder's decisions, verified by the backbone in one pass.

A draft is accepted only if it equals the backbone's greedy answer under the grammar, token by token (Leviathan et al.
2023, with greedy acceptance); otherwise the backbone generates its own answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.model.generation import score
from palate.tasks.wordings import NAMING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from palate.backbones.base import Frame
    from palate.model.generation import Prefix, TokenStreamer
    from palate.model.grammar import Decided, Grammar
    from palate.model.prompt import Prompt
    from palate.tasks.questions import Question


def decided_names(named: Tensor) -> list[Decided]:
    """Convert the encoder's chosen categories [B, 2, most], padded with -1, to lists for each user."""
    rows = ([tuple(name for name in half if name >= 0) for half in row] for row in named.tolist())
    return [(liked, disliked) for liked, disliked in rows]


def drafts_of(
    grammar: Grammar, questions: Sequence[Question], decided: Sequence[Decided]
) -> list[list[int] | None]:
    """Draft the answers that name the chosen categories.

    Args:
        grammar: The grammar of the answers.
        questions: One for each of B users.
        decided: The chosen categories of each user.

    Returns:
        Token ids of B answers, with their end tokens; None for questions that do not ask for names.
    """
    return [
        grammar.draft(one.kind, names) if one.kind is not None and one.kind in NAMING else None
        for one, names in zip(questions, decided, strict=True)
    ]


def kept_drafts(
    backbone: PreTrainedModel,
    frame: Frame | None,
    prompt: Prompt,
    drafts: Sequence[Sequence[int]],
    allowed: Sequence[Sequence[Tensor]],
    prefix: Prefix | None = None,
) -> list[bool]:
    """Verify which of B drafts equal the backbone's greedy answers.

    Args:
        backbone: The language model.
        frame: Tokens around the input; None for an encoder-decoder.
        prompt: Assembled prompts of B users.
        drafts: Token ids of each draft, with its end token.
        allowed: Token ids that the grammar allows at each position of each draft.
        prefix: Prefilled prefix of the prompts; None without one.

    Returns:
        For each draft, whether all of its tokens have the highest logit among those allowed.
    """
    device, width = prompt.embeddings.device, max(map(len, drafts))
    lengths = torch.tensor([len(draft) for draft in drafts])
    target = torch.tensor([[*draft, *[0] * (width - len(draft))] for draft in drafts])
    read = (
        lengths if frame is None else lengths - 1
    )  # score() appends the end token for decoder-only backbones
    mask = torch.arange(width) < read[:, None]
    logits, _ = score(backbone, frame, prompt, target.to(device), mask.long().to(device), prefix)
    return _likeliest(logits.cpu(), lengths, target, allowed)


def stream_drafts(
    streamer: TokenStreamer, drafts: Sequence[Sequence[int]], start: Sequence[int], pad: int
) -> None:
    """Pass B drafts to a streamer as ``generate`` would: ``start`` tokens, the drafts, and padding after each."""
    streamer.put(torch.tensor([list(start)] * len(drafts), dtype=torch.long).reshape(len(drafts), -1))
    for place in range(max(map(len, drafts))):
        streamer.put(torch.tensor([draft[place] if place < len(draft) else pad for draft in drafts]))
    streamer.end()


def _likeliest(
    logits: Tensor, lengths: Tensor, target: Tensor, allowed: Sequence[Sequence[Tensor]]
) -> list[bool]:
    """Return whether all tokens of each draft have the highest of the allowed logits [B, N', V]."""
    rows = torch.arange(len(lengths)).repeat_interleave(lengths)
    places = torch.cat([torch.arange(int(length)) for length in lengths])
    choices = [one for path in allowed for one in path]
    of = torch.arange(len(choices)).repeat_interleave(torch.tensor([len(one) for one in choices]))
    written = logits[rows, places, target[rows, places]]
    scores = logits[rows[of], places[of], torch.cat(choices)]
    best = torch.full_like(written, -torch.inf).scatter_reduce(0, of, scores, "amax")
    return [bool(one.all()) for one in torch.split(written >= best, lengths.tolist())]
