"""Third layer of the model class: answers by free or constrained decoding, from drafts, or as a choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.backbones.base import Backbone
from palate.config.registry import tasks
from palate.encoders.base import UserPrompt
from palate.errors import MismatchError
from palate.model.asking import Asked
from palate.model.config import PersonalizedSettings
from palate.model.drafts import decided_names, drafts_of, kept_drafts, stream_drafts
from palate.model.generation import Prefix, TokenStreamer, choose, log_likelihood, read_ahead, write
from palate.model.grammar import Grammar, GrammarProcessor
from palate.model.parts import Instruction
from palate.model.positions import check_length
from palate.model.prompt import Prompt, begin, finish
from palate.model.reading import ReadingModel
from palate.model.tables import Table
from palate.schema import History, Windows
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.questions import Question


class AnsweringModel(ReadingModel):
    """Model that generates, drafts and scores answers from user prompts."""

    def __init__(self, settings: PersonalizedSettings, backbone: Backbone, table: Table) -> None:
        super().__init__(settings, backbone, table)
        self.constrained = settings.grammar
        """Whether decoding is constrained by the task's grammar: names of the catalogue, each at most once."""
        self._grammar: tuple[tuple[tuple[str, ...], str, int, tuple[str, ...]], Grammar] | None = None

    @torch.inference_mode()
    def answer(
        self, windows: Windows, instruction: Instruction = None, *, streamer: TokenStreamer | None = None
    ) -> list[str]:
        """Generate an answer for each of B windows, whose indices refer to :attr:`table`."""
        return self._answer(self.user_prompt(windows), instruction, streamer) if len(windows) else []

    @torch.inference_mode()
    def generate(self, histories: Sequence[History], instruction: Instruction = None) -> list[str]:
        """Generate an answer for each history by greedy decoding.

        Args:
            histories: B histories, oldest event first; :meth:`visible` returns the part of each that is read.
            instruction: One for all users or one for each; None for the trained one.

        Returns:
            B answers.

        Raises:
            DataError: An item is not in :attr:`table`, a rating is not on its scale, or the columns of a history
                have different lengths.
        """
        return self._answer(self.encode(histories), instruction) if len(histories) else []

    @torch.inference_mode()
    def generate_from(
        self,
        user_prompts: Tensor | Sequence[Tensor] | UserPrompt,
        instruction: Instruction = None,
        streamer: TokenStreamer | None = None,
    ) -> list[str]:
        """Generate answers from user prompts, such as stored ones or those of a state.

        Args:
            user_prompts: [B, M, E], B tensors [M, E] of different lengths, or a result of :meth:`encode`, which also
                holds user-specific vectors of the categories that a question names.
            instruction: One for all users or one for each; None for the trained one.
            streamer: Receives the tokens as they are generated.

        Returns:
            B answers, by greedy decoding.
        """
        user = self._given(user_prompts)
        return self._answer(user, instruction, streamer=streamer) if len(user.embeddings) else []

    @torch.inference_mode()
    def prefix(self, histories: Sequence[History]) -> Prefix:
        """Prefill the prefix of the histories into the KV cache, for :meth:`generate_after`.

        Raises:
            MismatchError: The backbone is an encoder-decoder, or reads user vectors by cross-attention.
            DataError: As for :meth:`generate`.
        """
        if self.frame is None:
            raise MismatchError(
                "an encoder-decoder reads user and instruction together and has no prefix; use generate()"
            )
        if self.conditioning is not None:
            raise MismatchError(
                "the backbone reads user vectors by cross-attention, so that there is no prefix; use generate()"
            )
        return self._prefix(self.encode(histories))

    @torch.inference_mode()
    def read(self, windows: Windows) -> UserPrompt | Prefix:
        """Encode each of B windows once, for several calls of :meth:`generate_after` and :meth:`choose`.

        Returns:
            A prefilled prefix with a decoder-only backbone, otherwise the user prompts.
        """
        user = self.user_prompt(windows)
        return user if self.frame is None or self.conditioning is not None else self._prefix(user)

    @torch.inference_mode()
    def generate_after(self, before: UserPrompt | Prefix, instruction: Instruction = None) -> list[str]:
        """Generate an answer for each of B users from a result of :meth:`prefix` or :meth:`read`, not modified."""
        return self._answer(before, instruction)

    @torch.inference_mode()
    def choose(
        self,
        given: Windows | UserPrompt | Prefix,
        choices: Sequence[Sequence[str]],
        instruction: Instruction = None,
    ) -> Tensor:
        """Compute the probabilities of C answers for each of B users, normalised over the answers.

        If the answers of each user start with different tokens, only the first token is scored, otherwise all tokens.

        Args:
            given: Windows, or the result of :meth:`read` for several questions about them.
            choices: C answers for each user.
            instruction: One for all users or one for each; None for the trained one.

        Returns:
            Probabilities, [B, C].
        """
        before = self.user_prompt(given) if isinstance(given, Windows) else given
        texts = [text for row in choices for text in row]
        tokens, mask = (part.view(len(choices), -1, part.shape[1]) for part in self._tokens(texts))
        prompt = self._after_or_inject(before, self._asked(self._questions(instruction)))
        prefix = before if isinstance(before, Prefix) else None
        return choose(self.backbone, self.frame, prompt, tokens, mask, prefix)

    @torch.inference_mode()
    def log_likelihood(
        self,
        user_prompts: Tensor | Sequence[Tensor] | UserPrompt,
        texts: Sequence[str],
        instruction: Instruction = None,
    ) -> Tensor:
        """Compute the log-probability [B] of a text as the answer for each user prompt, including its end token.

        The user prompts are those of :meth:`generate_from`.
        """
        prompt = self.complete(self._given(user_prompts), instruction)
        return log_likelihood(self.backbone, self.frame, prompt, *self._tokens(texts))

    @property
    def grammar(self) -> Grammar:
        """The grammar of the task's answers over the backbone's tokens.

        Raises:
            MismatchError: The task has no grammar.
        """
        settings = self.settings
        if tasks.find(settings.task.kind).build is not CategoryPreference:
            raise MismatchError(
                f"answers to the task {settings.task.kind!r} cannot be constrained, as it has no grammar; set "
                "model.grammar=false"
            )
        ratings = tuple(f"{value:g}" for value in self.table.rating_values)
        key = settings.categories, settings.category_field, settings.task.max_labels, ratings
        if self._grammar is None or self._grammar[0] != key:
            end = self.tokenizer.eos_token_id if self.frame is None else self.frame.end
            self._grammar = key, Grammar(self.tokenizer, end, *key)
        return self._grammar[1]

    def _given(self, user_prompts: Tensor | Sequence[Tensor] | UserPrompt) -> UserPrompt:
        """Batch user prompts given by a caller, on any device and of any scale."""
        if isinstance(user_prompts, UserPrompt):
            return self.like_tokens(user_prompts.to(self.device))
        return self.like_tokens(UserPrompt.of([one.to(self.device) for one in user_prompts]))

    def _answer(
        self, before: UserPrompt | Prefix, instruction: Instruction, streamer: TokenStreamer | None = None
    ) -> list[str]:
        """Generate an answer for each of B users, from their user prompts or a prefilled prefix."""
        questions, most = self._questions(instruction), self.settings.max_new_tokens
        prefix = before if isinstance(before, Prefix) else None
        asked = self._asked(questions)
        prompt = self._after_or_inject(before, asked)
        check_length(self.backbone.config, prompt.mask.shape[1], most)
        each = questions * len(prompt.mask) if len(questions) == 1 else questions
        said = self._drafts(before, each, prompt, most)
        rest = [row for row, draft in enumerate(said) if draft is None]
        if rest and (streamer is not None or prefix is not None):
            rest = list(range(len(said)))  # a single generation for all
        if rest:
            some = prompt if len(rest) == len(said) else prompt[torch.tensor(rest, device=self.device)]
            constraint = self._constraint(before, each, rest)
            written = write(self.backbone, self.frame, some, most, prefix, streamer, constraint)
            for row, token_ids in zip(rest, written.tolist(), strict=True):
                said[row] = token_ids
        elif streamer is not None:
            start = [self.backbone.config.decoder_start_token_id] if self.frame is None else []
            stream_drafts(streamer, [one for one in said if one], start, self.tokenizer.pad_token_id)
        answers: list[str] = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        return answers

    def _drafts(
        self, before: UserPrompt | Prefix, questions: Sequence[Question], prompt: Prompt, most: int
    ) -> list[list[int] | None]:
        """Draft the answers of B users from their encoder's decisions; None where the backbone has to generate."""
        nothing: list[list[int] | None] = [None] * len(prompt.mask)
        if not self.constrained or before.named is None:
            return nothing
        grammar, prefix = self.grammar, before if isinstance(before, Prefix) else None
        decided = decided_names(before.named)
        drafts = drafts_of(grammar, questions, decided)
        rows = [row for row, draft in enumerate(drafts) if draft is not None and len(draft) <= most]
        if not rows or (prefix is not None and len(rows) < len(drafts)):
            return nothing
        some = prompt if len(rows) == len(drafts) else prompt[torch.tensor(rows, device=self.device)]
        written = [draft for row in rows if (draft := drafts[row]) is not None]
        allowed = [
            grammar.along(draft, questions[row].kind, decided[row])
            for row, draft in zip(rows, written, strict=True)
        ]
        kept = kept_drafts(self.backbone, self.frame, some, written, allowed, prefix)
        for row, draft, keep in zip(rows, written, kept, strict=True):
            nothing[row] = draft if keep else None
        return nothing

    def _constraint(
        self, before: UserPrompt | Prefix, questions: Sequence[Question], rows: Sequence[int]
    ) -> GrammarProcessor | None:
        """Return the logits processor for some of B users' questions; None unless :attr:`constrained` is set.

        If the user encoder has decided on names, answers are constrained to them.
        """
        if not self.constrained:
            return None
        grammar = self.grammar
        decided = None if before.named is None else decided_names(before.named)
        starts = [grammar.start(questions[row].kind, decided[row] if decided else None) for row in rows]
        return GrammarProcessor(grammar, starts)

    def _after_or_inject(self, before: UserPrompt | Prefix, asked: Asked) -> Prompt:
        return self._after(before, asked) if isinstance(before, Prefix) else self._inject(before, asked)

    def _prefix(self, user: UserPrompt) -> Prefix:
        edges = self._edges()
        assert edges is not None, "an encoder-decoder has no prefix"
        beginning = begin(self.soft_task_prompt, user, edges, self.settings.user_first)
        return read_ahead(self.backbone, beginning, user)

    def _after(self, prefix: Prefix, asked: Asked) -> Prompt:
        edges = self._edges()
        assert edges is not None, "a prefix comes from a decoder-only backbone"
        vectors, mask = self._asked_vectors(asked, prefix.user)
        return finish(prefix.prompt, self.soft_task_prompt, vectors, mask, edges, self.settings.user_first)
