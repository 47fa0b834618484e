"""The personalised model as users see it: saving, loading and the hub, on top of the layers of the model class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from palate.backbones.base import Backbone
from palate.backbones.load import find_backbone, rebuild_backbone
from palate.data.dataset import load_dataset
from palate.data.population import PopulationSummary
from palate.encoders.base import BindsToData
from palate.errors import MismatchError
from palate.model.binding import BindableModel
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
from palate.model.tables import Table, item_reading, load_table
from palate.model.weights import load_weights, save_weights
from palate.runs.hub import SharedModel, found_run, saved_folder
from palate.runs.run import RunFolder
from palate.system.device import dtype_of, find_device
from palate.system.files import fresh_folder, write_text

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


class PersonalizedModel(BindableModel, SharedModel):
    """Personalised language model G(Z) with Z = [K; U_e; I_e]: a backbone that reads a user prompt.

    Its files contain parts of the training data: the items with their texts, and a summary of the population, but no
    user's history.

    Args:
        settings: The model's configuration.
        backbone: The language model and its tokenizer.
        table: The items that histories may contain: vectors of the encoder that the model was trained with, text
            blocks for a text history, or categories by name.
        summary: Summary of the population, for a user encoder without its own catalogue; None if it is not bound to
            data yet, and for other encoders.

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
        super().__init__(settings, backbone, table)
        self.run: RunFolder | None = None
        """The run that trained it; None if it was not loaded from a run."""
        if summary is not None:
            self.user_encoder = self._bound(summary)

    def card_named(self, name: str, licence: str | None = None) -> str:
        """Write the model card, in Markdown, with the name that it is loaded by, and its licence."""
        return model_card(replace(self._card_facts(), name=name, licence=licence))

    def _card_facts(self) -> CardFacts:
        table = self.table
        return CardFacts(
            settings=self.settings,
            encoder_parameters=sum(weight.numel() for weight in self.user_encoder.parameters()),
            architecture=type(self.backbone).__name__,
            backbone_parameters=self.backbone.num_parameters(),
            item_encoder=item_reading(table),
            max_events=self.max_events,
            item_ids=table.item_ids[:2],
            ratings=[float(value) for value in table.rating_values[-2:]],
        )

    def save_pretrained(self, folder: Path | str) -> None:
        """Save config, weights, backbone config, tokenizer, item table and model card to a folder, atomically.

        Of a backbone that is not fully trained, only the trained weights are saved; the others are loaded by its name.
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
    def from_pretrained(
        cls, folder: Path | str, backbone: str | None = None, revision: str | None = None
    ) -> PersonalizedModel:
        """Load a folder of :meth:`save_pretrained`, or a model of the hub.

        Args:
            folder: The folder, or ``OWNER/NAME`` on the hub if there is no local folder OWNER.
            backbone: Folder of a backbone that is not saved with the model; None for the one that the model names.
            revision: Branch, tag or commit of a model on the hub; None for the main branch.

        Returns:
            The model in evaluation mode, on the CPU.

        Raises:
            DataError: The folder is incomplete or corrupt, or there is no such model on the hub.
            MismatchError: The backbone cannot be loaded or has other weights.
        """
        folder = saved_folder(folder, revision)
        config = PersonalizedSettings.load(folder / CONFIG)
        table = load_table(config.user_encoder, folder / ITEMS)
        if config.backbone is not None:
            found = find_backbone(config.backbone, backbone)
        elif backbone is not None:
            raise MismatchError(f"{folder} has its own backbone; leave the argument backbone out")
        else:
            found = rebuild_backbone(folder / BACKBONE)
        bound = config.binds and not config.unbound
        summary = PopulationSummary.load(folder / POPULATION) if bound else None
        model = cls(config, found, table, summary)
        model.load_weights(folder / WEIGHTS)
        return model.eval()

    def save_weights(self, path: Path) -> None:
        """Save the weights in safetensors format."""
        save_weights(self, path)

    def load_weights(self, path: Path) -> None:
        """Load a file of :meth:`save_weights` into this model, in place."""
        load_weights(self, path)


def load_model(
    run: Path | str,
    backbone: str | None = None,
    *,
    data: Dataset | Path | str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    constrained: bool | None = None,
    revision: str | None = None,
) -> PersonalizedModel:
    """Load a trained model.

    Args:
        run: A run's folder, one of ``save_pretrained``, ``packaged`` for the model that comes with palate, or
            ``OWNER/NAME`` of a model on the hub.
        backbone: Hub name, folder or file of a backbone that is not saved with the model; None for the one that the
            model names.
        data: Dataset, or its folder, that a model without its own catalogue is bound to, such as the packaged one;
            None for the data that the model was trained on or bound to.
        device: "auto" for the first GPU, or else the CPU; or a torch device such as "cpu" or "cuda:1".
        dtype: Data type of the backbone, such as "bfloat16"; None for that of the training.
        constrained: Whether decoding is constrained by the task's grammar; None for the model's setting.
        revision: Branch, tag or commit of a model on the hub; None for the main branch.

    Returns:
        The model in evaluation mode; ``model.run`` is the run that trained it, or None for a model's folder.

    Raises:
        DataError: The folder holds no complete model, or there is no such model on the hub.
        MismatchError: The backbone cannot be loaded or has other weights, there is no such device, or ``data`` is
            another dataset than that of a model that cannot be bound.

    Example:
        >>> model = palate.load_model("runs/main", device="cpu")
        >>> model.device, model.run.path.name
        (device(type='cpu'), 'main')
    """
    place, backbone_dtype = find_device(device), None if dtype is None else dtype_of(dtype)
    found = found_run(run, revision)
    model = PersonalizedModel.from_pretrained(model_folder(found.path), backbone)
    if backbone_dtype is not None:
        model.backbone.to(dtype=backbone_dtype)
    if constrained is not None:
        model.constrained = constrained
    model.run = found if found.there else None
    if data is not None:
        dataset = load_dataset(data) if isinstance(data, Path | str) else data
        if dataset.info.fingerprint != model.settings.data_fingerprint:
            model = model.bind(dataset)
    return model.to(place)
