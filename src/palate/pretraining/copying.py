"""Initial weights by which a small T5 copies names from the first step on: it counts and attends by position.

The user prompt holds the tokens of an answer after "likes", each with its position (:class:`NamesPrompt`). The
decoder's first self-attention computes the distances back to "likes" and "doesn't like" as cosines and sines; its
first cross-attention attends to the vector with the same cosines and sines, and copies its token. Attention is by
position, never by content, so that names may share or repeat words and consist of any bytes. The names in a question
have positions from the start of an answer on, and their categories' log-odds, by which other heads select the name
that the user prefers. The counting weights are frozen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from palate.backbones.spelling import continued
from palate.encoders.places import PERIODS, waves
from palate.encoders.spoken import ASKED_PERIODS, BETWEEN, HALVES, RATING_BUMPS
from palate.errors import MismatchError
from palate.tasks.verbalizer import DISLIKES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration
    from transformers.models.t5.modeling_t5 import T5Attention, T5LayerSelfAttention

    from palate.encoders.spoken import NamesPrompt

ANCHORS = (" likes", " like", None)
"""Anchor words from which positions are counted, and the start of an answer."""
COUNTED = (len(PERIODS), len(PERIODS), ASKED_PERIODS)
"""Periods of the waves of each."""
HEAD_SIZE = 16
"""Size of an attention head: the distances to "likes" and "like" are as many numbers, or fewer."""
ONE = 0
"""Channel of a constant."""
MARKS = (1, 2, 3)
"""Channels that mark the anchors."""
LIKED = 4
"""Channel of the log-odds that a category in the question is liked."""
CODES = tuple(
    slice(
        5 + sum(2 * one + 1 for one in COUNTED[:place]), 5 + sum(2 * one + 1 for one in COUNTED[: place + 1])
    )
    for place in range(len(COUNTED))
)
"""Channels of the distances to the anchors: the waves, and whether there is one."""
OWN = CODES[-1].stop
"""First channel of a token's own."""
HEADS = OWN - 5 + 1
"""Attention heads of a layer: those that measure a channel of a distance each, and one for the token before."""
CONSTANT = 4.0
"""Value of a constant and of a mark, where a token's own channels have unit variance."""
FOUND = 14.0
"""Log-odds with which an anchor is attended to rather than another previous token."""
MOST = 6.0
"""Largest log-odds of a distance."""
ABOVE = 0.8
"""Log-odds of a position against none; the adjacent one has less by the cosine of an eighth of a turn."""
PREFERRED = 0.25
"""Initial gain of log-odds in questions."""
CLEAR = 2.0
"""Gain of distances."""
SHARP = 5.4
"""Gain of queries and keys that look for a place."""
RATED = 10.0
"""Initial gain of an expected rating."""
DECIDED = 16.0
"""Gain of the log-odds of being liked, by which one of two categories is selected."""
LOUD = 4.0
"""Gain of what is copied, against the last token itself."""
NEAR = 8.0
"""Initial bias of a head towards a neighbour."""
FAINT = 0.3
"""Initial gain of the encoder's layers, which start close to the identity."""
POSITIONS = 640
"""Buckets of relative positions: distances below half of it are exact in the decoder, a quarter in the encoder."""


def sizes_for_copying() -> dict[str, int]:
    """Return the sizes of T5's configuration that copying needs."""
    return {
        "num_heads": HEADS,
        "d_kv": HEAD_SIZE,
        "relative_attention_num_buckets": POSITIONS,
        "relative_attention_max_distance": 2 * POSITIONS,
    }


