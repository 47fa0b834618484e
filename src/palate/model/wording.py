"""Checks of a backbone's vocabulary and context length: names, instructions, answers and prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import AddedToken
from transformers import AutoConfig, AutoTokenizer

from palate.backbones.base import telling
from palate.backbones.causal import loadable_name
from palate.backbones.source import ELSEWHERE
from palate.config.recipe import CausalSettings, TextSettings
from palate.errors import DataError, MismatchError, RecipeError
from palate.model.config import BACKBONE, model_folder
from palate.model.positions import max_positions
from palate.schema import Preferences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from palate.backbones.base import Backbone
    from palate.config.section import KindSettings
    from palate.model.config import PersonalizedSettings
    from palate.schema import Ints
    from palate.tasks.base import Task

SHOWN = 3
"""Maximum number of examples in a message."""
USUAL_ANSWER = 48
"""Default maximum length of an answer, in tokens."""


@dataclass(frozen=True)
class Lost:
    """A text that encoding and decoding do not reproduce, with the decoded text."""

    text: str
    back: str

    def __str__(self) -> str:
        return f"{self.text!r} is decoded as {self.back!r}"


def teach_names(
    backbone: Backbone, task: Task, trained: bool, called: str, tell: Callable[[str], None]
) -> None:
    """Ensure that all label names can be generated and parsed.

    A name that the tokenizer does not reproduce (T5's loses accents, braces and most scripts) becomes a new token.
    This works for every tokenizer and needs no alternative spelling, but as the token's embedding has to be learned,
    the whole backbone must be trained.

    Args:
        backbone: The backbone, whose tokenizer and embedding get the new tokens.
        task: The task, with the target texts.
        trained: Whether the whole backbone is trained.
        called: Name of the backbone, for messages.
        tell: Called with a message about new tokens.

    Raises:
        MismatchError: Names cannot be generated and the backbone is not fully trained, or new tokens do not help.
    """
    lost = lost_names(backbone.tokenizer, task)
    if not lost:
        return
    if trained:
        _add_tokens(backbone, [one.text for one in lost])
        still = lost_names(backbone.tokenizer, task)
        if not still:
            tell(
                f"the vocabulary of the backbone {called!r} lacks {len(lost)} of {len(task.label_names)} names "
                f"({_listed(lost)}); each became a new token, whose embedding is trained"
            )
            return
        raise MismatchError(
            f"the backbone {called!r} cannot write {len(still)} of {len(task.label_names)} names ({_listed(still)}), "
            "which contain its special tokens; rename them in the data"
        )
    raise MismatchError(
        f"the backbone {called!r} cannot write {len(lost)} of {len(task.label_names)} names ({_listed(lost)}), and "
        "new tokens need a fully trained backbone; set model.backbone.train=full, use a backbone with a byte-level "
        "vocabulary (most decoder-only ones, or kind=random-t5), or rename them in the data"
    )


def lost_names(tokenizer: PreTrainedTokenizerBase, task: Task) -> list[Lost]:
    """Return the label names that cannot be parsed from a target after encoding and decoding."""
    alone = np.arange(len(task.label_names))[:, None]
    nobody = np.full_like(alone, -1)
    found: dict[int, Lost] = {}
    for wanted in (Preferences(alone, nobody), Preferences(nobody, alone)):
        texts = _through(tokenizer, task.target_texts(wanted))
        read = task.parse(texts)
        for index in np.flatnonzero(
            ~(_same(read.liked, wanted.liked) & _same(read.disliked, wanted.disliked))
        ):
            name = task.label_names[int(index)]
            found.setdefault(int(index), Lost(name, _through(tokenizer, [name])[0]))
    return [found[index] for index in sorted(found)]


def longest_target(backbone: Backbone, task: Task, max_labels: int) -> tuple[int, str]:
    """Return an upper bound of a target's length in tokens, with its end token, and a target of about that length.

    The bound is one token per name more than this target, as adjacent words may share a token in one list but not in
    another.
    """
    alone = np.arange(len(task.label_names))[:, None]
    texts = task.target_texts(Preferences(alone, np.full_like(alone, -1)))
    order = np.argsort([-length for length in _lengths(backbone.tokenizer, texts)], kind="stable")
    liked, disliked = (
        _row(order[:max_labels], max_labels),
        _row(order[max_labels : 2 * max_labels], max_labels),
    )
    extremes = task.target_texts(Preferences(np.stack([liked, disliked]), np.stack([disliked, liked])))
    lengths = _lengths(backbone.tokenizer, extremes)
    longest = int(np.argmax(lengths))
    end = 0 if backbone.frame is None else 1  # tokenizers of encoder-decoders append it themselves
    return lengths[longest] + end + min(2 * max_labels, len(order)), extremes[longest]


def max_new_tokens(backbone: Backbone, task: Task, max_labels: int, given: int | None) -> int:
    """Return the maximum length of an answer in tokens: ``given``, or enough for the longest target.

    Raises:
        RecipeError: ``given`` is less than the longest target.
    """
    length, text = longest_target(backbone, task, max_labels)
    if given is None:
        return max(USUAL_ANSWER, length)
    if given < len(backbone.tokenizer(text)["input_ids"]):
        raise RecipeError(
            f"evaluate.max_new_tokens is {given}, expected at least {length}, the length of the longest target "
            f"({_cut(text)!r}), which would be truncated; leave it out to use the length of the longest target"
        )
    return given


def check_room(backbone: Backbone, tokens: dict[str, int]) -> None:
    """Check that prompt and answer fit the backbone's context.

    Args:
        backbone: The backbone; T5 has no limit.
        tokens: Lengths in tokens of the parts, by name.

    Raises:
        RecipeError: The sum exceeds the context length.
    """
    most = max_positions(backbone.model.config)
    if most is not None and sum(tokens.values()) > most:
        parts = ", ".join(f"{number:,} of {what}" for what, number in tokens.items())
        raise RecipeError(
            f"the backbone reads at most {most:,} tokens, and there may be {sum(tokens.values()):,}: {parts}; shorten "
            "the windows (windows.longest) or the history (model.user_encoder)"
        )


def check_instruction(
    run: Path | str, settings: PersonalizedSettings, instruction: str, backbone: str | None = None
) -> None:
    """Check an instruction against a run's backbone, loading only its tokenizer and config.

    Args:
        run: The run's folder.
        settings: The model's configuration.
        instruction: The instruction.
        backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.

    Raises:
        DataError: The instruction is blank, or none of it is in the tokenizer's vocabulary.
        MismatchError: The instruction does not fit the backbone's context.
    """
    if not instruction.strip():
        raise DataError(f"the instruction {instruction!r} is blank; write one, or leave it out")
    place, revision = _place_of(run, settings, backbone)
    with telling(
        lambda reason: MismatchError(f"the tokenizer of {place} cannot be loaded ({reason}); {ELSEWHERE}")
    ):
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
    if not _through(tokenizer, [instruction])[0]:
        raise DataError(
            f"the backbone's vocabulary has no word of {_cut(instruction)!r}; rephrase the instruction"
        )
    most = max_positions(config)
    encoder = settings.user_encoder
    if most is not None and not isinstance(encoder, TextSettings):
        asked = len(tokenizer(instruction, verbose=False)["input_ids"])
        beside = settings.task_prompt + user_vectors(encoder, settings.window) + settings.max_new_tokens
        if asked + beside > most:
            raise MismatchError(
                f"the instruction has {asked:,} tokens; the backbone reads at most {most:,}, of which task prompt, "
                f"user prompt and answer take {beside:,}; ask in {max(most - beside, 0):,} tokens or fewer"
            )


def user_vectors(encoder: KindSettings, window: int) -> int:
    """Return the length M of a user prompt: that of the settings, or else one vector per interaction."""
    length = getattr(encoder, "vectors", window)
    return length if isinstance(length, int) else window


def _place_of(
    run: Path | str, settings: PersonalizedSettings, backbone: str | None
) -> tuple[str, str | None]:
    """Return the hub name or folder of a run's tokenizer, and its revision."""
    source = settings.backbone
    if source is None:
        return str(model_folder(run) / BACKBONE), None
    found = source.settings.model_copy(update={} if backbone is None else {"name": backbone})
    return (loadable_name(found) if isinstance(found, CausalSettings) else found.name), found.revision


def unread(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Lost]:
    """Return the texts that encode to no known tokens, or to the same ones as another text."""
    different = list(dict.fromkeys(texts))
    readers: dict[tuple[int, ...], list[str]] = {}
    if different:
        tokens = tokenizer(different, add_special_tokens=False, verbose=False)["input_ids"]
        for text, ids in zip(different, tokens, strict=True):
            known = tuple(one for one in ids if one != tokenizer.unk_token_id)
            readers.setdefault(known, []).append(text)
    lost = [
        text
        for ids, same in readers.items()
        if len(same) > 1 or not tokenizer.decode(list(ids), skip_special_tokens=True).strip()
        for text in same
    ]
    return [Lost(text, back) for text, back in zip(lost, _through(tokenizer, lost), strict=True)]


def tell_unread(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], what: str, tell: Callable[[str], None]
) -> None:
    """Report the texts that encode to no known tokens, or to the same ones as another text."""
    if lost := unread(tokenizer, texts):
        tell(
            f"the backbone cannot read or distinguish {len(lost):,} of {len(set(texts)):,} {what} ({_listed(lost)}), "
            "as its vocabulary lacks their characters"
        )


