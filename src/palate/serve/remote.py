"""Generation by an inference engine: palate holds users, states and prompts, and the engine runs the backbone.

Answers equal those of the loaded model. For grammar-constrained decoding, the engine generates freely and the grammar
checks each token; at the first token that is not allowed, generation is restarted there with the allowed tokens only.
The result is greedy decoding under the grammar, and takes a single request if the answer follows the grammar, as those
of trained models do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.errors import EngineError, EngineUnreachableError
from palate.model.drafts import decided_names
from palate.model.generation import ends
from palate.serve.batcher import AnswerPieces, OverloadedError, QueuedQuestion
from palate.serve.completions import CompletionsClient, WrittenTokens
from palate.serve.settings import EngineSettings, Limits

if TYPE_CHECKING:
    from palate.model.grammar import Grammar, GrammarState
    from palate.model.model import PersonalizedModel

PROBES = ("Which genres does this user like and dislike?", "Does this user like Drama?")
"""Texts for which the engine's log-probabilities are compared with the loaded backbone's."""
PROBED = 6
"""Number of tokens generated for each of :data:`PROBES`."""
LIKELIEST = 5
"""Number of log-probabilities compared per position."""
ALIKE = 0.35
"""Maximum mean difference of log-probabilities, in nats, for equal weights; allows for rounding to bfloat16."""


@dataclass(frozen=True)
class Fingerprint:
    """Comparison of an engine's log-probabilities with the loaded backbone's."""

    apart: float
    """Mean absolute difference of the most probable tokens' log-probabilities, in nats."""
    same_tokens: bool
    """Whether the engine generated the same tokens."""

    @property
    def same(self) -> bool:
        """Whether the engine has the same weights, up to rounding."""
        return self.apart <= ALIKE


class EngineWriter:
    """Generates answers with an engine that serves the loaded model's backbone.

    Args:
        model: A model with a decoder-only backbone.
        settings: URL and model of the engine.
        limits: Limits of concurrent requests and of their time.
    """

    def __init__(self, model: PersonalizedModel, settings: EngineSettings, limits: Limits) -> None:
        assert model.frame is not None, "encoder-decoder models are refused at the start of the server"
        self.client = CompletionsClient(settings, limits.engine, limits.engine_seconds)
        self._model, self._stops = model, ends(model.backbone, model.frame)
        # tokenizers and grammars are not thread-safe
        self._computing, self._checking = threading.Lock(), threading.Lock()
        self._checked, self._called = False, settings.model

    @property
    def checked(self) -> bool:
        """Whether the engine was reachable and served these weights at the last check."""
        return self._checked

    @property
    def called(self) -> str | None:
        """Name of the model on the engine; None until the engine was reached."""
        return self._called

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def check_now(self) -> None:
        """Check that the engine still serves the model, and its weights unless they are verified already.

        Raises:
            EngineError: The engine is unreachable, or serves another model or other weights.
        """
        try:
            if self._called is not None and self._called not in self.client.models():
                raise EngineError(
                    f"the engine at {self.client.settings.url} no longer serves {self._called!r}"
                )
        except EngineError:
            self._checked = False
            raise
        self.check()

    def check(self) -> None:
        """Verify that the engine serves the model's weights, unless they are verified already.

        Raises:
            EngineError: The engine serves other weights, or is unreachable.
        """
        with self._checking:
            if self._checked:
                return
            self._called = self.client.model
            found = self.fingerprint()
            if not found.same:
                raise EngineError(
                    f"the engine at {self.client.settings.url} serves other weights as {self.client.model!r}: its "
                    f"log-probabilities differ by {found.apart:.2f} from the run's backbone, expected at most "
                    f"{ALIKE:g}; serve the weights of  palate export RUN --weights backbone"
                )
            self._checked = True

    def fingerprint(self) -> Fingerprint:
        """Compare the engine's log-probabilities with the loaded backbone's on its completions of fixed texts."""
        differences, same = [], True
        for text in PROBES:
            prompt = self._probe(text)
            found = self.client.written(prompt, PROBED, self._stops, likeliest=LIKELIEST)
            own = self._log_probabilities(prompt, found.token_ids)  # [N, V]
            same &= own.argmax(dim=1).tolist() == found.token_ids
            for place, likeliest in zip(own, found.likeliest, strict=False):
                differences += [abs(float(place[token]) - value) for token, value in likeliest.items()]
        if not differences:
            raise EngineError(
                f"the engine at {self.client.settings.url} returns no log-probabilities, which are needed to verify "
                "its weights; start an engine that supports the option logprobs"
            )
        return Fingerprint(sum(differences) / len(differences), same)

    def write(self, asked: QueuedQuestion) -> str:
        """Generate the answer to a question, with pieces passed to its ``tell``.

        Raises:
            EngineError: The engine is unreachable, failed, is busy, or serves other weights.
        """
        try:
            self.check()
            return self._written(asked)
        except EngineUnreachableError:
            self._checked = False  # it may be restarted with other weights
            raise

    def _written(self, asked: QueuedQuestion) -> str:
        answer = _Answer(asked, self._computing)
        pieces = AnswerPieces(asked.model.tokenizer, [asked.tell]) if asked.tell is not None else None
        while not answer.ended:
            before = len(answer.token_ids)
            for token in self._next(asked, answer):
                answer.add(token)
                if pieces is not None:
                    with self._computing:
                        pieces.put(torch.tensor([token]))
            if len(answer.token_ids) == before:
                raise EngineError(
                    f"the engine at {self.client.settings.url} generated no token; its log says more"
                )
        with self._computing:
            if pieces is not None:
                pieces.end()
            text: str = asked.model.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
        return text

    def _next(self, asked: QueuedQuestion, answer: _Answer) -> Iterator[int]:
        """Yield the engine's next tokens up to the first that is not allowed, which is replaced; at least one."""
        if (only := answer.only) is not None:
            yield only
            return
        prompt, left = answer.prompt, answer.left
        wrong = False
        with closing(self._free(asked, prompt, left)) as parts:
            for part in parts:
                for token in part.token_ids:
                    if wrong := not answer.allows(token):
                        break
                    yield token
                    if answer.ended:
                        return
                if wrong:
                    break
        if wrong:  # generate the most probable allowed token instead
            found = self.client.written(answer.prompt, 1, (), allowed=answer.allowed)
            yield from found.token_ids[:1]

    def _free(self, asked: QueuedQuestion, prompt: Tensor, left: int) -> Generator[WrittenTokens, None, None]:
        if asked.tell is not None:
            yield from self.client.pieces(prompt, left, self._stops)
        else:
            yield self.client.written(prompt, left, self._stops)

    @torch.inference_mode()
    def _probe(self, text: str) -> Tensor:
        """Assemble a prompt [T, E] of task prompt and text."""
        model, frame = self._model, self._model.frame
        assert frame is not None
        with self._computing:
            ids = model.tokenizer(text)["input_ids"]
        opening, rest = (
            model.embedded(torch.tensor(some, device=model.device))
            for some in ([*frame.opening, *ids[:1]], [*ids[1:], *frame.closing])
        )
        return torch.cat([opening, model.soft_task_prompt.to(opening.dtype), rest])

    @torch.inference_mode()
    def _log_probabilities(self, prompt: Tensor, token_ids: Sequence[int]) -> Tensor:
        """Compute the backbone's log-probabilities [N, V] at the positions of N generated tokens."""
        written = self._model.embedded(torch.tensor(token_ids, device=prompt.device))
        whole = torch.cat([prompt, written.to(prompt.dtype)])[None]
        logits = self._model.backbone(inputs_embeds=whole, use_cache=False).logits[0]
        found: Tensor = logits[len(prompt) - 1 : -1].float().log_softmax(dim=-1).cpu()
        return found


