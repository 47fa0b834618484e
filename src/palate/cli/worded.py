"""Terminal output of worded answers: the sentence, the matched kind, and tables of probabilities and reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.cli.console import show, show_table

if TYPE_CHECKING:
    from palate.answers.answerer import WordedAnswer


def show_worded(answer: WordedAnswer) -> None:
    """Print an answer with its probabilities and reasons."""
    from palate.report.sheet import Sheet

    show(answer.text)
    named = "".join(
        f"; {one.said!r} is {one.name}" for one in answer.entities if one.said and one.said != one.name
    )
    note = (
        f"Source: {answer.source}; matched to {answer.wording!r} ({answer.match:.0%}), by {answer.by}{named}."
    )
    rows = [(one.of, f"{one.chance:.1%}") for one in answer.chances]
    show_table(Sheet(f"user {answer.user_id}", [answer.kind, "chance"], rows, note))
    reasons = [
        (
            one.title,
            reason.title,
            "" if reason.rating is None else f"{reason.rating:g}",
            f"{reason.influence:+.3f}",
        )
        for one in answer.reasons
        for reason in one.items
    ]
    if reasons:
        show_table(
            Sheet(
                "Largest influences on the score",
                ["of", "item of the history", "rating", "influence"],
                reasons,
            )
        )
