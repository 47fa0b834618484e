"""Files of a trained PEPLER: settings, ids, words and weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from palate.backbones.base import Backbone
from palate.backbones.load import find_backbone, rebuild_backbone
from palate.backbones.source import BackboneSource
from palate.config.recipe import PeplerSettings, UserEncoderSettings
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.generative.card import pepler_card
from palate.generative.newcomers import new_newcomer_encoder
from palate.generative.pepler import Pepler
from palate.generative.pepler_cases import PromptWords
from palate.items.table import ItemTable
from palate.model.weights import not_finite
from palate.runs.hub import CARD, SharedModel, found_run
from palate.runs.run import RunFolder, load_run, run_folder
from palate.system.files import fresh_folder, read_bytes, write_bytes, write_text
from palate.system.hub import is_hub_name
from palate.system.records import Frozen, read_record

HEADER, TENSORS, BACKBONE, ITEMS = "pepler.json", "pepler.safetensors", "backbone", "items"
_AGAIN = "copy the run again"


class NewcomerRecord(Frozen):
    """Settings of the encoder of users who were not trained on."""

    user_encoder: UserEncoderSettings
    event_texts: bool
    window: int
    categories: int


class PeplerRecord(Frozen):
    """Contents of ``pepler.json``."""

    format: int = 1
    settings: PeplerSettings
    source: BackboneSource | None
    """Source of a backbone that is not saved here; None otherwise."""
    mean: float
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    rating_values: tuple[float, ...]
    user_words: tuple[str, ...] = ()
    item_words: tuple[str, ...] = ()
    words: str | None = None
    newcomers: NewcomerRecord | None = None
    """Encoder of users who were not trained on; None if there is none."""
    data_fingerprint: str
    data_name: str | None = None
    base: str | None = None
    """Name on the hub of the backbone that the training started from, if there is one."""


@dataclass(frozen=True, eq=False)
class TrainedPepler(SharedModel):
    """A PEPLER, and the ids that its vectors belong to.

    What is saved or uploaded holds the ids of its users, and a learned vector, or some words, of each.

    Example:
        >>> pepler = TrainedPepler.from_pretrained("runs/pepler")  # doctest: +SKIP
        >>> pepler.push_to_hub("ann/pepler", private=True)  # doctest: +SKIP
    """

    model: Pepler
    record: PeplerRecord
    run: RunFolder | None = field(default=None, kw_only=True)

    def card_named(self, name: str, licence: str | None = None) -> str:
        """Write the model card, in Markdown, with the name that it is loaded by."""
        one = self.record
        users, items = len(one.user_ids), len(one.item_ids)
        return pepler_card(one.settings, one.data_name, users, items, one.base, name, licence)

    def save_pretrained(self, folder: Path | str) -> None:
        """Save the files and a model card atomically to a new or empty folder.

        Of a backbone that is not fully trained only what was trained is saved, and where it is found.

        Raises:
            OutputError: The folder is not empty, or cannot be written.
        """
        model, source = self.model, self.record.source
        with fresh_folder(folder) as place:
            write_text(place / HEADER, self.record.model_dump_json(indent=2) + "\n")
            weights = {
                name: weight.detach().cpu().contiguous() for name, weight in _kept(model, source).items()
            }
            write_bytes(place / TENSORS, save(weights))
            write_text(place / CARD, self.card)
            if model.newcomer_table is not None:
                model.newcomer_table.save(place / ITEMS)
            if source is None:
                Backbone(model.backbone, model.tokenizer, model.frame).save(place / BACKBONE)

    @classmethod
    def from_pretrained(cls, name: Path | str, revision: str | None = None) -> TrainedPepler:
        """Load a run, a folder of :meth:`save_pretrained`, or a PEPLER of the hub.

        Args:
            name: The folder, or ``OWNER/NAME`` on the hub, where there is no folder called OWNER here.
            revision: Branch, tag or commit of one of the hub.

        Returns:
            The PEPLER; ``run`` is the run that trained it, or None for a folder without one.

        Raises:
            DataError: A file is missing or damaged, or there is no such PEPLER on the hub.
            MismatchError: The backbone is not where it was, or has other weights; or a folder has no revision.
        """
        found = found_run(name, revision)
        record = read_record(
            PeplerRecord,
            found.model / HEADER,
            "no PEPLER; train one by a recipe with a section 'pepler'",
            _AGAIN,
        )
        return cls(_rebuilt(found.model, record), record, run=found if found.there else None)

    def user_index(self, user_id: str) -> int | None:
        """Find a user who was trained on; None for others."""
        return _index(self.record.user_ids).get(user_id)

    def item_index(self, item_id: str) -> int | None:
        """Find an item; None if it is unknown."""
        return _index(self.record.item_ids).get(item_id)


def _index(ids: tuple[str, ...]) -> dict[str, int]:
    return {one: number for number, one in enumerate(ids)}


def record_of(
    model: Pepler, source: BackboneSource | None, dataset: Dataset, newcomers: NewcomerRecord | None = None
) -> PeplerRecord:
    """Collect what is saved of a trained model beside its weights."""
    words, backbone = model.words, getattr(model.settings.backbone, "name", None)
    return PeplerRecord(
        settings=model.settings,
        source=source,
        mean=float(model.mean),
        user_ids=tuple(dataset.user_ids),
        item_ids=tuple(dataset.item_ids),
        rating_values=dataset.info.rating_values,
        user_words=() if words is None else tuple(words.users),
        item_words=() if words is None else tuple(words.items),
        words=None if words is None else words.source,
        newcomers=newcomers,
        data_fingerprint=dataset.info.fingerprint,
        data_name=dataset.info.name,
        base=backbone if backbone is not None and is_hub_name(backbone) else None,
    )


def load_pepler(run: Path | str) -> TrainedPepler:
    """Load the PEPLER of a run; raises the errors of :meth:`TrainedPepler.from_pretrained`."""
    load_run(run)
    return TrainedPepler.from_pretrained(run)


def is_pepler(run: Path | str) -> bool:
    """Return whether a folder is a run of a recipe with a section ``pepler``."""
    found = run_folder(run)
    return found.recipe.pepler is not None if found.there else (found.model / HEADER).is_file()


def _kept(model: Pepler, source: BackboneSource | None) -> dict[str, torch.Tensor]:
    """Select the weights to save, tied ones once."""
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    if source is None:
        return {name: tensor for name, tensor in state.items() if _persistent(model, name)}
    return {
        name: tensor
        for name, tensor in state.items()
        if _persistent(model, name) and (not name.startswith("backbone.") or "lora_" in name)
    }


def _persistent(model: Pepler, name: str) -> bool:
    return name in model.state_dict()


def _rebuilt(folder: Path, record: PeplerRecord) -> Pepler:
    """Build the model of a record and load its weights."""
    source = record.source
    backbone = rebuild_backbone(folder / BACKBONE) if source is None else find_backbone(source)
    model = Pepler(record.settings, backbone, len(record.user_ids), len(record.item_ids), record.mean)
    if record.words is not None:
        model.words = PromptWords(list(record.user_words), list(record.item_words), record.words)
    if (read := record.newcomers) is not None:
        table = ItemTable.load(folder / ITEMS)
        model.newcomer_table = table
        model.newcomers = new_newcomer_encoder(
            read.user_encoder, table, read.event_texts, read.categories, model.users.weight
        )
    path = folder / TENSORS
    try:
        found = load(read_bytes(path, f"the weights are missing; {_AGAIN}"))
        known = _kept(model, source)
        if wrong := sorted(found.keys() ^ known.keys()):
            raise ValueError(f"{len(wrong)} of its weights are missing or unknown, the first {wrong[0]}")
        with torch.no_grad():
            for name, weight in known.items():
                weight.copy_(found[name])
    except (SafetensorError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"not the weights that {HEADER} describes ({reason}); {_AGAIN}", path) from error
    if broken := not_finite(found):
        raise DataError(f"the weights {broken} hold numbers that are not finite; train it again", path)
    return model.eval()
