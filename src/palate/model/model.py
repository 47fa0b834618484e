"""The personalized model: item table, user encoder, task prompt and backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.backbones.base import Backbone, vocabulary_of
from palate.backbones.conditioning import Conditioning
from palate.backbones.load import find_backbone, rebuild_backbone
from palate.backbones.spelling import spelled
from palate.backbones.tokens import padded_tokens
from palate.config.recipe import TaskSettings, TextSettings
from palate.config.registry import tasks
from palate.data.dataset import load_dataset
from palate.data.population import PopulationSummary
from palate.encoders.base import Binding, BindsToData, KeepsState, KeptState, UserPrompt
from palate.encoders.batch import WindowTensors, window_tensors, windows_of
from palate.encoders.catalogue_free import UniversalEncoder, known_summary
from palate.encoders.kinds import build_user_encoder
from palate.encoders.text import BlockCatalogue, TextHistory
from palate.errors import MismatchError
from palate.items.categories import CategoryTable, build_category_table
from palate.items.encoder import ItemEncoder
from palate.model.asking import Asked
from palate.model.card import CardFacts, model_card
from palate.model.config import (
    BACKBONE,
    CARD,
    CONFIG,
    ITEMS,
    POPULATION,
    WEIGHTS,
    PersonalizedSettings,
    model_folder,
)
from palate.model.drafts import decided_names, drafts_of, kept_drafts, stream_drafts
from palate.model.generation import (
    Prefix,
    Round,
    TokenStreamer,
    choose,
    cross_entropy,
    log_likelihood,
    read_ahead,
    score,
    write,
)
from palate.model.grammar import Grammar, GrammarProcessor
from palate.model.history_state import HistoryState
from palate.model.positions import check_length
from palate.model.prompt import Edges, Prompt, begin, finish, inject, inject_beside
from palate.model.tables import (
    EventInput,
    Table,
    catalogue_of,
    described_table,
    encoder_sizes,
    extended_table,
    item_reading,
    load_table,
    made_by,
    vectors_of,
)
from palate.model.token_like import TokenLike
from palate.model.token_sample import TokenSample, scoring
from palate.model.weights import load_weights, save_weights
from palate.model.wording import max_new_tokens as longest_answer
from palate.runs.run import RunFolder, run_folder
from palate.schema import History, Ints, Item, Truth, WindowKind, Windows
from palate.system.device import dtype_of, find_device
from palate.system.files import fresh_folder, write_text
from palate.tasks import load_task
from palate.tasks.category_preference import CategoryPreference
from palate.tasks.questions import Question, recognised
from palate.tasks.verbalizer import nothing_named

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from palate.data.dataset import Dataset

Instruction: TypeAlias = str | Question | Sequence[str | Question] | None
"""One instruction for all users, or one for each; the task's if None. A question knows which categories it names."""
EVENTS_AT_ONCE = 4096
"""Events per pass of an encoder that reads whole histories, to limit its memory."""


