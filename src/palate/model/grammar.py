"""Constrained decoding: a grammar of the task's answers, in which each name occurs at most once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from transformers import LogitsProcessor

from palate.backbones.spelling import continued, spelled
from palate.errors import MismatchError
from palate.schema import QuestionKind
from palate.tasks.questions import YES_NO
from palate.tasks.verbalizer import SENTENCES, nothing_named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALVES = ("liked", "disliked")
KEPT_STATES = 100_000
"""Maximum number of cached states; when exceeded, the cache is cleared."""
Decided: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Indices of the categories that a user encoder has chosen, liked and disliked."""


@dataclass(frozen=True)
class _Step:
    """A part of a sentence: a fixed text, or a list of liked or disliked names (a half)."""

    tokens: tuple[int, ...] = ()  # of a text, or of the phrase for an empty half
    most: int = 0  # maximum number of names; 0 for a text
    half: int | None = None  # 0 for liked names, 1 for disliked ones


class _Thread(NamedTuple):
    """A position in a sentence, from which the next token is expected."""

    sentence: int
    step: int
    part: Literal["text", "name", "comma"]
    at: int  # index of a token in the text or comma, or node of the trie
    used: tuple[int, ...]  # names generated so far, sorted
    said: int  # number of names generated in this half
    decided: Decided | None  # the names that the halves have to contain; None for any


@dataclass(eq=False)
class GrammarState:
    """State of the automaton: all positions in sentences that the tokens generated so far may have reached."""

    threads: frozenset[_Thread]
    allowed: Tensor  # [A] ids of the tokens allowed next
    after: dict[int, GrammarState] = field(default_factory=dict)  # cached successors by token


