"""Pretrains the packaged model: first the network, then the backbone that verbalises its decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from palate.pretraining.assemble import assembled
from palate.pretraining.copying import counted_words
from palate.pretraining.language import language_backbone, pretrain_entities, pretrain_names
from palate.pretraining.network import pretrain_network
from palate.pretraining.readers import NetworkReaders
from palate.system.files import check_fresh, check_writable

if TYPE_CHECKING:
    from palate.pretraining.settings import Pretraining

REPORTED = 20
"""Number of progress reports of each part."""


def pretrain(settings: Pretraining, out: Path, report: Callable[[str], None] = lambda line: None) -> None:
    """Pretrain a catalogue-free model on random populations and names only, and save it.

    Args:
        settings: The recipe.
        out: Folder that is created.
        report: Called with lines about the progress.

    Raises:
        OutputError: The folder is not free or cannot be written; before any work is done.
        MismatchError: The tokenizer would split the words of an answer; before anything is trained.
    """
    check_fresh(out)
    check_writable(out)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        counted_words(language_backbone(settings.language).tokenizer)
        network = pretrain_network(settings.network, _reporting(report, "network", settings.network.steps))
        network = network.eval().requires_grad_(False)
        of_language = settings.language
        language = pretrain_names(
            of_language, settings.network.network.d_model, _reporting(report, "names", of_language.steps)
        )
        source = NetworkReaders(network, of_language.entity_populations, of_language.seed)
        pretrain_entities(language, source, _reporting(report, "questions", of_language.entity_steps))
        assembled(network, settings.network.network, language).save_pretrained(out)
    finally:
        torch.set_num_threads(before)


def _reporting(report: Callable[[str], None], part: str, steps: int) -> Callable[[int, float], None]:
    """Return a callback that reports the mean loss at regular intervals."""
    losses: list[float] = []
    often = max(steps // REPORTED, 1)

    def progress(step: int, loss: float) -> None:
        losses.append(loss)
        if step % often == 0 or step == steps:
            report(f"{part}: step {step:,} of {steps:,}, loss {sum(losses) / len(losses):.4f}")
            losses.clear()

    return progress
