"""Parts of a P5 or POD: its model and the facts of its data, saved to files, loaded from a folder or the hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from palate.backbones.t5 import rebuild_t5
from palate.config.generative import AnyGenerativeSettings
from palate.config.section import KindSettings
from palate.errors import DataError
from palate.generative.card import id_model_card
from palate.generative.p5 import IdLanguageModel
from palate.generative.wording import Wording
from palate.model.weights import load_whole, save_whole
from palate.runs.hub import CARD, SharedModel, found_run
from palate.system.device import find_device
from palate.system.files import fresh_folder, write_json, write_text
from palate.system.records import Frozen, read_record

if TYPE_CHECKING:
    from typing_extensions import Self

    from palate.runs.run import RunFolder

HEADER, WEIGHTS, BACKBONE = "generative.json", "generative.safetensors", "backbone"
FORMAT = 1
_AGAIN = "copy the run again, or train it again"


class GenerativeFacts(Frozen):
    """Metadata of the training data, saved with the weights."""

    item_names: tuple[str, ...]
    user_names: tuple[str, ...]
    known: tuple[bool, ...]
    """Mask of the users with training interactions, [U]."""
    noun: str
    rating_values: tuple[float, ...]
    event_weights: tuple[float, ...] = ()
    like_above: float

    @property
    def wording(self) -> Wording:
        """Formatter of items, users and rating values."""
        return Wording(
            self.item_names, self.user_names, self.noun, tuple(f"{value:g}" for value in self.rating_values)
        )


class GenerativeQuestion(KindSettings):
    """Inference settings of a recommender, given after its run's name: ``runs/p5:decoding=beams,beams=20``."""

    kind: str = "generative"
    family: Literal["auto", "sequential", "direct"] = "auto"
    """Which family's prompts ask for items; the first of the two that was trained."""
    form: Literal["auto", "open", "pick", "yes-no"] = "auto"
    """Of ``direct``: any item, one of the candidates that the prompt offers, or a yes to each of them; ``pick`` where
    there are candidates."""
    prompt: Literal["held-out", "trained"] = "held-out"
    """The prompt that no training has shown, or the first one that it has."""
    users: Literal["ids", "windows"] = "ids"
    """How a prompt describes a user who was trained on: by id, or by the window, as other users."""
    decoding: Literal["exhaustive", "beams"] = "exhaustive"
    """Score every item, or only what beams find; all others are then equally the last."""
    beams: int = 20
    """Beam size."""


class GenerativeTraining(Frozen):
    """How a recommender was trained."""

    steps: int = 0
    """Optimizer steps."""
    data_name: str | None = None
    backbone: str | None = None
    """Name on the hub of the T5 that the training started from, if there is one."""
    score: str | None = None
    """Name of the dev score."""
    dev: float | None = None
    """The best dev score, that of the weights."""


class GenerativeHeader(Frozen):
    """Contents of ``generative.json``."""

    format: int = FORMAT
    settings: AnyGenerativeSettings
    facts: GenerativeFacts
    steps: int = 0
    """Optimizer steps of the training."""
    training: GenerativeTraining | None = None
    """None in files of an earlier version, which have the steps alone."""


@dataclass(frozen=True, eq=False)
class GenerativeParts(SharedModel):
    """Contents of a recommender's files, and how it is asked."""

    model: IdLanguageModel
    facts: GenerativeFacts
    asked: GenerativeQuestion = field(default_factory=GenerativeQuestion)
    training: GenerativeTraining = field(default_factory=GenerativeTraining)
    run: RunFolder | None = field(default=None, kw_only=True)

    def card_named(self, name: str, licence: str | None = None) -> str:
        """Write the model card, in Markdown, with the name that it is loaded by."""
        return id_model_card(self.model.settings, self.facts.item_names, self.training, name, licence)

    def save_pretrained(self, folder: Path | str) -> None:
        """Save the files and a model card atomically to a new or empty folder.

        Raises:
            OutputError: The folder is not empty, or cannot be written.
        """
        header = GenerativeHeader(
            settings=self.model.settings, facts=self.facts, steps=self.training.steps, training=self.training
        )
        with fresh_folder(folder) as place:
            (place / BACKBONE).mkdir()
            self.model.backbone.save(place / BACKBONE)
            save_whole(self.model, place / WEIGHTS)
            write_text(place / CARD, self.card)
            write_json(place / HEADER, header.model_dump(mode="json"))

    @classmethod
    def from_pretrained(
        cls, name: Path | str, revision: str | None = None, device: str | torch.device = "auto"
    ) -> Self:
        """Load a run, a folder of :meth:`save_pretrained`, or a recommender of the hub.

        Args:
            name: The folder, or ``OWNER/NAME`` on the hub, where there is no folder called OWNER here.
            revision: Branch, tag or commit of one of the hub.
            device: Device of the model.

        Returns:
            The recommender; ``run`` is the run that trained it, or None for a folder without one.

        Raises:
            DataError: A file is missing or damaged, or there is no such recommender on the hub.
            MismatchError: A folder has no revision.
        """
        run = found_run(name, revision)
        header = read_header(run.model)
        model = IdLanguageModel(rebuild_t5(run.model / BACKBONE), header.settings, header.facts.item_names)
        load_whole(model, run.model / WEIGHTS)
        training = header.training or GenerativeTraining(steps=header.steps)
        return cls(
            model.to(find_device(device)).eval(),
            header.facts,
            training=training,
            run=run if run.there else None,
        )


def read_header(folder: Path) -> GenerativeHeader:
    """Read ``generative.json``; raises :class:`DataError` if it is missing, damaged or of another format."""
    header = read_record(
        GenerativeHeader,
        folder / HEADER,
        "no such recommender; train one by a recipe with a section 'generative'",
        _AGAIN,
    )
    if header.format != FORMAT:
        raise DataError(
            f"format {header.format}, but this palate reads format {FORMAT}; train it again", folder
        )
    return header
