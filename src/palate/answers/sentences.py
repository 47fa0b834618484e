"""Sentence templates of answers, which are filled with facts; such answers have the source ``template``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.tasks.verbalizer import NO_ANSWER
from palate.words import counted, plural

if TYPE_CHECKING:
    from palate.answers.reasons import Explanation
    from palate.answers.tastes import CategoryRating, ChangedShare, TasteView

NOT_LATELY = "What changed lately is not known without a recommender."
NO_REASON = "No single part of the user's history speaks for it"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Join names: "A", "A and B", "A, B and C"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def likes_category(rating: CategoryRating, like_above: float) -> str:
    """Format whether a user likes a category, by the expected mean rating."""
    yes = rating.chance >= 0.5
    own = f"from {counted(rating.count, 'rating')} of it" if rating.count else "from no rating of it"
    return (
        f"{'Yes' if yes else 'No'}, the user {'likes' if yes else 'does not like'} {rating.name}: the expected "
        f"mean rating, {own}, is {rating.mean:.2f}, and above {like_above:g} with a chance of {rating.chance:.0%}."
    )


def prefers(better: str, other: str, chance: float, because: str) -> str:
    """Format which of two items or categories a user prefers."""
    return f"The user prefers {better} to {other}, with a chance of {chance:.0%}{because}."


def viewed_likes(name: str, chance: float) -> str:
    """Format whether a user likes a category, by the user encoder's probability."""
    yes = chance >= 0.5
    return (
        f"{'Yes' if yes else 'No'}, the user {'likes' if yes else 'does not like'} {name}, rather than "
        f"{'disliking' if yes else 'liking'} it with a chance of {max(chance, 1 - chance):.0%}."
    )


def rated_already(title: str, rating: str) -> str:
    """Format the rating of an item in the history."""
    return f"The user has rated {title} already: {rating}."


def had_already(title: str) -> str:
    """Format that an item is in the history, for data without ratings."""
    return f"The user's history has {title} already."


def rates(title: str, rating: float, sd: float, high: float) -> str:
    """Format the predicted rating of an item."""
    return f"The user would rate {title} about {rating:.1f} of {high:g}, give or take {sd:.1f}."


def likes_item(title: str, chance: float, like_above: float) -> str:
    """Format whether a user would like an item, by the probability of a rating above the threshold."""
    yes = chance >= 0.5
    said = "would probably like" if yes else "would probably not like"
    return (
        f"{'Yes' if yes else 'No'}, the user {said} {title}: a rating above {like_above:g} has a chance of "
        f"{chance:.0%}."
    )


def takes_item(title: str, place: int, among: int, chance: float, noun: str) -> str:
    """Format whether an item suits a user, for data without ratings, by its rank among all items."""
    yes = chance >= 0.5
    return (
        f"{'Yes' if yes else 'No'}, {title} {'suits' if yes else 'does not suit'} this user: it ranks {place:,} of "
        f"{counted(among, noun)}, above {chance:.0%} of the items weighted by popularity."
    )


def comes_next(title: str, chance: float, others: Sequence[str]) -> str:
    """Format which of several items comes next."""
    return f"{title} comes next, with a chance of {chance:.0%}, rather than {listed(others, 'or')}."


def recommended(titles: Sequence[str], personal: bool) -> str:
    """Format recommended items, best first."""
    if not titles:
        return "There is no item left to recommend."
    first = f"Recommended is {titles[0]}" + (f", then {listed(titles[1:])}" if titles[1:] else "")
    return first + ("." if personal else ", as to everyone: nothing is known of the user yet.")


def because_of(reasons: Explanation, rated: bool) -> str:
    """Format an explanation of a score."""
    if not reasons.items:
        return (
            f"{NO_REASON}."
            if not reasons.against
            else "No single part of the user's history speaks against it."
        )
    items = [f"{one.title}" + (f" (rated {one.rating:g})" if rated else "") for one in reasons.items]
    own = [one.name for one in reasons.categories]
    also = f" and for its {listed(own)}" if own and not reasons.against else ""
    way = "against" if reasons.against else "for"
    return f"What speaks {way} it most: {listed(items)} in the user's history{also}."


def likes_and_dislikes(view: TasteView, field: str) -> str:
    """Format the categories that a user likes and dislikes."""
    if not view.liked and not view.disliked:
        return f"{NO_ANSWER}."
    return f"{likes(view, field).removesuffix('.')} and {dislikes(view, field).removeprefix('The user ')}"


def likes(view: TasteView, field: str) -> str:
    """Format the categories that a user likes."""
    return f"The user likes {listed([one.name for one in view.liked]) or f'no {field} above others'}."


def dislikes(view: TasteView, field: str) -> str:
    """Format the categories that a user dislikes."""
    return f"The user doesn't like {listed([one.name for one in view.disliked]) or f'any {field} less than others'}."


def profile(
    view: TasteView,
    counts: dict[str, int],
    events: int,
    rated: bool,
    field: str,
    changed: tuple[ChangedShare | None, ChangedShare | None, int],
) -> str:
    """Format a profile: likes and dislikes with probabilities, and recent changes.

    Args:
        view: Liked and disliked categories with probabilities.
        counts: Number of events by category.
        events: Number of events.
        rated: Whether the data has ratings.
        field: Noun for a category, in the singular.
        changed: Result of :meth:`CategoryTastes.changes`.
    """
    noun = "rating" if rated else "event"
    if not events:
        return f"{NO_ANSWER}. There are no {plural(noun)}."
    liked = [
        f"{one.name} ({counted(counts.get(one.name, 0), noun)}, {one.chance:.0%} sure)" for one in view.liked
    ]
    disliked = [f"{one.name} ({one.chance:.0%} sure)" for one in view.disliked]
    first = f"By {counted(events, noun)} the user likes {listed(liked) or f'no {field} above others'}"
    first += f" and doesn't like {listed(disliked)}." if disliked else f", and dislikes no {field} clearly."
    return f"{first} {_lately(changed, noun)}"


def avoided(view: TasteView | None, titles: Sequence[str], field: str) -> str:
    """Format the categories and items that a user should not be shown."""
    names = [] if view is None else [one.name for one in view.disliked]
    if not names and not titles:
        return f"Nothing stands out that the user should not be shown: no {field} is disliked."
    parts = [f"the {field if len(names) == 1 else plural(field)} {listed(names)}"] if names else []
    if titles:
        parts.append(f"{listed(titles)}, which others choose and this user would probably not like")
    return f"Better not shown to the user: {'; and '.join(parts)}."


def _lately(changed: tuple[ChangedShare | None, ChangedShare | None, int], noun: str) -> str:
    rose, fell, newest = changed
    if not newest:
        return f"There are too few {plural(noun)} to say what changed lately."
    parts = [
        f"{'more' if more else 'less'} {one.name} ({one.newest:.0%} of the newest {newest}, {one.before:.0%} before)"
        for more, one in ((True, rose), (False, fell))
        if one is not None
    ]
    if not parts:
        return f"Among the newest {counted(newest, noun)} nothing differs clearly from before."
    return f"Lately there is {listed(parts)}."