class _Answer:
    """An answer during generation: its prompt, its tokens, and the grammar's state."""

    @torch.inference_mode()
    def __init__(self, asked: QueuedQuestion, computing: threading.Lock) -> None:
        self._asked, self._computing = asked, computing
        self._model, self.token_ids = asked.model, list[int]()
        assert self._model.frame is not None
        self._stops = ends(self._model.backbone, self._model.frame)
        with computing:
            whole = self._model.complete(asked.user.to(self._model.device), asked.question)
            self._grammar: Grammar | None = self._model.grammar if self._model.constrained else None
            self._state: GrammarState | None = None
            if self._grammar is not None:
                named = asked.user.named
                decided = None if named is None else decided_names(named)[0]
                self._state = self._grammar.start(asked.question.kind, decided)
        self._prompt = whole.embeddings[0][whole.mask[0].bool()]

    @property
    def left(self) -> int:
        """Number of tokens until ``max_new_tokens``."""
        return self._model.settings.max_new_tokens - len(self.token_ids)

    @property
    def ended(self) -> bool:
        """Whether the answer ends with an end token or has the maximum length."""
        return self.left <= 0 or bool(self.token_ids and self.token_ids[-1] in self._stops)

    @property
    def prompt(self) -> Tensor:
        """Embeddings of the prompt and the generated tokens, [T, E]."""
        if not self.token_ids:
            return self._prompt
        with torch.inference_mode():
            written = self._model.embedded(torch.tensor(self.token_ids, device=self._prompt.device))
            return torch.cat([self._prompt, written.to(self._prompt.dtype)])

    @property
    def allowed(self) -> list[int]:
        """Ids of tokens that the grammar allows next; empty without a grammar."""
        return [] if self._state is None else self._state.allowed.tolist()

    @property
    def only(self) -> int | None:
        """The only token that the grammar allows next; None if there are several."""
        allowed = self.allowed
        return allowed[0] if len(allowed) == 1 else None

    def allows(self, token: int) -> bool:
        """Return whether a token is allowed next."""
        return self._state is None or token in self.allowed

    def add(self, token: int) -> None:
        """Append an allowed token."""
        self.token_ids.append(token)
        if self._grammar is not None and self._state is not None:
            with self._computing:
                self._state = self._grammar.follow(self._state, token)


class RemoteAnswers:
    """Thread pool that answers questions with an engine; further questions are queued, as by :class:`Batcher`."""

    def __init__(self, writer: EngineWriter, limits: Limits) -> None:
        self._writer, self._limits = writer, limits
        self._waiting: deque[QueuedQuestion] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"palate-engine-{number}", daemon=True)
            for number in range(limits.engine)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of queued questions."""
        return len(self._waiting)

    def ask(self, questions: Sequence[QueuedQuestion]) -> None:
        """Queue questions, all or none; raises :class:`OverloadedError` if the queue is full."""
        with self._changed:
            if self._stopped or len(self._waiting) + len(questions) > max(
                self._limits.waiting, len(questions)
            ):
                raise OverloadedError(len(self._waiting), 1)
            self._waiting.extend(questions)
            self._changed.notify(len(questions))

    def stop(self) -> None:
        """Answer the queued questions and stop."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._writer.close()

    def _work(self) -> None:
        while (asked := self._next()) is not None:
            self._answer(asked)

    def _answer(self, asked: QueuedQuestion) -> None:
        try:
            text = self._writer.write(asked)
        except Exception as error:
            asked.answer.set_exception(error)
        else:
            asked.answer.set_result(text)

    def _next(self) -> QueuedQuestion | None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return None
                asked = self._waiting.popleft()
                if asked.answer.set_running_or_notify_cancel():  # else its client has gone
                    return asked