class Grammar:
    """Automaton over tokens that accepts the answers to all kinds of questions about one catalogue.

    Names are stored in a trie of their tokens. A state is a set of positions (as in a non-deterministic automaton),
    because a name may be a prefix of another one or contain a comma ("Sci-Fi", "Sci-Fi Horror"). States are created
    lazily and cached.

    The categories chosen by a user encoder may restrict the names: a half then has to contain all of its chosen names,
    in any order.

    Args:
        tokenizer: The backbone's tokenizer.
        end: Id of the end token.
        names: Names of the L categories.
        field: Noun for a category, in the singular.
        max_labels: Maximum number of names in a half.
        ratings: Texts of the rating values, the answers to questions for a rating.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        end: int,
        names: Sequence[str],
        field: str,
        max_labels: int,
        ratings: Sequence[str] = (),
    ) -> None:
        self.names = tuple(names)
        self._end = end
        self._comma = tuple(continued(tokenizer, [","])[0])
        self._spelled = spelled(tokenizer, names)
        self._tries: dict[tuple[int, ...] | None, _Trie] = {}
        self._alone = _Trie(dict(enumerate(_begun(tokenizer, names))))
        self._sentences: list[tuple[_Step, ...]] = []
        self._kinds: dict[QuestionKind, list[int]] = {}
        empty = spelled(tokenizer, nothing_named(field))
        for kind, (opening, *rest) in SENTENCES.items():
            steps = [_Step(tuple(_begun(tokenizer, [opening.rstrip()])[0]))]
            for part in rest:
                if part in HALVES:
                    half = HALVES.index(part)
                    steps.append(_Step(tuple(empty[half]), max_labels, half))
                else:
                    steps.append(_Step(tuple(continued(tokenizer, [part.rstrip()])[0])))
            self._add(kind, steps)
        for kind, texts in (("yes-no", YES_NO), ("rating", ratings)):
            for ids in _begun(tokenizer, texts):
                self._add(kind, [_Step(tuple(ids))])
        self._add("pair", [_Step((), 1)])
        self._kinds["item-yes-no"] = self._kinds["yes-no"]
        self._states: dict[frozenset[_Thread], GrammarState] = {}

    def start(self, kind: QuestionKind | None = None, decided: Decided | None = None) -> GrammarState:
        """Return the state before an answer.

        Args:
            kind: Kind of the question; None for any kind.
            decided: The names that the halves of the answer have to contain; None for any names.

        Returns:
            The state.

        Raises:
            MismatchError: The answers to this kind are titles of items.
        """
        if kind == "item-pair":
            raise MismatchError(
                "the answer to a question of kind 'item-pair' is a title, which the grammar does not contain; use "
                "choose(), or decode without the grammar"
            )
        chosen = range(len(self._sentences)) if kind is None else self._kinds.get(kind, [])
        starts = (_Thread(sentence, 0, "text", 0, (), 0, decided) for sentence in chosen)
        return self._state(thread for start in starts for thread in self._begin(start, 0, ()))

    def draft(self, kind: QuestionKind, decided: Decided) -> list[int]:
        """Return the tokens of the answer with the chosen names, including the end token, to a question for names."""
        (sentence,) = self._kinds[kind]
        tokens: list[int] = []
        for step in self._sentences[sentence]:
            said = [] if step.half is None else [self._spelled[name] for name in decided[step.half]]
            tokens += said[0] if said else step.tokens
            for name in said[1:]:
                tokens += [*self._comma, *name]
        return [*tokens, self._end]

    def along(
        self, token_ids: Sequence[int], kind: QuestionKind | None = None, decided: Decided | None = None
    ) -> list[Tensor]:
        """Return the tokens allowed at each position of an answer; ``kind`` and ``decided`` as for :meth:`start`."""
        state, allowed = self.start(kind, decided), []
        for token in token_ids:
            allowed.append(state.allowed)
            state = self.follow(state, token)
        return allowed

    def follow(self, state: GrammarState, token: int) -> GrammarState:
        """Return the state after a token; it is empty after the end token or a token that is not allowed."""
        found = state.after.get(token)
        if found is None:
            found = self._state(after for thread in state.threads for after in self._advanced(thread, token))
            state.after[token] = found
        return found

    def _add(self, kind: QuestionKind, steps: Sequence[_Step]) -> None:
        self._kinds.setdefault(kind, []).append(len(self._sentences))
        self._sentences.append(tuple(steps))

    def _state(self, threads: Iterable[_Thread]) -> GrammarState:
        key = frozenset(threads)
        if key not in self._states:
            if len(self._states) >= KEPT_STATES:
                self._states.clear()
                self._tries.clear()
            allowed = sorted({token for thread in key for token in self._expected(thread)})
            self._states[key] = GrammarState(key, torch.tensor(allowed, dtype=torch.long))
        return self._states[key]

    def _names_at(self, thread: _Thread) -> _Trie:
        half = self._sentences[thread.sentence][thread.step].half
        if half is None:
            return self._alone
        names = None if thread.decided is None else thread.decided[half]
        if names not in self._tries:
            every = range(len(self.names)) if names is None else names
            self._tries[names] = _Trie({name: self._spelled[name] for name in every})
        return self._tries[names]

    def _begin(self, thread: _Thread, step: int, used: tuple[int, ...]) -> list[_Thread]:
        """Return the first positions of a step of a thread's sentence."""
        steps = self._sentences[thread.sentence]
        text = thread._replace(step=step, part="text", at=0, used=used, said=0)
        if step == len(steps) or not steps[step].most:
            return [text]
        names = text._replace(part="name")
        can_name = self._names_at(names).open(0, used)
        can_be_empty = bool(steps[step].tokens) and (thread.decided is None or not can_name)
        return [text] * can_be_empty + [names] * can_name

    def _expected(self, thread: _Thread) -> list[int]:
        """Return the tokens allowed at a position."""
        if thread.part == "name":
            return self._names_at(thread).tokens(thread.at, thread.used)
        if thread.part == "comma":
            return [self._comma[thread.at]]
        steps = self._sentences[thread.sentence]
        return [self._end if thread.step == len(steps) else steps[thread.step].tokens[thread.at]]

    def _advanced(self, thread: _Thread, token: int) -> list[_Thread]:
        """Return the positions after a token."""
        if thread.part == "name":
            return self._named(thread, token)
        if token not in self._expected(thread):
            return []
        steps = self._sentences[thread.sentence]
        if thread.part == "comma":
            done = thread.at + 1 == len(self._comma)
            return [thread._replace(part="name", at=0) if done else thread._replace(at=thread.at + 1)]
        if thread.step == len(steps):
            return []
        if thread.at + 1 < len(steps[thread.step].tokens):
            return [thread._replace(at=thread.at + 1)]
        return self._begin(thread, thread.step + 1, thread.used)

    def _named(self, thread: _Thread, token: int) -> list[_Thread]:
        """Return the positions after a token of a name, which may end with it."""
        trie = self._names_at(thread)
        node = trie.child(thread.at, token)
        if node is None or not trie.open(node, thread.used):
            return []
        places = [thread._replace(at=node)]
        label = trie.label(node)
        if label is not None and label not in thread.used:
            used, said = tuple(sorted((*thread.used, label))), thread.said + 1
            more = said < self._sentences[thread.sentence][thread.step].most and trie.open(0, used)
            if thread.decided is None or not more:
                places += self._begin(thread, thread.step + 1, used)
            if more:
                places.append(thread._replace(part="comma", at=0, used=used, said=said))
        return places


