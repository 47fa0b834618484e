"""Examples of written answers, from which a language model takes the style of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.answers import sentences
from palate.answers.reasons import CategoryReason, Explanation, ItemReason
from palate.answers.tastes import CategoryRating, ChangedShare, TasteView, ViewedTaste

if TYPE_CHECKING:
    from palate.tasks.asked import AskedKind


def _because(
    items: Sequence[tuple[str, float]],
    categories: Sequence[str] = (),
    against: bool = False,
    first: bool = False,
) -> str:
    named = tuple(ItemReason("", title, rating, 1.0) for title, rating in items)
    shared = tuple(CategoryReason(name, 1, 1.0) for name in categories)
    reasons = Explanation("", "", "ratings", 0, against, named, shared, 0)
    return sentences.because_of(reasons, True, first=first)


_NOVELS = (("Emma", 5.0), ("Persuasion", 5.0), ("Middlemarch", 4.0))
_AS_NOVELS = (
    "mainly because of Emma (rated 5), Persuasion (rated 5) and Middlemarch (rated 4) in their history, and also "
    "because of its Classics."
)
_BOOTS = (("Peak Boot 2", 5.0), ("Trail Runner", 4.0))
_AS_BOOTS = "because of Peak Boot 2 (rated 5) and Trail Runner (rated 4) in the user's history."
_MUSICALS = (("Cats (1998)", 1.0), ("Fame (1980)", 2.0))
_AS_MUSICALS = "This is because of Cats (1998) (rated 1) and Fame (1980) (rated 2) in the user's history."
_CLASSICS = ("Classics",)
_VIEW = TasteView(
    (ViewedTaste("Classics", 0.72), ViewedTaste("Romance", 0.55)), (ViewedTaste("Horror", 0.61),), {}
)
_CHANGED = (ChangedShare("Romance", 0.4, 0.1), None, 10)
EXAMPLES: dict[AskedKind, tuple[tuple[str, str], ...]] = {
    "yes-no": (
        (
            sentences.likes_category(CategoryRating("Romance", 7, 4.21, 0.3, 0.93), 3.5),
            "The user likes Romance, with an expected mean rating of 4.21 from 7 ratings of it, and a 93% chance of "
            "being above 3.5.",
        ),
        (
            sentences.likes_category(CategoryRating("Hiking Boots", 1, 2.8, 0.5, 0.08), 3.5),
            "No, the user does not like Hiking Boots: the expected mean rating is 2.80 from 1 rating of it, and it is "
            "above 3.5 with a chance of 8%.",
        ),
    ),
    "pair": (
        (
            sentences.prefers("Romance", "Horror", 0.81, (4.21, 3.05)),
            "The user prefers Romance to Horror with a chance of 81%, as the expected mean ratings are 4.21 and 3.05.",
        ),
    ),
    "rating": (
        (
            f"{sentences.rates('Evelina', 4.2, 0.8, 5)} {_because(_NOVELS, _CLASSICS)}",
            f"The user would give Evelina about 4.2 of 5, give or take 0.8, {_AS_NOVELS}",
        ),
        (
            f"{sentences.rates('Grease (1978)', 2.1, 1.0, 5)} {_because(_MUSICALS, against=True)}",
            f"The user would rate Grease (1978) about 2.1 of 5, with an error of about 1.0. {_AS_MUSICALS}",
        ),
    ),
    "item-yes-no": (
        (
            f"{sentences.likes_item('Evelina', 0.71, 3.5)} {_because(_NOVELS, _CLASSICS)}",
            f"The user would probably like Evelina, with a 71% chance of a rating above 3.5, {_AS_NOVELS}",
        ),
        (
            f"{sentences.likes_item('Grease (1978)', 0.22, 3.5)} {_because(_MUSICALS, against=True)}",
            "No, the user would probably not like Grease (1978): the chance of a rating above 3.5 is 22%. "
            f"{_AS_MUSICALS}",
        ),
    ),
    "item-pair": (
        (
            f"{sentences.prefers('Evelina', 'Dracula', 0.81)} {_because(_NOVELS, _CLASSICS)}",
            f"The user prefers Evelina to Dracula with a chance of 81%, {_AS_NOVELS}",
        ),
        (
            f"{sentences.prefers('Summit Boot', 'City Shoe', 0.66)} {_because(_BOOTS)}",
            f"The user prefers Summit Boot to City Shoe, with a 66% chance. This is {_AS_BOOTS}",
        ),
    ),
    "next-item": (
        (
            f"{sentences.comes_next('Evelina', 0.57, ['Dracula', 'Ulysses'])} {_because(_NOVELS, _CLASSICS)}",
            "Evelina is the most likely to come next, with a chance of 57%, before Dracula and Ulysses, "
            f"{_AS_NOVELS}",
        ),
        (
            f"{sentences.comes_next('Summit Boot', 0.8, ['Sandal', 'City Shoe'])} {_because(_BOOTS)}",
            f"Summit Boot comes next with a chance of 80%, rather than Sandal or City Shoe. This is {_AS_BOOTS}",
        ),
    ),
    "recommendation": (
        (
            f"{sentences.recommended(['Evelina', 'Cecilia', 'Camilla'], True)} "
            f"{_because(_NOVELS, _CLASSICS, first=True)}",
            "The user should try Evelina first, followed by Cecilia and Camilla. The first is recommended "
            f"{_AS_NOVELS}",
        ),
        (
            f"{sentences.recommended(['Summit Boot', 'Sandal'], True)} {_because(_BOOTS, first=True)}",
            f"The best recommendation is Summit Boot, followed by Sandal. The first is recommended {_AS_BOOTS}",
        ),
    ),
    "profile": (
        (
            sentences.profile(_VIEW, {"Classics": 9, "Romance": 5}, 40, True, "genre", _CHANGED),
            "Judging by 40 ratings, the user likes Classics (9 ratings, 72% sure) and Romance (5 ratings, 55% sure), "
            "and doesn't like Horror (61% sure). Lately there is more Romance (40% of the newest 10, 10% before).",
        ),
    ),
    "avoid": (
        (
            sentences.avoided(_VIEW, ["Dracula", "Carrie"], "genre"),
            "The user should not be shown the genre Horror, and also Dracula and Carrie, which others choose and this "
            "user would probably not like.",
        ),
    ),
}
"""By the kind of question: filled templates with marked facts, and written answers with the same facts."""
