"""Special tokens: checks that tokenizer and model match, and sets their pad, end and start tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLAIN = "The user likes"
"""Text that every tokenizer of a language model can encode."""


def settle_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set missing special tokens of tokenizer and config.

    The end token is the tokenizer's, or else the config's. Padding is masked everywhere, so any token will do: one
    that is missing or outside the embedding is replaced by the config's or by the end token. A decoder without a start
    token starts with the padding token, like T5's.

    Raises:
        ValueError: The tokenizer is of another model or has no end token, or weights are not finite.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    _check_vocabulary(tokenizer, rows)
    _settle_end(model, tokenizer, rows)
    _settle_padding(model, tokenizer, rows)
    if model.config.is_encoder_decoder:
        _settle_start(model, rows)
        _check_end_is_written(tokenizer)
    _check_finite(model)


@torch.no_grad()
def check_reads_forwards(model: PreTrainedModel) -> None:
    """Raise ValueError if the model is not causal: if its output at a token depends on later tokens."""
    pair = torch.tensor([[0, 1], [0, 2]], device=model.device)
    embedded = model.get_input_embeddings()(pair)
    training = model.training
    first = model.eval()(inputs_embeds=embedded, use_cache=False).logits[:, 0].float()  # [2, V]
    model.train(training)
    rounding = 8 * torch.finfo(embedded.dtype).eps * float(first.abs().max())
    if float((first[0] - first[1]).abs().max()) > rounding:
        raise ValueError(f"a {model.config.model_type!r} reads what follows a token, too, as an encoder does")


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    outside = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    special = _special(tokenizer)
    ordinary = [(number, token) for number, token in outside if number not in special]
    if ordinary:
        number, token = ordinary[0]
        raise ValueError(
            f"its tokenizer is another model's: {len(ordinary):,} tokens, the first {token!r} with id {number:,}, "
            f"are beyond the embedding's {rows:,} rows"
        )
    known = tokenizer(PLAIN, add_special_tokens=False)["input_ids"]
    if not tokenizer.decode(known, skip_special_tokens=True).strip():
        raise ValueError("its tokenizer knows no words; are the tokenizer's files there?")


def _special(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids of the special tokens."""
    added = tokenizer.added_tokens_decoder.items()
    return {number for number, token in added if token.special} | set(tokenizer.all_special_ids)


def _settle_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    own = [number for number in _numbers(getattr(model.config, "eos_token_id", None)) if number < rows]
    # the config class's default may be another token in this tokenizer
    special = [number for number in own if number in _special(tokenizer)]
    if tokenizer.eos_token_id is None and special:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(special[0])
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("its tokenizer has no end token, and its config names none")
    if end >= rows:
        raise ValueError(f"its end token has the number {end:,}, outside of the embedding's {rows:,} rows")
    if end not in own:
        own.insert(0, end)
    for settings in (model.config, model.generation_config):
        settings.eos_token_id = own if len(own) > 1 else end


def _settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    own = [number for number in _numbers(getattr(model.config, "pad_token_id", None)) if number < rows]
    pad = tokenizer.pad_token_id
    if pad is None or pad >= rows:
        special = [number for number in own if number in _special(tokenizer)]
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens((special or [tokenizer.eos_token_id])[0])
    if not own:
        model.config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def _settle_start(model: PreTrainedModel, rows: int) -> None:
    start = [
        number for number in _numbers(getattr(model.config, "decoder_start_token_id", None)) if number < rows
    ]
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = start[0] if start else model.config.pad_token_id


def _check_end_is_written(tokenizer: PreTrainedTokenizerBase) -> None:
    written = tokenizer(PLAIN)["input_ids"]
    if written[-1] != tokenizer.eos_token_id:
        raise ValueError(
            f"its tokenizer does not end a text with its end token {tokenizer.eos_token!r}: no answer would end"
        )


def _check_finite(model: PreTrainedModel) -> None:
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(f"its weight {name} has numbers that are not finite")


def _numbers(found: Any) -> list[int]:
    """List the token ids of a config entry, which may hold one, several or none."""
    several = found if isinstance(found, list | tuple) else [found]
    return [number for number in several if isinstance(number, int) and number >= 0]
