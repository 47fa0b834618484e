"""Random wordings of questions, so that a small backbone generalises to wordings that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.tasks.wordings import ABOUT_ITEMS, wordings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from palate.schema import QuestionKind

KNOWN = 0.4
"""Share of the wordings that are the tasks' own trained ones."""
WHO = (
    "this user", "this person", "the user", "this customer", "this reader", "this viewer", "this listener", "she",
    "the person", "someone like this", "this one", "he", "our user", "that person", "your customer",
    "a user like this",
)  # fmt: skip
"""Words for a user, in the singular."""
PARTS: dict[QuestionKind, tuple[str, ...]] = {
    "preference": (
        "Which {fields} does {who} {like} and {dislike}?",
        "What {fields} does {who} {like}, and what {fields} not?",
        "{Tell} the {fields} that {who} {likes} and the ones that {who} {dislikes}.",
        "{Tell} {good} and {bad} {fields} for {who}.",
        "What are {good} and {bad} {fields} of {who}?",
        "Summarise the taste of {who}: {good} {fields} and {bad} {fields}.",
        "The taste of {who}: liked {fields}, and disliked {fields}?",
        "{Tell} what {who} {likes} and {dislikes} in {fields}.",
        "Likes and dislikes of {who}, in {fields}?",
        "{fields}: what does {who} {like}, and what should {who} avoid?",
        "Say what {fields} to show to {who}, and what {fields} to leave out.",
    ),
    "liked": (
        "Which {fields} does {who} {like}?",
        "What {fields} does {who} {like} most?",
        "{Tell} {good} {fields} for {who}.",
        "{Tell} the {fields} that {who} {likes}.",
        "What are {good} {fields} of {who}?",
        "{fields} that {who} {likes}?",
        "What {fields} would you recommend to {who}?",
        "What {fields} to show to {who}?",
        "{Tell} {fields} that should be suggested to {who}.",
        "What should {who} be offered, in {fields}?",
    ),
    "disliked": (
        "Which {fields} does {who} {dislike}?",
        "What {fields} does {who} not {like}?",
        "{Tell} {bad} {fields} for {who}.",
        "{Tell} the {fields} that {who} {dislikes}.",
        "What are {bad} {fields} of {who}?",
        "{fields} that {who} {dislikes}?",
        "What {fields} would you never recommend to {who}?",
        "What {fields} should not be suggested to {who}?",
        "What {fields} to hide from {who}?",
        "{Tell} {fields} that {who} should be spared.",
    ),
    "yes-no": (
        "Does {who} {like} {category}?",
        "Is {category} something that {who} {likes}?",
        "Would {who} {like} {category}?",
        "Is {category} right for {who}?",
        "Should {category} be recommended to {who}?",
        "{category}: does {who} {like} it?",
        "Can {category} be shown to {who}?",
        "Do you think that {who} {likes} {category}?",
        "Will {who} be happy with {category}?",
        "Is {who} a friend of {category}?",
        "{category} for {who}, yes or no?",
    ),
    "pair": (
        "Which does {who} {like} more, {category} or {other}?",
        "What does {who} prefer: {category} or {other}?",
        "{category} or {other}, which is better for {who}?",
        "Is it {category} or {other} that {who} {likes} more?",
        "Would {who} rather have {category} or {other}?",
        "Between {category} and {other}, what would {who} choose?",
        "Does {who} {like} {category} more than {other}, or {other} more?",
        "Should {who} get {category} or {other}?",
        "{Tell} what {who} {likes} better, {category} or {other}.",
        "Of {category} and {other}, which one is for {who}?",
        "Is {category} better for {who} than {other}, or is it worse?",
    ),
    "rating": (
        "How does {who} rate {item}, from {low} to {high}?",
        "What rating between {low} and {high} does {who} give {item}?",
        "{item}: how many points of {high} would {who} give, from {low} on?",
        "How would {who} rate {item} on a scale of {low} to {high}?",
        "{Tell} the rating of {item} by {who}, {low} to {high}.",
        "From {low} to {high}, how much does {who} {like} {item}?",
        "How good is {item} for {who}, between {low} and {high}?",
        "What would {who} say of {item}, from {low} to {high}?",
    ),
}
WORDS = {
    "Tell": ("Name", "List", "Tell me", "Give", "Say", "Show", "Write down"),
    "like": ("like", "love", "enjoy", "want", "appreciate", "look for"),
    "likes": ("likes", "loves", "enjoys", "wants", "appreciates", "looks for"),
    "dislike": ("dislike", "hate", "avoid", "not like", "not enjoy", "not want", "reject"),
    "dislikes": ("dislikes", "hates", "avoids", "doesn't like", "doesn't enjoy", "does not want", "rejects"),
    "good": ("the best", "favourite", "the favorite", "the preferred", "good", "the most loved", "top"),
    "bad": ("the worst", "bad", "the least liked", "the most hated", "unwanted", "disliked"),
}


def random_wording(rng: np.random.Generator, kind: QuestionKind) -> str:
    """Draw a template like those of :data:`palate.tasks.wordings.WORDINGS`, but none of those held out there."""
    known = wordings_of(kind)
    while True:
        if rng.random() < KNOWN:
            return _one(rng, known.trained)
        who = _one(rng, WHO)
        words = {name: _one(rng, options) for name, options in WORDS.items()}
        template = _one(rng, PARTS[ABOUT_ITEMS.get(kind, kind)]).replace("{who}", who)
        for name, word in words.items():
            template = template.replace(f"{{{name}}}", word)
        if template not in known.held_out:
            return template


def _one(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
