"""Tables of PEPLER's text and rating scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.report.sheet import Sheet

if TYPE_CHECKING:
    from palate.generative.pepler_scores import PeplerScores

NOT_COMPUTED = (
    "In brackets: 95% bootstrap intervals over interactions. FMR, FCR and DIV are not computed, because the data has "
    "no feature words."
)
_HEAD = ("system", "BLEU-1", "BLEU-4", "USR", "ROUGE-1", "ROUGE-2", "ROUGE-L", "RMSE", "MAE")


def pepler_sheet(scores: Sequence[PeplerScores], title: str) -> Sheet:
    """Build the table of scores, one row per system."""
    return Sheet(
        title, _HEAD, [_row(one) for one in scores], NOT_COMPUTED, spare=("ROUGE-1", "ROUGE-2", "MAE")
    )


def _row(one: PeplerScores) -> list[str]:
    cells = [one.name]
    if (texts := one.texts) is None:
        cells += [""] * 6
    else:
        cells += [str(texts.bleu1), str(texts.bleu4), f"{texts.usr:.2f}"]
        cells += [str(texts.rouge1), str(texts.rouge2), str(texts.rouge_l)]
    return cells + (
        ["", ""] if one.ratings is None else [f"{one.ratings.rmse:.3f}", f"{one.ratings.mae:.3f}"]
    )
