"""Which data a model is over: other items, another dataset, another population or another label rule."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from palate.backbones.base import Backbone
from palate.backbones.spelling import spelled
from palate.config.recipe import TaskSettings
from palate.data.population import PopulationSummary
from palate.encoders.base import Binding
from palate.encoders.catalogue_free import UniversalEncoder, known_summary
from palate.errors import MismatchError
from palate.items.categories import CategoryTable, build_category_table
from palate.items.encoder import ItemEncoder
from palate.model.config import PersonalizedSettings
from palate.model.losses import TrainableModel
from palate.model.tables import Table, catalogue_of, described_table, extended_table, made_by
from palate.model.wording import max_new_tokens as longest_answer
from palate.schema import Item, Truth, WindowKind
from palate.tasks import load_task
from palate.tasks.verbalizer import nothing_named

if TYPE_CHECKING:
    from typing_extensions import Self

    from palate.data.dataset import Dataset


class BindableModel(TrainableModel):
    """Models of the same weights over other data."""

    @property
    def summary(self) -> PopulationSummary:
        """Summary of the population that the user encoder is bound to.

        Raises:
            MismatchError: The user encoder reads none, or is bound to no data yet.
        """
        return known_summary(self.binding.summary)

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

    def bind(self, dataset: Dataset, summary: PopulationSummary | None = None) -> Self:
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

    def with_summary(self, summary: PopulationSummary) -> Self:
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

    def with_items(self, items: Sequence[Item], encoder: ItemEncoder | None = None) -> Self:
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

    def with_table(self, table: Table) -> Self:
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

    def with_task(self, task: TaskSettings) -> Self:
        """Return a model that answers by another label rule, once it is bound to data; the weights are shared."""
        return self._over(self.table, self.settings.model_copy(update={"task": task}))

    def with_encoder(self, encoder: nn.Module, settings: PersonalizedSettings, table: Table) -> Self:
        """Return a model with another user encoder over a table, which shares all other weights."""
        other = self._over(table, settings)
        other.user_encoder = encoder
        return other

    def learn_own(self) -> None:
        """Give each category a vector of its own in the user encoder, in place; at first it adds nothing."""
        if isinstance(self.user_encoder, UniversalEncoder):
            self.user_encoder.learn_own()
            self._note_own()

    def _over(
        self, table: Table, settings: PersonalizedSettings, summary: PopulationSummary | None = None
    ) -> Self:
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

    def _note_own(self) -> None:
        """Keep in the settings how many categories have a vector of their own."""
        if isinstance(self.user_encoder, UniversalEncoder):
            encoder = self.settings.user_encoder.model_copy(update={"own": self.user_encoder.own})
            self.settings = self.settings.model_copy(update={"user_encoder": encoder})


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _some(values: Sequence[object], most: int = 5) -> str:
    """List the first values."""
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")