def counted_words(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of the anchor words from which positions are counted.

    Raises:
        MismatchError: The tokenizer splits one of them, or the words between the halves of an answer.
    """
    words = [continued(tokenizer, [word])[0] for word in ANCHORS if word]
    if any(len(one) != 1 for one in words) or len(continued(tokenizer, [DISLIKES.rstrip()])[0]) != BETWEEN:
        raise MismatchError(
            "the tokenizer splits the words of an answer; raise language.vocab_size or language.catalogues"
        )
    return [word[0] for word in words]


@torch.no_grad()
def start_copying(
    backbone: T5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    names: NamesPrompt,
    task_prompt: Tensor,
) -> None:
    """Initialise a backbone of :func:`sizes_for_copying`, its user prompt and its task prompt to copy names.

    Raises:
        MismatchError: As by :func:`counted_words`.
    """
    _start_embeddings(backbone.shared, [*counted_words(tokenizer), backbone.config.decoder_start_token_id])
    _start_user_prompt(names, backbone, tokenizer)
    task_prompt[:, :OWN] = 0.0
    for block in backbone.encoder.block:
        for writes in (block.layer[0].SelfAttention.o, block.layer[1].DenseReluDense.wo):
            writes.weight.mul_(FAINT)
            writes.weight[:OWN] = 0.0
    first = backbone.decoder.block[0]
    _start_counting(first.layer[0])
    _start_looking(first.layer[1].EncDecAttention)


def _start_embeddings(embedding: nn.Embedding, anchors: list[int]) -> None:
    """Give all tokens the constant and vectors with a mean square of 1, and mark the anchors."""
    weight = embedding.weight
    weight.normal_()
    weight[:, :OWN] = 0.0
    weight[:, ONE] = CONSTANT
    for mark, anchor in zip(MARKS, anchors, strict=True):
        weight[anchor, mark] = CONSTANT
    left = weight.shape[1] - weight[:, :OWN].square().sum(dim=1, keepdim=True)
    weight[:, OWN:] = nn.functional.normalize(weight[:, OWN:], dim=1) * left.sqrt()
    weight.requires_grad_(False)


def _start_user_prompt(
    names: NamesPrompt, backbone: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Initialise the user prompt's positions in the channels of the distances."""
    for vectors in (names.heading, names.end):
        vectors.normal_()
        vectors[..., :OWN] = 0.0
    names.comma.copy_(backbone.shared.weight[continued(tokenizer, [","])[0][-1]])
    for linear, code in zip((names.along, names.within, names.asked), CODES, strict=True):
        number = code.stop - code.start - 1
        linear.weight.zero_()
        linear.weight[code] = CLEAR * torch.cat([torch.eye(number), torch.full((1, number), -0.5)])
        linear.bias.zero_()
        linear.bias[code.stop - 1] = -CLEAR * (number / 2 - ABOVE) / 2
    names.state.weight[:OWN] = 0.0
    names.state.bias[:OWN] = 0.0
    names.entity.weight[:OWN] = 0.0
    names.entity.weight[OWN:, -RATING_BUMPS:] *= RATED
    liked = names.entity.in_features - RATING_BUMPS - HALVES  # log-odds of being liked, and then disliked
    names.entity.weight[LIKED, liked : liked + HALVES] = torch.tensor([PREFERRED, -PREFERRED])
    names.entity.bias[:OWN] = 0.0


def _start_counting(layer: T5LayerSelfAttention) -> None:
    """Initialise the first self-attention to compute distances to the anchors, and to add the previous tokens."""
    attention = layer.SelfAttention
    for weight in (attention.q.weight, attention.k.weight, attention.v.weight, attention.o.weight):
        weight.zero_()
    bias = attention.relative_attention_bias.weight
    distance = torch.arange(len(bias))
    bias.zero_()
    for mark, code, periods in zip(MARKS, CODES, COUNTED, strict=True):
        shares = torch.cat([(1 + waves(distance, periods)) / 2, torch.ones(len(bias), 1)], dim=1)
        heads = slice(code.start - CODES[0].start, code.stop - CODES[0].start)
        bias[:, heads] = shares.logit(1e-9).clamp(-MOST, MOST)
        bias[0, heads] = FOUND  # without an anchor a token attends to itself, which has no mark
        for head, channel in enumerate(range(code.start, code.stop), start=heads.start):
            row = head * HEAD_SIZE
            attention.q.weight[row, ONE] = FOUND / CONSTANT
            attention.k.weight[row, mark] = 1 / CONSTANT
            attention.v.weight[row, mark] = 1 / CONSTANT
            attention.o.weight[channel, row] = CLEAR
    bias[1, -1] = NEAR
    own = attention.o.weight.shape[0] - OWN
    attention.v.weight[-HEAD_SIZE:, OWN:] = _orthogonal(HEAD_SIZE, own)
    attention.o.weight[OWN:, -HEAD_SIZE:] = _orthogonal(own, HEAD_SIZE)
    layer.requires_grad_(False)


def _start_looking(cross: T5Attention) -> None:
    """Initialise heads of the first cross-attention to attend to a position, and to copy the token there.

    Some attend to positions in the user prompt, and others to those of the names in a question, where they prefer the
    category that is liked more.
    """
    own = range(OWN, cross.o.weight.shape[0])
    parts = [own[start : start + HEAD_SIZE] for start in range(0, len(own), HEAD_SIZE)]
    answer, question = [*range(CODES[0].start, CODES[1].stop)], [*range(CODES[2].start, CODES[2].stop)]
    for head, (codes, part) in enumerate([(codes, part) for codes in (answer, question) for part in parts]):
        rows = slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)
        for weight in (cross.q.weight, cross.k.weight, cross.v.weight):
            weight[rows] = 0.0
        cross.o.weight[:, rows] = 0.0
        for row, channel in enumerate(codes, start=rows.start):
            cross.q.weight[row, channel] = SHARP
            cross.k.weight[row, channel] = SHARP
        if codes is question:
            cross.q.weight[rows.start + len(codes), ONE] = 1 / CONSTANT
            cross.k.weight[rows.start + len(codes), LIKED] = DECIDED
        for row, channel in enumerate(part, start=rows.start):
            cross.v.weight[row, channel] = 1.0
            cross.o.weight[channel, row] = LOUD


def _orthogonal(rows: int, columns: int) -> Tensor:
    """Draw a matrix with orthonormal rows or columns."""
    matrix = torch.empty(rows, columns)
    nn.init.orthogonal_(matrix)
    return matrix
