"""Answers written by a pretrained language model: it words the facts of a template anew, and cannot add any.

The model reads a few examples and the answer by its template. Decoding is constrained: the facts occur in the
template's order, each once and in one of the forms that the template lists, and only words of a short list stand
between them. The model chooses forms, linking words and sentence boundaries by its probabilities. The text is then
checked without its tokens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from transformers import DynamicCache

from palate.answers.examples import EXAMPLES
from palate.answers.facts import Draft, drafted
from palate.backbones.base import Backbone
from palate.backbones.gguf import GEMMA
from palate.backbones.load import check_backbone, load_backbone
from palate.backbones.spelling import continued
from palate.config.recipe import CausalSettings
from palate.errors import MismatchError
from palate.model.positions import max_positions
from palate.system.device import find_device

if TYPE_CHECKING:
    from torch import Tensor

    from palate.backbones.source import BackboneSource
    from palate.model.model import PersonalizedModel
    from palate.tasks.asked import AskedKind

Tokens: TypeAlias = tuple[int, ...]
Spell: TypeAlias = Callable[[Sequence[str]], Sequence[Tokens]]
"""Tokenises texts as they stand after a word."""
WritingState: TypeAlias = frozenset[tuple[Tokens, int, bool]]
"""Alternatives: tokens that remain of a piece, the number of facts after it, and whether a sentence begins then."""
MARKS = ("", ",", ":", ";")
"""What may stand directly after a fact. Before one that begins a sentence of the template it is not empty, or a full
stop."""
LINKS = ("", "and", "also", "and also", "and this is", "and it is")
"""What may stand before a fact: words that say nothing about an item or a taste."""
OPENINGS = ("", "this is", "that is", "it is")
"""What may stand before a fact at the beginning of a further sentence."""
OWN = "own"
"""Name of a writer with the backbone of the model that answers."""
LONGEST_TEXT = 400
"""Maximum number of tokens of a template, and of a written answer; for longer ones the template is used."""
_TASK = "Say each answer in one or two fluent sentences.\n\n"


class Sentences:
    """Automaton over tokens that accepts the texts with the facts of a draft.

    A fact is tokenised together with the words before it and the mark after it, as one token may span both.

    Args:
        spell: Tokenises texts.
        draft: The draft.
    """

    def __init__(self, spell: Spell, draft: Draft) -> None:
        self._spell, self._facts = spell, draft.facts
        self.start = self._pieces(0, True)

    def expected(self, state: WritingState) -> list[int]:
        """Return the tokens that are allowed next; none after the end."""
        return sorted({rest[0] for rest, _, _ in state})

    def follow(self, state: WritingState, token: int) -> WritingState:
        """Return the state after a token; it is empty after the last token or one that is not allowed."""
        found: set[tuple[Tokens, int, bool]] = set()
        for rest, facts, begins in state:
            if rest[0] == token:
                found |= {(rest[1:], facts, begins)} if rest[1:] else self._pieces(facts, begins)
        return frozenset(found)

    def _pieces(self, at: int, begins: bool) -> WritingState:
        """Return the pieces with the fact ``at``: each of its forms with each link before it and mark after it."""
        if at == len(self._facts):
            return frozenset()
        marks = [(".", True)]
        if at + 1 < len(self._facts):
            opens = self._facts[at + 1].opens
            marks = [(mark, False) for mark in MARKS if mark or not opens] + (marks if opens else [])
        links = ("",) if not at else OPENINGS if begins else LINKS
        texts, after = [], []
        for form in self._facts[at].forms:
            for words in (f"{link} {form}".strip() for link in links):
                for mark, ended in marks:
                    texts.append(f" {words[:1].upper() + words[1:] if begins else words}{mark}")
                    after.append((at + 1, ended))
        return frozenset((tuple(ids), *place) for ids, place in zip(self._spell(texts), after, strict=True))


def _prompt(kind: AskedKind) -> str:
    """Format the task and the examples of a kind."""
    shown = (f"Answer: {drafted(marked).text}\nFluent: {fluent}\n\n" for marked, fluent in EXAMPLES[kind])
    return f"{_TASK}{''.join(shown)}Answer:"


def states_only(text: str, draft: Draft) -> bool:
    """Whether a text has the facts of a draft, each once and in this order, and besides them linking words only."""
    linking = "|".join({word for part in (*LINKS, *OPENINGS) for word in part.split()})
    between = rf"((?:[,:;.]? (?:(?i:{linking}) )*)?)"
    forms = (
        "|".join(f"(?i:{re.escape(form[:1])}){re.escape(form[1:])}" for form in one.forms)
        for one in draft.facts
    )
    found = re.fullmatch(between + between.join(f"(?:{one})" for one in forms) + r"\.", text)
    said = [] if found is None else [re.findall(r"\w+", part) for part in found.groups()]
    return bool(said) and all(len(words) == len(set(words)) for words in said)


class SentenceWriter:
    """Writes answers with a decoder-only language model, which stays as it is.

    Args:
        backbone: The model, its tokenizer and its frame.
        identity: Name of the model and digest of its weights.

    Raises:
        MismatchError: The model's context is too short.
    """

    def __init__(self, backbone: Backbone, identity: str) -> None:
        self.identity = identity
        self._model, self._tokenizer, frame = backbone.model.eval(), backbone.tokenizer, backbone.frame
        self._opening = () if frame is None else frame.opening
        self._shown = {kind: [*self._opening, *self.tokens(_prompt(kind))] for kind in EXAMPLES}
        self._read: dict[AskedKind, DynamicCache] = {}
        most = max_positions(self._model.config)
        needed = max(map(len, self._shown.values())) + 2 * LONGEST_TEXT
        if most is not None and most < needed:
            raise MismatchError(
                f"{identity} reads at most {most:,} tokens, and writing answers takes {needed:,}"
            )

    @torch.inference_mode()
    def write(self, draft: Draft, kind: AskedKind) -> str | None:
        """Write an answer.

        Args:
            draft: The filled template.
            kind: Kind of the question, which selects the examples.

        Returns:
            The text; None if the template has to be used, as it marks no facts, or the text would be too long or fails
            the check.
        """
        if not draft.facts or kind not in EXAMPLES:
            return None
        sentences = Sentences(lambda texts: list(map(tuple, continued(self._tokenizer, texts))), draft)
        state, written = sentences.start, list[int]()
        unread = continued(self._tokenizer, [f" {draft.text}\nFluent:"])[0]
        if len(unread) > LONGEST_TEXT:
            return None
        cache = copy.deepcopy(self._examples(kind))
        while allowed := sentences.expected(state):
            if len(written) == LONGEST_TEXT:
                return None
            token = allowed[0]
            if len(allowed) > 1:
                token = allowed[int(self._next_logits(unread, cache)[allowed].argmax())]
                unread = []
            written.append(token)
            unread.append(token)
            state = sentences.follow(state, token)
        text = str(self._tokenizer.decode(written, skip_special_tokens=True)).strip()
        return text if states_only(text, draft) else None

    def tokens(self, text: str) -> list[int]:
        """Tokenise a text, without special tokens."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _examples(self, kind: AskedKind) -> DynamicCache:
        """Return the cache after the examples, which are read once."""
        if kind not in self._read:
            cache = DynamicCache(config=self._model.config)
            self._next_logits(self._shown[kind], cache)
            self._read[kind] = cache
        return self._read[kind]

    def _next_logits(self, tokens: Sequence[int], cache: DynamicCache) -> Tensor:
        """Read tokens after those of the cache; returns the logits [V] of the next one."""
        ids = torch.tensor([list(tokens)], device=self._model.device)
        read = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = read.logits[0, -1].float().cpu()
        return logits