class PersonalizedModel(nn.Module):
    """Model G(Z) with Z = [K; U_e; I_e]: a backbone that reads a user prompt before the instruction.

    Args:
        settings: Its configuration.
        backbone: The language model and its tokenizer.
        table: The items that histories may contain: vectors of the encoder that the model was trained with, text
            blocks for a text history, or categories by name.
        summary: Summary of the population, for a user encoder whose weights know no catalogue; None where it is bound
            to no data yet.

    Example:
        >>> history = data.histories(["1"])
        >>> answer = model.generate(history)[0]  # 'The user likes … and doesn't like …'
        >>> model.encode(history).embeddings.shape
        torch.Size([1, 8, 32])
    """

    def __init__(
        self,
        settings: PersonalizedSettings,
        backbone: Backbone,
        table: Table,
        summary: PopulationSummary | None = None,
    ) -> None:
        super().__init__()
        self.run: RunFolder | None = None
        """The run that trained it; None if it was not loaded from a run."""
        self.settings = settings
        self._text_encoder: ItemEncoder | None = None
        self.constrained = settings.grammar
        """Whether answers are constrained to what the task allows: every name at most once, from the catalogue."""
        self._grammar: tuple[tuple[tuple[str, ...], str, int, tuple[str, ...]], Grammar] | None = None
        self.tokenizer = backbone.tokenizer
        self.backbone, self.frame = backbone.model, backbone.frame
        self.table = table
        self.catalogue = catalogue_of(table, settings.user_encoder, self.tokenizer, settings.event_texts)
        embedding = self.backbone.get_input_embeddings().weight  # [V, E]
        if isinstance(settings.user_encoder, TextSettings):
            self.user_encoder: nn.Module = TextHistory(self.backbone.get_input_embeddings)
        else:
            sizes = encoder_sizes(table, embedding.shape[1], len(settings.categories), settings.event_texts)
            self.user_encoder = build_user_encoder(settings.user_encoder, sizes)
        words = torch.randint(backbone.vocab_size, (settings.task_prompt,))
        self.task_prompt = nn.Parameter(
            backbone.token_embeddings(words).detach().clone()
        )  # [K, E], random words
        self.conditioning: Conditioning | None = None
        """Cross-attention to the user's vectors; None if they stand in the prompt."""
        if settings.conditioning == "cross-attention":
            self.conditioning = Conditioning(self.backbone, settings.cross_attention_every)
        self.token_like = TokenLike(embedding.shape[1]) if settings.like_tokens else None
        if self.token_like is not None:
            self.token_like.start_from(backbone)
        if summary is not None:
            self.user_encoder = self._bound(summary)

    @property
    def reads_text(self) -> bool:
        """Whether the history is read as text, without a user encoder."""
        return isinstance(self.settings.user_encoder, TextSettings)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.task_prompt.device

    @property
    def vocab_size(self) -> int:
        """Number of tokens that the tokenizer has and the backbone has an embedding for."""
        return vocabulary_of(self.backbone, self.tokenizer)

    def forward(self, prepared: Mapping[str, Tensor] | None = None, **asked: Any) -> dict[str, Any]:
        """Compute the training loss.

        Args:
            prepared: What the user encoder has computed of its windows already, in the place of windows and questions:
                the arguments of :meth:`UniversalEncoder.view`. The loss is then 0.
            asked: Otherwise, the arguments of :meth:`answer_loss`.

        Returns:
            ``loss``, with the user prompt ``user``, and what else :meth:`answer_loss` returns.
        """
        if prepared is None:
            return self.answer_loss(**asked)
        user: UserPrompt = cast(UniversalEncoder, self.user_encoder).view(**prepared)
        return {"loss": self.task_prompt.new_zeros(()), "user": user}

    def answer_loss(
        self,
        rounds: Sequence[Round],
        user_encoder_alone: bool = False,
        answered: Callable[[UserPrompt], Sequence[Round]] | None = None,
        sampled: Callable[[Sequence[Round]], TokenSample | None] | None = None,
        **windows: Unpack[WindowTensors],
    ) -> dict[str, Any]:
        """Compute the loss of answers about windows.

        Each user is asked one question per round, and the loss is the mean over the rounds; a decoder-only backbone
        prefills the prefix of a user's questions once.

        Args:
            rounds: Questions and targets.
            user_encoder_alone: Skip the backbone; the loss is then 0.
            answered: Computes the rounds from the user prompt, instead of ``rounds``.
            sampled: Selects the tokens that targets are scored against; all if None.
            **windows: The windows.

        Returns:
            ``loss``, the cross entropy of the targets, with the user prompt and what the trainer needs of the scores.
        """
        user = self.like_tokens(self.user_encoder(self.catalogue(**windows)))
        if user_encoder_alone:
            return {
                "loss": user.embeddings.new_zeros(()),
                "user": replace(user, embeddings=user.embeddings.detach()),
            }
        if answered is not None:
            rounds = answered(user)
        sample = None if sampled is None else sampled(rounds)
        with scoring(self.backbone, sample):
            scores = self._scores(user, rounds)
        losses = [cross_entropy(logits, labels, sample) for logits, labels in scores]
        return {"loss": torch.stack(losses).mean(), "user": user, "scores": scores, "sample": sample}

    def _scores(self, user: UserPrompt, rounds: Sequence[Round]) -> list[tuple[Tensor, Tensor]]:
        """Compute the logits and labels of each round's targets."""
        prefix = self._prefix(user) if self._shares_prefix(rounds) else None
        scores = []
        for one in rounds:
            asked, target = Asked.of_round(one), (one["target"], one["target_mask"])
            prompt = self._inject(user, asked) if prefix is None else self._after(prefix, asked)
            scores.append(score(self.backbone, self.frame, prompt, *target, prefix))
        return scores

    def prompt(self, windows: Windows, instruction: Instruction = None) -> Prompt:
        """Assemble Z for each window, [B, N, E] with its mask."""
        return self.complete(self.user_prompt(windows), instruction)

    def complete(self, user: UserPrompt, instruction: Instruction = None) -> Prompt:
        """Assemble Z from user prompts U_e [B, M, E] of :meth:`user_prompt`: [B, N, E] with its mask."""
        return self._inject(user, self._asked(self._questions(instruction)))

    def user_prompt(self, windows: Windows) -> UserPrompt:
        """Encode each window as U_e, [B, M, E] with its mask."""
        return self.like_tokens(self.user_encoder(self._events(windows)))

    def input_lengths(self, windows: Windows) -> Ints:
        """Count the vectors that the model reads of each of B windows: tokens of a text history, else events, [B].

        The task prompt is counted, and an instruction is not.
        """
        own = windows.length
        if isinstance(self.catalogue, BlockCatalogue):
            own = self.catalogue.lengths(**window_tensors(windows, self.device)).cpu().numpy()
        return np.asarray(own + self.settings.task_prompt, dtype=np.int64)

    @property
    def soft_task_prompt(self) -> Tensor:
        """Task prompt K as the backbone reads it, [K, E]."""
        if self.token_like is None:
            return self.task_prompt
        prompt: Tensor = self.token_like(self.task_prompt)
        return prompt

    def embedded(self, token_ids: Tensor) -> Tensor:
        """Embed tokens [...] as the backbone's layers read them, [..., E]."""
        embedded: Tensor = self.backbone.get_input_embeddings()(token_ids)
        return embedded

    @torch.inference_mode()
    def answer(self, windows: Windows, instruction: Instruction = None) -> list[str]:
        """Generate an answer for each of B windows, whose indices refer to :attr:`table`."""
        return self._answer(self.user_prompt(windows), instruction) if len(windows) else []

    @torch.inference_mode()
    def choose(
        self, windows: Windows, choices: Sequence[Sequence[str]], instruction: Instruction = None
    ) -> Tensor:
        """Compute the probabilities of C answers for each of B windows, normalised over the answers, [B, C].

        They are the next token's probabilities if the answers of each window start with different tokens, otherwise
        those of all tokens.
        """
        texts = [text for row in choices for text in row]
        tokens, mask = (part.view(len(choices), -1, part.shape[1]) for part in self._tokens(texts))
        return choose(self.backbone, self.frame, self.prompt(windows, instruction), tokens, mask)

    @torch.inference_mode()
    def generate_from(
        self,
        user_prompts: Tensor | Sequence[Tensor] | UserPrompt,
        instruction: Instruction = None,
        streamer: TokenStreamer | None = None,
    ) -> list[str]:
        """Generate answers from user prompts, such as stored ones or those of a state.

        Args:
            user_prompts: [B, M, E], B tensors [M, E] of different lengths, or a result of :meth:`encode`, with which
                questions about categories are asked with vectors of these categories.
            instruction: One for all users or one for each; the trained one if None.
            streamer: Receives the tokens as they are generated.

        Returns:
            B answers, by greedy decoding.
        """
        user = self._given(user_prompts)
        return self._answer(user, instruction, streamer=streamer) if len(user.embeddings) else []

    @torch.inference_mode()
    def log_likelihood(
        self,
        user_prompts: Tensor | Sequence[Tensor] | UserPrompt,
        texts: Sequence[str],
        instruction: Instruction = None,
    ) -> Tensor:
        """Compute the log-probability of a text as the answer to each user prompt, including its end token, [B].

        The user prompts are as for :meth:`generate_from`.
        """
        prompt = self.complete(self._given(user_prompts), instruction)
        return log_likelihood(self.backbone, self.frame, prompt, *self._tokens(texts))

    @property
    def max_events(self) -> int | None:
        """Maximum number of events of a history that are read, the most recent ones; None for all.

        A user encoder that keeps a state reads whole histories; all others read a window of ``settings.window``.
        """
        return None if self.keeps_state else self.settings.window

    @property
    def has_view(self) -> bool:
        """Whether the user encoder decides on categories itself, with chances that they are liked and disliked."""
        return isinstance(self.user_encoder, BindsToData)

    @property
    def keeps_state(self) -> bool:
        """Whether the user encoder keeps a state of a history, for :meth:`new_state`."""
        return isinstance(self.user_encoder, KeepsState)

    @property
    def keeper(self) -> KeepsState:
        """The user encoder, if it keeps a state; raises :class:`MismatchError` otherwise."""
        if not self.keeps_state:
            kind = self.settings.user_encoder.kind
            raise MismatchError(
                f"a {kind!r} user encoder keeps no state of a history; expected 'streaming' or 'universal', or use "
                "encode()"
            )
        return cast(KeepsState, self.user_encoder)

    def visible(self, history: History) -> History:
        """Return the part of a history that is read, at most :attr:`max_events`.

        It is the last event of each item, or each event where the model's data keeps repeated ones.
        """
        return history.latest(self.max_events, self.settings.repeats)

    def windows(self, histories: Sequence[History]) -> Windows:
        """Convert the visible part of B histories to windows of indices, with vectors of texts if these are read.

        Raises:
            DataError: As for :meth:`events`.
        """
        encode = self.text_encoder.fresh if self.settings.event_texts else None
        return windows_of(histories, self.table, self.max_events, self.settings.repeats, encode)

    @property
    def text_encoder(self) -> ItemEncoder:
        """The encoder of the items, by which texts of events are read, too; it is loaded when it is first used."""
        if self._text_encoder is None:
            vectors = vectors_of(self.table)
            assert vectors is not None, "texts of events are read beside item vectors"
            self._text_encoder = ItemEncoder.of(vectors.encoder, self.device)
        return self._text_encoder

    def events(self, histories: Sequence[History]) -> EventInput:
        """Convert the visible part of B histories to the user encoder's input.

        Raises:
            DataError: An item is not in :attr:`table`, or a rating is not on its scale.
        """
        return self._events(self.windows(histories))

    @torch.inference_mode()
    def encode(self, histories: Sequence[History]) -> UserPrompt:
        """Encode histories as user prompts, exactly as the backbone reads them.

        Args:
            histories: B histories, oldest event first. :meth:`visible` shows which part of each is read.

        Returns:
            User prompts [B, M, E] with their mask [B, M]; padding is zero.

        Raises:
            DataError: An item is not in :attr:`table`, a rating is not on its scale, or the columns of a history
                differ in length.

        Example:
            >>> user = model.encode(data.histories(["1"]))
            >>> user.embeddings.shape
            torch.Size([1, 8, 32])
        """
        if self.keeps_state:
            state = self.read_into(self.keeper.init_state(len(histories)), histories)
            user = self.like_tokens(self.keeper.user_prompt(state))
        else:
            user = self.like_tokens(self.user_encoder(self.events(histories)))
        return replace(user, embeddings=user.embeddings * user.mask[..., None])

    def new_state(self) -> HistoryState:
        """Create the incremental state of one user's history, which is empty.

        Returns:
            The state.

        Raises:
            MismatchError: The user encoder keeps no state.

        Example:
            >>> state = model.new_state()
            >>> state.add(data.histories(["1"])[0])
            >>> len(model.generate_from([state.prompt()]))
            1
        """
        return HistoryState(self)

    def load_state(self, source: bytes | Path | str) -> HistoryState:
        """Load a state from a file of :meth:`HistoryState.save`, or from its bytes.

        Raises:
            DataError: It is damaged, or was made with other weights or of other items.
        """
        return HistoryState.load(self, source)

    @torch.no_grad()
    def read_into(self, state: KeptState, histories: Sequence[History]) -> KeptState:
        """Add the visible part of B histories to their states, in passes of bounded memory."""
        windows = self.windows(histories)
        for start in range(0, windows.item_index.shape[1], EVENTS_AT_ONCE):
            events = self._events(windows.columns(start, start + EVENTS_AT_ONCE))
            state = self.keeper.add(state, events)
        return state

    @torch.inference_mode()
    def prefix(self, histories: Sequence[History]) -> Prefix:
        """Prefill the prefix of the histories into the KV cache, for :meth:`generate_after`.

        Raises:
            MismatchError: The backbone is an encoder-decoder, or attends to the user's vectors: there is no prefix.
            DataError: As for :meth:`generate`.
        """
        if self.frame is None:
            raise MismatchError(
                "an encoder-decoder reads user and instruction together and has no prefix; use generate()"
            )
        if self.conditioning is not None:
            raise MismatchError(
                "the layers attend to the user's vectors, which are in no prefix; use generate()"
            )
        return self._prefix(self.encode(histories))

    @torch.inference_mode()
    def generate_after(self, prefix: Prefix, instruction: str | None = None) -> list[str]:
        """Generate an answer for each of the prefix's B users; the prefix can be used again."""
        return self._answer(prefix, instruction)

    def _answer(
        self, before: UserPrompt | Prefix, instruction: Instruction, streamer: TokenStreamer | None = None
    ) -> list[str]:
        """Generate an answer for each of B users, after their prompts or a prefix that has been read."""
        questions, most = self._questions(instruction), self.settings.max_new_tokens
        prefix = before if isinstance(before, Prefix) else None
        asked = self._asked(questions)
        prompt = self._inject(before, asked) if isinstance(before, UserPrompt) else self._after(before, asked)
        check_length(self.backbone.config, prompt.mask.shape[1], most)
        each = questions * len(prompt.mask) if len(questions) == 1 else questions
        said = self._drafts(before, each, prompt, most)
        rest = [row for row, draft in enumerate(said) if draft is None]
        if rest and (streamer is not None or prefix is not None):
            rest = list(range(len(said)))  # one generation for all
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
        """Draft the answers of B users from what their encoder has decided; None where the backbone writes its own."""
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

    @torch.inference_mode()
    def generate(self, histories: Sequence[History], instruction: Instruction = None) -> list[str]:
        """Generate an answer for each history by greedy decoding.

        Args:
            histories: B histories, oldest event first. :meth:`visible` shows which part of each is read.
            instruction: One for all users or one for each; the trained one if None.

        Returns:
            B answers.

        Raises:
            DataError: An item is not in :attr:`table`, a rating is not on its scale, or the columns of a history
                differ in length.
        """
        return self._answer(self.encode(histories), instruction) if len(histories) else []

    def with_items(self, items: Sequence[Item], encoder: ItemEncoder | None = None) -> PersonalizedModel:
        """Return a model with additional items, which shares this model's weights; this model is not changed.

        Args:
            items: New items. Known ones are accepted if their texts are the same.
            encoder: The item encoder of the model's table, if its files have moved since the training.

        Returns:
            The model with the new items.

        Raises:
            DataError: An item is known with other texts.
            MismatchError: ``encoder`` is not the encoder of the table.
        """
        if not items:
            return self
        return self.with_table(extended_table(self.table, items, encoder, self.device))

    def with_table(self, table: Table) -> PersonalizedModel:
        """Return a model over another catalogue, which shares this model's weights.

        Raises:
            MismatchError: The table was made with another item encoder, or has another rating scale.
        """
        if made_by(table) != made_by(self.table):
            raise MismatchError(
                f"the model was trained on {described_table(self.table)}, and the new table holds "
                f"{described_table(table)}; make it as the model's was made"
            )
        if not np.array_equal(table.rating_values, self.table.rating_values):
            raise MismatchError(
                f"the model knows the ratings {_listed(self.table.rating_values)}, the new table has "
                f"{_listed(table.rating_values)}; use data on the same scale"
            )
        # a new category of an item is not read by weights of one catalogue
        if not (isinstance(table, CategoryTable) and self.settings.binds):
            return self._over(table, self.settings)
        if table.categories == self.settings.categories:
            return self._over(table, self.settings)
        settings = self.settings.model_copy(update={"categories": table.categories})
        return self._over(table, settings, self.summary.extended(table.categories))

    @property
    def summary(self) -> PopulationSummary:
        """Summary of the population that the user encoder is bound to.

        Raises:
            MismatchError: The user encoder reads none, or is bound to no data yet.
        """
        return known_summary(self.binding.summary)

    def with_summary(self, summary: PopulationSummary) -> PersonalizedModel:
        """Return a model that reads another summary of the population, which shares this model's weights.

        Raises:
            MismatchError: The user encoder reads no summary, or this one is of other categories or ratings.
        """
        self.binding  # noqa: B018 - raises where there is none
        values = tuple(float(value) for value in self.table.rating_values)
        for what, found, expected in (
            ("categories", summary.categories, self.settings.categories),
            ("ratings", summary.rating_values, values),
        ):
            if found != expected:
                raise MismatchError(
                    f"the summary is of the {what} {_some(found)}, and the model of {_some(expected)}; summarise the "
                    "model's data"
                )
        return self._over(self.table, self.settings, summary)

    def with_encoder(
        self, encoder: nn.Module, settings: PersonalizedSettings, table: Table
    ) -> PersonalizedModel:
        """Return a model with another user encoder over a table, which shares all other weights."""
        other = self._over(table, settings)
        other.user_encoder = encoder
        return other

    def with_task(self, task: TaskSettings) -> PersonalizedModel:
        """Return a model that answers by another label rule, once it is bound to data; the weights are shared."""
        return self._over(self.table, self.settings.model_copy(update={"task": task}))

    def summarised(
        self,
        dataset: Dataset,
        near: Sequence[int] = (),
        truth: Truth = "labels",
        kind: WindowKind = "random",
    ) -> PopulationSummary:
        """Summarise a dataset's training users for :meth:`bind` or :meth:`with_summary`.

        Args:
            dataset: The dataset.
            near: Lengths of the only histories that will be asked about, which takes less time; histories of any
                length if empty.
            truth: Interactions that the labels come from which decisions are calibrated on.
            kind: Windows that they are calibrated on.

        Returns:
            The summary, with decisions that are calibrated on these users for this model.

        Raises:
            MismatchError: The user encoder reads no summary.
        """
        task = load_task(self.settings.task, dataset.info)
        return self.binding.summarised(dataset, task, near, truth, kind, self._events)

    def bind(self, dataset: Dataset, summary: PopulationSummary | None = None) -> PersonalizedModel:
        """Return a model over another dataset, which shares this model's weights: other categories, names and ratings.

        Args:
            dataset: The dataset.
            summary: Summary of its population; that of its training users (:meth:`summarised`) if None.

        Returns:
            The model.

        Raises:
            MismatchError: The user encoder's weights, or some of them, are of one catalogue.
        """
        self.binding  # noqa: B018 - raises where there is none
        if getattr(self.settings.user_encoder, "latent", None) is not None:
            raise MismatchError(
                "the latent queries of the model's user encoder are of one catalogue, and no other data can be given "
                "to it; train it on that data, or take a model without"
            )
        task = load_task(self.settings.task, dataset.info)
        backbone = Backbone(self.backbone, self.tokenizer, self.frame)
        longest = longest_answer(backbone, task, task.settings.max_labels, None)
        settings = self.settings.over(dataset.info).model_copy(update={"max_new_tokens": longest})
        found = summary or self.summarised(dataset)
        return self._over(build_category_table(dataset), settings, found)

    @property
    def binding(self) -> BindsToData:
        """The user encoder, if its weights know no catalogue; raises :class:`MismatchError` otherwise."""
        if not isinstance(self.user_encoder, BindsToData):
            kind = self.settings.user_encoder.kind
            raise MismatchError(
                f"the weights of a {kind!r} user encoder are of one catalogue, and no other data can be given to it; "
                "train it on that data, or take a 'universal' one"
            )
        return self.user_encoder

    def _over(
        self, table: Table, settings: PersonalizedSettings, summary: PopulationSummary | None = None
    ) -> PersonalizedModel:
        """Return a model of the same weights over a table and, if given, another population."""
        other = copy(self)
        other._modules = dict(self._modules)  # the same modules, so that one can be exchanged
        other.table, other.settings = table, settings
        lookup = catalogue_of(table, settings.user_encoder, self.tokenizer, settings.event_texts)
        other.catalogue = lookup.to(self.device)
        if summary is not None:
            other.user_encoder = other._bound(summary)
            other._note_own()
        return other

    def learn_own(self) -> None:
        """Give each category a vector of its own in the user encoder, in place; at first it adds nothing."""
        if isinstance(self.user_encoder, UniversalEncoder):
            self.user_encoder.learn_own()
            self._note_own()

    def _note_own(self) -> None:
        """Keep in the settings how many categories have a vector of their own."""
        if isinstance(self.user_encoder, UniversalEncoder):
            encoder = self.settings.user_encoder.model_copy(update={"own": self.user_encoder.own})
            self.settings = self.settings.model_copy(update={"user_encoder": encoder})

    def _bound(self, summary: PopulationSummary) -> nn.Module:
        """Bind the user encoder to a population and the names of its categories."""
        names, nothing = (
            spelled(self.tokenizer, some)
            for some in (summary.categories, nothing_named(self.settings.category_field))
        )
        # a function, because a module would become part of the encoder's
        scaled = None if self.token_like is None else self.token_like.forward
        binding = Binding(summary, names, nothing, self.backbone.get_input_embeddings, scaled)
        bound: nn.Module = self.binding.bound(binding)
        return bound

    @property
    def card(self) -> str:
        """Write the model card, in Markdown."""
        table = self.table
        facts = CardFacts(
            settings=self.settings,
            encoder_parameters=sum(weight.numel() for weight in self.user_encoder.parameters()),
            architecture=type(self.backbone).__name__,
            backbone_parameters=self.backbone.num_parameters(),
            item_encoder=item_reading(table),
            max_events=self.max_events,
            item_ids=table.item_ids[:2],
            ratings=[float(value) for value in table.rating_values[-2:]],
        )
        return model_card(facts)

    def save_pretrained(self, folder: Path | str) -> None:
        """Save config, weights, backbone config, tokenizer, item table and model card, atomically.

        Unless the backbone is fully trained, only its trained weights are saved; the others are loaded by its name.
        """
        with fresh_folder(folder) as place:
            write_text(place / CONFIG, self.settings.model_dump_json(indent=2) + "\n")
            write_text(place / CARD, self.card)
            self.save_weights(place / WEIGHTS)
            if self.settings.backbone is None:
                Backbone(self.backbone, self.tokenizer, self.frame).save(place / BACKBONE)
            self.table.save(place / ITEMS)
            if isinstance(self.user_encoder, BindsToData) and self.user_encoder.summary is not None:
                self.user_encoder.summary.save(place / POPULATION)

    @classmethod
    def from_pretrained(cls, folder: Path | str, backbone: str | None = None) -> PersonalizedModel:
        """Load a folder of :meth:`save_pretrained`.

        ``backbone`` is the folder of a backbone that is not saved with the model, if it has moved.

        Raises:
            DataError: The folder is incomplete or damaged.
            MismatchError: The backbone cannot be loaded or has other weights.
        """
        folder = Path(folder)
        config = PersonalizedSettings.load(folder / CONFIG)
        table = load_table(config.user_encoder, folder / ITEMS)
        if config.backbone is not None:
            found = find_backbone(config.backbone, backbone)
        elif backbone is not None:
            raise MismatchError(f"{folder} holds its backbone; load it without naming one")
        else:
            found = rebuild_backbone(folder / BACKBONE)
        bound = config.binds and not config.unbound
        summary = PopulationSummary.load(folder / POPULATION) if bound else None
        model = cls(config, found, table, summary)
        model.load_weights(folder / WEIGHTS)
        return model.eval()

    def save_weights(self, path: Path) -> None:
        """Save the weights as safetensors."""
        save_weights(self, path)

    def load_weights(self, path: Path) -> None:
        """Load a file of :meth:`save_weights` into this model."""
        load_weights(self, path)

    def category_logits(self, user: UserPrompt) -> Tensor:
        """Return the user encoder's logits that each label is liked and disliked, [B, L, 2].

        Raises:
            MismatchError: The user encoder has no such logits.
        """
        if user.category_logits is None:
            raise MismatchError(
                f"train.auxiliary_weight needs a user encoder with a view of its own, and "
                f"{self.settings.user_encoder.kind!r} has none; set train.auxiliary_weight=0"
            )
        return user.category_logits

    def category_loss(self, user: UserPrompt, liked: Tensor, disliked: Tensor) -> Tensor:
        """Compute the auxiliary loss: the binary cross entropy of :meth:`category_logits`.

        Args:
            user: Encoded users.
            liked: True liked labels, [B, L].
            disliked: True disliked labels, [B, L].

        Returns:
            The mean loss.

        Raises:
            MismatchError: The user encoder has no such logits.
        """
        logits = self.category_logits(user)
        truth = torch.stack([liked, disliked], dim=-1).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, truth)

    def _events(self, windows: Windows) -> EventInput:
        events: EventInput = self.catalogue(**window_tensors(windows, self.device))
        return events

    def like_tokens(self, user: UserPrompt) -> UserPrompt:
        """Scale user-prompt vectors if ``like_tokens`` is set; idempotent."""
        if self.token_like is None or isinstance(self.user_encoder, TextHistory | BindsToData):
            return user  # there are tokens in it already
        return self.token_like.of_user(user)

    def _given(self, user_prompts: Tensor | Sequence[Tensor] | UserPrompt) -> UserPrompt:
        """Batch user prompts from outside, of any device and scale."""
        if isinstance(user_prompts, UserPrompt):
            return self.like_tokens(user_prompts.to(self.device))
        return self.like_tokens(UserPrompt.of([one.to(self.device) for one in user_prompts]))

    def _edges(self) -> Edges | None:
        """Return the embeddings of a decoder-only backbone's frame."""
        if self.frame is None:
            return None
        opening, closing = (
            self.embedded(torch.tensor(ids, dtype=torch.long, device=self.device))
            for ids in (self.frame.opening, self.frame.closing)
        )
        return Edges(opening, closing)

    def _questions(self, instruction: Instruction) -> list[Question]:
        """Return one question for all users, or one for each."""
        several = [instruction] if isinstance(instruction, str | Question | None) else instruction
        task = Question(self.settings.instruction, kind="preference")
        known = self.settings.categories, self.settings.category_field
        return [
            one
            if isinstance(one, Question)
            else task
            if one in (None, "", task.text)
            else recognised(one, *known)
            for one in several
        ]

    def question(self, instruction: str | None = None) -> Question:
        """Recognise an instruction as a question with its kind and the categories that it asks about."""
        return self._questions(instruction)[0]

    def _asked(self, questions: Sequence[Question]) -> Asked:
        return Asked.of(questions, self.tokenizer).to(self.device)

    def _constraint(
        self, before: UserPrompt | Prefix, questions: Sequence[Question], rows: Sequence[int]
    ) -> GrammarProcessor | None:
        """Return what constrains the answers to some of B users' questions, if :attr:`constrained` is set.

        If the user encoder decides on names, an answer says these.
        """
        if not self.constrained:
            return None
        grammar = self.grammar
        decided = None if before.named is None else decided_names(before.named)
        starts = [grammar.start(questions[row].kind, decided[row] if decided else None) for row in rows]
        return GrammarProcessor(grammar, starts)

    @property
    def grammar(self) -> Grammar:
        """The answers that the task allows, over the backbone's tokens.

        Raises:
            MismatchError: The task has no grammar.
        """
        settings = self.settings
        if tasks.find(settings.task.kind).build is not CategoryPreference:
            raise MismatchError(
                f"answers to the task {settings.task.kind!r} cannot be constrained, because it has no grammar; set "
                "model.grammar=false"
            )
        ratings = tuple(f"{value:g}" for value in self.table.rating_values)
        key = settings.categories, settings.category_field, settings.task.max_labels, ratings
        if self._grammar is None or self._grammar[0] != key:
            end = self.tokenizer.eos_token_id if self.frame is None else self.frame.end
            self._grammar = key, Grammar(self.tokenizer, end, *key)
        return self._grammar[1]

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = padded_tokens(self.tokenizer, texts)
        return tokens.ids.to(self.device), tokens.mask.to(self.device)

    def _inject(self, user: UserPrompt, asked: Asked) -> Prompt:
        places = self.binding.name_places if self.settings.binds else None
        vectors, mask = asked.embedded(self.embedded, len(user.embeddings), user.entities, places)
        if self.conditioning is not None:
            prompt = inject_beside(self.soft_task_prompt, user, vectors, mask, self._edges())
        else:
            prompt = inject(
                self.soft_task_prompt, user, vectors, mask, self._edges(), self.settings.user_first
            )
        return prompt if self.frame is not None else prompt.to(self.backbone.dtype)

    def _shares_prefix(self, rounds: Sequence[Round]) -> bool:
        """Return whether the prefix is prefilled once: if it has several questions or needs no gradients."""
        several = len(rounds) > 1 or (self.reads_text and self.settings.user_first)
        if self.frame is None or self.conditioning is not None or not several:
            return False
        # a cache and activations that are computed twice exclude each other
        return not any(getattr(layer, "gradient_checkpointing", False) for layer in self.backbone.modules())

    def _prefix(self, user: UserPrompt) -> Prefix:
        edges = self._edges()
        assert edges is not None, "an encoder-decoder has no prefix"
        beginning = begin(self.soft_task_prompt, user, edges, self.settings.user_first)
        return read_ahead(self.backbone, beginning, user)

    def _after(self, prefix: Prefix, asked: Asked) -> Prompt:
        edges = self._edges()
        assert edges is not None, "a prefix comes from a decoder-only backbone"
        vectors, mask = asked.embedded(self.embedded, len(prefix.prompt.mask), prefix.entities)
        return finish(prefix.prompt, self.soft_task_prompt, vectors, mask, edges, self.settings.user_first)


