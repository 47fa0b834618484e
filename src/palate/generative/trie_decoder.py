"""T5's decoder over all nodes of a trie in one pass, so that no prefix is decoded more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from palate.generative.trie import Trie

_FAR = -1e9
"""Additive attention mask value."""


def trie_states(model: Any, trie: Trie, states: Tensor, mask: Tensor) -> Tensor:
    """Compute the decoder's states at all nodes of a trie, as the output layer takes them.

    A node attends to the nodes on its path alone, so that the work grows with the nodes and not with their square.

    Args:
        model: A T5 or LongT5.
        trie: A trie of M nodes.
        states: Encoder states, [B, N, E].
        mask: Which of them are not padding, [B, N].

    Returns:
        States, [B, M, E].
    """
    decoder, config = model.decoder, model.config
    token, depth, paths = (
        torch.from_numpy(column).to(states.device) for column in (trie.token, trie.depth, trie.paths)
    )
    hidden = decoder.embed_tokens(token.where(token >= 0, int(config.decoder_start_token_id)))
    hidden = hidden.expand(len(states), -1, -1)  # [B, M, E]
    bias = _path_bias(decoder, depth, paths)
    outside = (1.0 - mask[:, None, None, :].to(hidden.dtype)) * _FAR
    outside = outside.expand(-1, -1, len(trie), -1)  # [B, 1, M, N]
    for block in decoder.block:
        own, *others = block.layer
        hidden = hidden + _attended(own.SelfAttention, own.layer_norm(hidden), paths, bias)
        hidden = others[0](hidden, key_value_states=states, attention_mask=outside)[0]
        hidden = others[1](hidden)
    hidden = decoder.final_layer_norm(hidden)
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)  # of newer releases
    return hidden * (model.model_dim**-0.5 if scaled else 1.0)  # type: ignore[no-any-return]


def _path_bias(decoder: Any, depth: Tensor, paths: Tensor) -> Tensor:
    """Compute the bias of each node's attention to the D nodes of its path, [M, D, H]."""
    attention = decoder.block[0].layer[0].SelfAttention
    buckets = attention._relative_position_bucket(
        torch.arange(paths.shape[1], device=paths.device) - depth[:, None],
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    bias: Tensor = attention.relative_attention_bias(buckets)
    return bias.masked_fill((paths < 0)[..., None], _FAR)


def _attended(attention: Any, hidden: Tensor, paths: Tensor, bias: Tensor) -> Tensor:
    """Attend from each node [B, M, E] to those on its path, [B, M, E]."""
    heads = (*hidden.shape[:2], attention.n_heads, attention.key_value_proj_dim)
    query, key, value = (
        layer(hidden).view(heads) for layer in (attention.q, attention.k, attention.v)
    )  # [B, M, H, E / H]
    place = paths.clamp(min=0)
    weights = ((query[:, :, None] * key[:, place]).sum(-1) + bias).softmax(2)  # [B, M, D, H]
    found: Tensor = attention.o((weights[..., None] * value[:, place]).sum(2).flatten(2))
    return found
