"""Fifth layer of the model class: models of the same weights over other items, datasets or label rules."""

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
    """Model that can be bound to other data, as a new model that shares its weights."""

    @property
    def summary(self) -> PopulationSummary:
        """Summary of the population that the user encoder is bound to.

        Raises:
            MismatchError: The user encoder reads no summary, or is not bound to data yet.
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
            near: Lengths of the histories to calibrate decisions for, which is faster; any length if empty.
            truth: Interactions from which the labels for the calibration are computed.
            kind: Kind of windows for the calibration.

        Returns:
            The summary, with decisions of this model calibrated on these users.

        Raises:
            MismatchError: The user encoder reads no summary.
        """
        task = load_task(self.settings.task, dataset.info)
        return self.binding.summarised(dataset, task, near, truth, kind, self._events)

    def bind(self, dataset: Dataset, summary: PopulationSummary | None = None) -> Self:
        """Return a model over another dataset, with its categories, names and ratings; the weights are shared.

        Args:
            dataset: The dataset.
            summary: Summary of its population; None for that of its training users (:meth:`summarised`).

        Returns:
            The model.

        Raises:
            MismatchError: Weights of the user encoder depend on the catalogue that they were trained on.
        """
        self.binding  # noqa: B018 - raises for encoders that cannot be bound
        if getattr(self.settings.user_encoder, "latent", None) is not None:
            raise MismatchError(
                "the latent queries of the model's user encoder are of one catalogue, and it cannot be bound to other "
                "data; train it on that data, or use a model without latent queries"
            )
        task = load_task(self.settings.task, dataset.info)
        backbone = Backbone(self.backbone, self.tokenizer, self.frame)
        longest = longest_answer(backbone, task, task.settings.max_labels, None)
        settings = self.settings.over(dataset.info).model_copy(update={"max_new_tokens": longest})
        found = summary or self.summarised(dataset)
        return self._over(build_category_table(dataset), settings, found)

    def with_summary(self, summary: PopulationSummary) -> Self:
        """Return a model that reads another summary of the population; the weights are shared.

        Raises:
            MismatchError: The user encoder reads no summary, or the summary has other categories or ratings.
        """
        self.binding  # noqa: B018 - raises for encoders that cannot be bound
        values = tuple(float(value) for value in self.table.rating_values)
        for what, found, expected in (
            ("categories", summary.categories, self.settings.categories),
            ("ratings", summary.rating_values, values),
        ):
            if found != expected:
                raise MismatchError(
                    f"the summary has the {what} {_some(found)}, and the model {_some(expected)}; summarise the "
                    "model's data"
                )
        return self._over(self.table, self.settings, summary)

    def with_items(self, items: Sequence[Item], encoder: ItemEncoder | None = None) -> Self:
        """Return a model with additional items; the weights are shared, and this model is not changed.

        Args:
            items: New items. Known ones are accepted if their texts are the same.
            encoder: The item encoder of the model's table, if its files were moved; None to load it by its name.

        Returns:
            The model with the new items.

        Raises:
            DataError: An item is known with another text.
            MismatchError: ``encoder`` is not the encoder of the table.
        """
        if not items:
            return self
        return self.with_table(extended_table(self.table, items, encoder, self.device))

    def with_table(self, table: Table) -> Self:
        """Return a model over another catalogue; the weights are shared.

        Raises:
            MismatchError: The table has another item encoder or another rating scale.
        """
        if made_by(table) != made_by(self.table):
            raise MismatchError(
                f"the model was trained on {described_table(self.table)}, and the new table holds "
                f"{described_table(table)}; use a table of the same kind and item encoder"
            )
        if not np.array_equal(table.rating_values, self.table.rating_values):
            raise MismatchError(
                f"the model has the ratings {_listed(self.table.rating_values)}, the new table "
                f"{_listed(table.rating_values)}; use data on the same scale"
            )
        # weights of one catalogue cannot read new categories
        if not (isinstance(table, CategoryTable) and self.settings.binds):
            return self._over(table, self.settings)
        if table.categories == self.settings.categories:
            return self._over(table, self.settings)
        settings = self.settings.model_copy(update={"categories": table.categories})
        return self._over(table, settings, self.summary.extended(table.categories))

    def with_task(self, task: TaskSettings) -> Self:
        """Return a model with another label rule, effective when it is bound to data; the weights are shared."""
        return self._over(self.table, self.settings.model_copy(update={"task": task}))

    def with_encoder(self, encoder: nn.Module, settings: PersonalizedSettings, table: Table) -> Self:
        """Return a model with another user encoder over a table; all other weights are shared."""
        other = self._over(table, settings)
        other.user_encoder = encoder
        return other

    def learn_own(self) -> None:
        """Add a trainable, zero-initialised vector per category to the user encoder, in place."""
        if isinstance(self.user_encoder, UniversalEncoder):
            self.user_encoder.learn_own()
            self._note_own()

    def _over(
        self, table: Table, settings: PersonalizedSettings, summary: PopulationSummary | None = None
    ) -> Self:
        """Return a model of the same weights over a table and, if given, another population summary."""
        other = copy(self)
        other._modules = dict(self._modules)  # a copy, so that modules can be exchanged in the new model
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
        # a function, as a module would be registered as a submodule of the encoder
        scaled = None if self.token_like is None else self.token_like.forward
        binding = Binding(summary, names, nothing, self.backbone.get_input_embeddings, scaled)
        bound: nn.Module = self.binding.bound(binding)
        return bound

    def _note_own(self) -> None:
        """Update the number of per-category vectors in the settings."""
        if isinstance(self.user_encoder, UniversalEncoder):
            encoder = self.settings.user_encoder.model_copy(update={"own": self.user_encoder.own})
            self.settings = self.settings.model_copy(update={"user_encoder": encoder})


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _some(values: Sequence[object], most: int = 5) -> str:
    """Format the first values."""
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")