class _Trie:
    """Trie of the token sequences of names, by their indices."""

    def __init__(self, names: Mapping[int, Sequence[int]]) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._labels: list[int | None] = [None]
        self._below: list[int] = [0]  # number of names that end at or below a node
        self._paths: dict[int, frozenset[int]] = {}  # nodes on the path of each name
        for label, ids in names.items():
            node, path = 0, [0]
            for token in ids:
                if token not in self._children[node]:
                    self._children[node][token] = len(self._children)
                    self._children.append({})
                    self._labels.append(None)
                    self._below.append(0)
                node = self._children[node][token]
                path.append(node)
            self._labels[node] = label
            for one in path:
                self._below[one] += 1
            self._paths[label] = frozenset(path)

    def child(self, node: int, token: int) -> int | None:
        """Return the child of a node for a token; None if no name continues with it."""
        return self._children[node].get(token)

    def label(self, node: int) -> int | None:
        """Return the name that ends at a node; None if none does."""
        return self._labels[node]

    def open(self, node: int, used: Sequence[int]) -> bool:
        """Return whether an unused name ends at or below a node."""
        return self._below[node] > sum(node in self._paths.get(label, ()) for label in used)

    def tokens(self, node: int, used: Sequence[int]) -> list[int]:
        """Return the tokens after a node that lead to unused names."""
        return [token for token, child in self._children[node].items() if self.open(child, used)]


class GrammarProcessor(LogitsProcessor):  # type: ignore[misc]
    """Logits processor that sets the logits of tokens that a grammar does not allow to -inf; for one generation.

    Args:
        grammar: The grammar.
        starts: The state before each of B answers.
    """

    def __init__(self, grammar: Grammar, starts: Sequence[GrammarState]) -> None:
        self._grammar, self._states = grammar, list(starts)
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask the scores [B, V] of the tokens after ``input_ids`` [B, N]."""
        if self._begun:
            last = input_ids[:, -1].tolist()
            follow = self._grammar.follow
            self._states = [follow(state, token) for state, token in zip(self._states, last, strict=True)]
        self._begun = True
        vocabulary = scores.shape[1]
        index = torch.cat([
            state.allowed + row * vocabulary for row, state in enumerate(self._states) if state.threads
        ] or [torch.zeros(0, dtype=torch.long)]).to(scores.device)  # fmt: skip
        flat = scores.flatten()
        constrained = torch.full_like(flat, -torch.inf)
        constrained[index] = flat[index]
        constrained = constrained.view_as(scores)
        ended = [row for row, state in enumerate(self._states) if not state.threads]
        if ended:  # generate() itself appends padding
            constrained[ended] = scores[ended]
        return constrained


def _begun(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts that start an answer."""
    ids: list[list[int]] = (
        tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    )
    return ids