def load_model(
    run: Path | str,
    backbone: str | None = None,
    *,
    data: Dataset | Path | str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    constrained: bool | None = None,
) -> PersonalizedModel:
    """Load a trained model.

    Args:
        run: A run's folder, one of ``save_pretrained``, or ``packaged`` for the model that comes with palate.
        backbone: Hub name, folder or file of a backbone that is not saved with the model, if it has moved.
        data: Dataset, or its folder, to bind a model to whose weights know no catalogue, such as the packaged one;
            None for the data that it was trained on or bound to.
        device: "auto" for the first GPU if there is one, else the CPU; or a torch device such as "cpu" or "cuda:1".
        dtype: Data type of the backbone, such as "bfloat16"; that of the training if None.
        constrained: Whether answers are constrained to what the task allows; as the model was saved if None.

    Returns:
        The model in evaluation mode; ``model.run`` is the run that trained it, or None for a model's folder.

    Raises:
        DataError: The folder holds no complete model.
        MismatchError: The backbone cannot be loaded or has other weights, there is no such device, or ``data`` is
            other data than that of a model whose weights know its catalogue.

    Example:
        >>> model = palate.load_model("runs/main", device="cpu")
        >>> model.device, model.run.path.name
        (device(type='cpu'), 'main')
    """
    place, backbone_dtype = find_device(device), None if dtype is None else dtype_of(dtype)
    model = PersonalizedModel.from_pretrained(model_folder(run), backbone)
    if backbone_dtype is not None:
        model.backbone.to(dtype=backbone_dtype)
    if constrained is not None:
        model.constrained = constrained
    model.run = found if (found := run_folder(run)).there else None
    if data is not None:
        dataset = load_dataset(data) if isinstance(data, Path | str) else data
        if dataset.info.fingerprint != model.settings.data_fingerprint:
            model = model.bind(dataset)
    return model.to(place)


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _some(values: Sequence[object], most: int = 5) -> str:
    """List the first values."""
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")
