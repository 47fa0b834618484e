"""The universal user encoder: maps counts by category and a population's summary to names of categories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from palate.data.population import rating_steps, summarise
from palate.encoders.base import Binding, EncoderSizes, Mentioned, UserPrompt
from palate.encoders.calibration import FULL, Effort, calibrated
from palate.encoders.estimates import PopulationInputs, Reading, on_scale
from palate.encoders.history_parts import HistoryParts, LatentReader
from palate.encoders.marks import window_marks
from palate.encoders.spoken import NamesPrompt
from palate.encoders.streaming import LatentQueries
from palate.encoders.universal import UniversalNetwork
from palate.errors import MismatchError
from palate.tasks.decisions import AS_EXPECTED, decide

if TYPE_CHECKING:
    from palate.config.recipe import StreamingSettings, UniversalSettings
    from palate.data.dataset import Dataset
    from palate.data.population import PopulationSummary
    from palate.encoders.batch import CategoryEvents
    from palate.encoders.state import UserState
    from palate.items.categories import CategoryTable
    from palate.schema import Truth, WindowKind, Windows
    from palate.tasks.category_preference import CategoryPreference

Shared = TypeVar("Shared", bound=nn.Module)


class UniversalEncoder(nn.Module):
    """Catalogue-free user encoder, bound to a population and the names of its categories.

    It computes the log-odds of each category from counts by category and the population's summary; the user prompt
    contains the names of the selected categories, in order. Its state of a history is a :class:`HistoryParts`, which
    depends on neither weights nor summary.
    """

    def __init__(self, settings: UniversalSettings, sizes: EncoderSizes) -> None:
        super().__init__()
        self.network = UniversalNetwork(settings)
        self.prompt = NamesPrompt(
            settings.d_model,
            sizes.embedding,
            self._no_embeddings,
            settings.most,
            settings.max_name_tokens,
            settings.pooled,
            settings.plain_names,
        )
        self.latent: LatentQueries | None = None
        if settings.latent is not None:
            self.latent = correcting(settings.latent, sizes)
        self.summary: PopulationSummary | None = None
        self._population: PopulationInputs | None = None
        self._steps = torch.zeros(0, dtype=torch.int64)

    @property
    def name_places(self) -> Tensor | None:
        """Position vectors of the tokens of a category's name in a question, [S, E]; None for plain names."""
        return self.prompt.name_places

    @property
    def mentioned(self) -> Mentioned | None:
        """:meth:`NamesPrompt.mentioned` for plain names; None for others."""
        return self.prompt.mentioned if self.prompt.plain else None

    def summarised(
        self,
        dataset: Dataset,
        task: CategoryPreference,
        near: Sequence[int] = (),
        truth: Truth = "labels",
        kind: WindowKind = "random",
        read: Callable[[Windows], CategoryEvents] | None = None,
    ) -> PopulationSummary:
        """Summarise a dataset's training users, with calibrated decisions.

        Args:
            dataset: The dataset.
            task: The task, with its label rule.
            near: Lengths of the only histories to calibrate for, which takes less time; all lengths if empty.
            truth: Interactions from which the labels for the calibration are computed.
            kind: Kind of windows for the calibration.
            read: Looks up the inputs of windows, for an encoder with latent queries.

        Returns:
            The summary.
        """

        def correction(windows: Windows) -> Tensor:
            assert read is not None
            return self._correction(self._sums(read(windows)))

        with torch.no_grad():
            summary = summarise(dataset, task)
            effort = Effort.quick(near) if near else FULL
            latent = None if self.latent is None else correction
            return calibrated(
                self.network,
                summary,
                dataset,
                task,
                kind=kind,
                effort=effort,
                truth=truth,
                correction=latent,
            )

    def trained_on_data(self) -> Iterator[nn.Parameter]:
        """List the weights of the network and of the latent queries, which training on one dataset adapts."""
        yield from self.network.parameters()
        if self.latent is not None:
            yield from self.latent.parameters()

    def with_latent(self, settings: StreamingSettings, sizes: EncoderSizes) -> UniversalEncoder:
        """Return the encoder with new latent queries, initialised to have no effect; it shares all other weights."""
        other = _sharing_weights(self)
        other.latent = correcting(settings, sizes).to(self._device)
        return other

    @property
    def own(self) -> int:
        """Number of categories with a learned vector: all categories of the training data, or 0."""
        return 0 if self.network.own is None else len(self.network.own)

    def learn_own(self) -> None:
        """Add a learned vector for each category of the population, to be trained on its data."""
        if not self.own:
            self.network.learn_own(len(known_summary(self.summary).categories))

    def bound(self, binding: Binding) -> UniversalEncoder:
        """Return an encoder for another population and other names that shares this one's weights.

        Raises:
            MismatchError: The task's ``max_labels`` exceeds the names that fit in the user prompt, or the encoder has
                learned vectors for more categories than the population has.
        """
        summary = binding.summary
        if summary.max_labels > self.prompt.most:
            raise MismatchError(
                f"task.max_labels is {summary.max_labels}, and the model names at most {self.prompt.most} in each "
                "half; set it lower"
            )
        if self.summary is None and self.own > len(summary.categories):
            raise MismatchError(
                f"the user encoder has vectors of {self.own} categories, and the data has {len(summary.categories)}; "
                "leave model.user_encoder.own out"
            )
        other = _sharing_weights(self)
        known = () if self.summary is None else self.summary.categories[: self.own]
        if summary.categories[: len(known)] != known:  # the learned vectors are of other categories
            other.network = _sharing_weights(self.network)
            other.network.own = None
        other.prompt = _sharing_weights(self.prompt)
        other.prompt.bind(binding.names, binding.nothing, binding.embeddings, binding.scaled)
        other.summary, other._population = summary, PopulationInputs.of([summary])
        other._steps = torch.from_numpy(rating_steps(summary.rating_values))
        return other

    def forward(self, events: CategoryEvents) -> UserPrompt:
        """Encode each window: [B, P] interactions to [B, M, E]."""
        return self._written(self._read(events), events.complete)

    def view(self, base: Tensor, features: Tensor) -> UserPrompt:
        """Compute only the category logits, from precomputed network inputs; for training.

        Args:
            base: The estimates' log-odds, [B, L, 2].
            features: Inputs of the network, [B, L, F].

        Returns:
            User prompts without vectors, with the category logits [B, L, 2].
        """
        with sdpa_kernel(SDPBackend.MATH):  # faster than a fused kernel for as few categories
            logits, _ = self.network.correct(base, features)
        nothing = self.prompt.comma.new_zeros(len(base), 0, len(self.prompt.comma))
        return UserPrompt(nothing, nothing[..., 0].bool(), logits)

    def init_state(self, users: int) -> HistoryParts:
        """Create the state of users without a history."""
        parts = HistoryParts.empty(users, len(known_summary(self.summary).categories), self._device)
        return parts if self.latent is None else replace(parts, latent=self.latent.init_state(users))

    @torch.no_grad()
    def add(self, state: HistoryParts, events: CategoryEvents) -> HistoryParts:
        """Add events [B, P], in any order, to the states of B users, at a cost that does not depend on the history."""
        return state.merge(self._read(events))

    def subtract(
        self,
        state: HistoryParts,
        taken: HistoryParts,
        remaining: Callable[[Tensor], HistoryParts] | None = None,
    ) -> HistoryParts:
        """Remove the events of one state from another.

        Counts are exact; ``remaining`` is needed only where latent sums would show rounding.
        """
        if self.latent is None:
            return state.remove(taken)
        rest = None if remaining is None else lambda rows: remaining(rows).sums
        return state.remove(taken, self.latent.subtract(state.sums, taken.sums, rest))

    def user_prompt(self, state: HistoryParts) -> UserPrompt:
        """Compute the user prompts [B, M, E] of B users with the category logits [B, L, 2]."""
        return self._written(state)

    def pack(self, state: HistoryParts, table: CategoryTable) -> list[bytes]:
        """Serialise states, with the ids of the table's categories and the digest of its items."""
        reader = "" if self.latent is None else self.latent.reader.identity()
        return [one.to_bytes(table, reader) for one in state.each()]

    def unpack(self, data: Sequence[bytes], table: CategoryTable, path: Path | None = None) -> HistoryParts:
        """Deserialise states; raises :class:`DataError` if one is damaged, of other items, or of other weights."""
        latent = None
        if self.latent is not None:
            latent = LatentReader(self.latent.reader.identity(), self.latent.init_state(0))
        return HistoryParts.joined(
            [HistoryParts.from_bytes(one, table, self._device, path, latent) for one in data]
        )

    def _written(self, parts: HistoryParts, complete: Tensor | None = None) -> UserPrompt:
        """Select the categories of B users, and compute their user prompts.

        ``complete`` is None for a state, because more events may follow.
        """
        summary, population = known_summary(self.summary), self._population
        assert population is not None
        counts, population = parts.counts, population.to(self._device)
        reading = Reading.of(counts, population, complete)
        logits, hidden = self.network(reading)
        if parts.latent is not None:
            correction = self._correction(parts.latent)
            if complete is not None:  # the labels follow from the counts
                correction = correction * ~complete[:, None, None]
            logits = logits + correction
        found, length = logits.detach().double().cpu().numpy(), counts.length.cpu().numpy()
        marks = window_marks(reading.seen, population)
        decisions = summary.usual_decisions
        labels, probabilities = decide(found, marks, length, decisions, summary.max_labels)
        kept = torch.from_numpy(decisions.kept_at(length))
        if complete is not None:  # the decisions were calibrated on partial histories
            kept[complete.cpu()] = kept.new_tensor(AS_EXPECTED)
        named = np.stack([labels.liked, labels.disliked], axis=1)
        named = np.pad(named, ((0, 0), (0, 0), (0, self.prompt.most - named.shape[2])), constant_values=-1)
        if not self.training:  # the loss is computed on the network's own logits
            logits = torch.from_numpy(probabilities).to(logits).logit(1e-6)
        rated, scores = None, reading.margin
        if summary.feedback != "implicit":
            ratings = reading.final_ratings if self.prompt.plain else reading.ratings
            rated = on_scale(ratings, summary.rating_values)
            scores = scores / max(max(summary.rating_values) - min(summary.rating_values), 1e-9)
        user: UserPrompt = self.prompt(torch.from_numpy(named).to(self._device), hidden, logits, rated)
        return replace(user, kept=kept, scores=scores)

    def _read(self, events: CategoryEvents) -> HistoryParts:
        known_summary(self.summary)
        parts = HistoryParts.of(events, self._steps.to(self._device))
        return parts if self.latent is None else replace(parts, latent=self._sums(events))

    def _sums(self, events: CategoryEvents) -> UserState:
        """Compute the latent sums of B windows."""
        assert self.latent is not None
        if events.vectors is None:
            raise MismatchError(
                "the user encoder has latent queries, but its items have no vectors; build the table"
            )
        sums: UserState = self.latent.reader(events.vectors)
        return sums

    def _correction(self, sums: UserState) -> Tensor:
        """Compute the correction of the log-odds by latent sums, [B, L, 2]; 0 for categories added later."""
        assert self.latent is not None
        logits = self.latent.category_logits(sums)
        later = len(known_summary(self.summary).categories) - logits.shape[1]
        return functional.pad(logits, (0, 0, 0, later))

    @property
    def _device(self) -> torch.device:
        return self.prompt.comma.device

    @staticmethod
    def _no_embeddings() -> nn.Module:
        raise MismatchError("the user encoder is bound to no backbone")


def correcting(settings: StreamingSettings, sizes: EncoderSizes) -> LatentQueries:
    """Create latent queries whose logits are 0 until they are trained."""
    latent = LatentQueries(settings, sizes)
    nn.init.zeros_(latent.categories.weight)
    nn.init.zeros_(latent.categories.bias)
    return latent


def known_summary(summary: PopulationSummary | None) -> PopulationSummary:
    """Return the summary; raises :class:`MismatchError` where an encoder is bound to none."""
    if summary is None:
        raise MismatchError(
            "the model knows no catalogue and is bound to no data; name a dataset by --data, or load_model(…, data=…)"
        )
    return summary


def _sharing_weights(module: Shared) -> Shared:
    """Copy a module with shared weights, so that its buffers and submodules can be replaced."""
    other = copy(module)
    other._buffers, other._modules = dict(module._buffers), dict(module._modules)
    other._parameters = dict(module._parameters)
    return other