def check_writer(name: str, own: BackboneSource | None) -> None:
    """Check that a writer can be loaded, without its weights.

    Args:
        name: As for :func:`load_writer`.
        own: Source of the answering model's backbone; None for one that was trained, or without such a model.

    Raises:
        MismatchError: The writer cannot be loaded, or is to be the answering model's backbone, which is another one.
    """
    if name != OWN:
        check_backbone(CausalSettings(name=name, train="frozen"))
    elif own is None or own.settings.train != "frozen" or not isinstance(own.settings, CausalSettings):
        raise MismatchError(
            "there is no model with a frozen pretrained decoder-only backbone, which could write; name one instead of "
            f"{OWN!r}, such as {GEMMA}"
        )


def load_writer(
    name: str, device: str | torch.device = "auto", model: PersonalizedModel | None = None
) -> SentenceWriter:
    """Load a pretrained decoder-only model that writes answers, with frozen weights.

    Args:
        name: A hub name, a folder, a file ``*.gguf``, ``packaged:gemma3-270m`` for the pip package, or ``own`` for the
            backbone of ``model``, which then writes, too.
        device: "auto" for the first GPU, or else the CPU; or a torch device.
        model: The model that answers; None without one.

    Returns:
        The writer.

    Raises:
        MismatchError: The writer cannot be loaded, ``model`` has no such backbone, or there is no such device.
    """
    source = None if model is None else model.settings.backbone
    check_writer(name, source)
    if name == OWN and model is not None and source is not None:
        backbone = Backbone(model.backbone, model.tokenizer, model.frame)
    else:
        place = find_device(device)
        backbone, source = load_backbone(CausalSettings(name=name, train="frozen"))
        backbone.model.to(place)
    assert source is not None, "a frozen backbone has a source"
    return SentenceWriter(backbone, f"{source.settings.name} {source.digest}")