def tell_changed(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], what: str, tell: Callable[[str], None]
) -> None:
    """Report the texts that lose characters by encoding and decoding."""
    back = _through(tokenizer, texts)
    lost = [Lost(*pair) for pair in zip(texts, back, strict=True) if _letters(pair[0]) != _letters(pair[1])]
    if lost:
        tell(f"{what} loses characters that the backbone's vocabulary lacks ({_listed(lost)})")


def longest_text(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """Return the length in tokens of the longest text."""
    return max(_lengths(tokenizer, texts), default=0)


def _letters(text: str) -> str:
    return "".join(text.split()).casefold()


def _add_tokens(backbone: Backbone, names: Sequence[str]) -> None:
    """Add a token for each name, with an embedding near the mean of the other tokens."""
    tokenizer, model = backbone.tokenizer, backbone.model
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))


def _through(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """Encode and decode texts."""
    if not texts:
        return []
    back: list[str] = tokenizer.batch_decode(tokenizer(list(texts))["input_ids"], skip_special_tokens=True)
    return [" ".join(text.split()) for text in back]


def _lengths(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]] if texts else []


def _same(read: Ints, wanted: Ints) -> np.ndarray:
    """Return whether each of B rows contains exactly the wanted label; rows are padded with -1."""
    first: np.ndarray = read[:, 0] == wanted[:, 0]
    return first & (read[:, 1:] < 0).all(axis=1)


def _row(indices: Ints, width: int) -> Ints:
    return np.pad(indices, (0, width - len(indices)), constant_values=-1)


def _listed(lost: Sequence[Lost]) -> str:
    return ", ".join(str(one) for one in lost[:SHOWN]) + (", …" if len(lost) > SHOWN else "")


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
