"""Sentence templates of answers, which are filled with facts; such answers have the source ``template``.

The templates mark their facts (:mod:`palate.answers.facts`), for a language model that writes another sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palate.answers.facts import fact, reworded
from palate.tasks.verbalizer import NO_ANSWER
from palate.words import counted, plural

if TYPE_CHECKING:
    from palate.answers.reasons import Explanation
    from palate.answers.tastes import CategoryRating, ChangedShare, TasteView

NOT_LATELY = "What changed lately is not known without a recommender."


def listed(names: Sequence[str], last: str = "and") -> str:
    """Join names: "A", "A and B", "A, B and C"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def likes_category(rating: CategoryRating, like_above: float) -> str:
    """Format whether a user likes a category, by the expected mean rating."""
    own = f"from {counted(rating.count, 'rating')} of it" if rating.count else "without a rating of it"
    mean = reworded(
        f"the expected mean rating, {own}, is {rating.mean:.2f}",
        f"the expected mean rating is {rating.mean:.2f} {own}",
        f"the mean rating expected {own} is {rating.mean:.2f}",
        f"with an expected mean rating of {rating.mean:.2f} {own}",
    )
    chance = fact(
        f"above {like_above:g} with a chance of {rating.chance:.0%}",
        f"{_percent(rating.chance)} chance of being above {like_above:g}",
    )
    said = _judged(rating.chance >= 0.5, f"likes {rating.name}", f"does not like {rating.name}")
    return f"{said}: {mean}, and {chance}."


def prefers(better: str, other: str, chance: float, means: tuple[float, float] | None = None) -> str:
    """Format which of two items or categories a user prefers, by their expected mean ratings if these are known."""
    said = f"{_subject(f'prefers {better} to {other}')}, {_with_chance(chance)}"
    if means is None:
        return f"{said}."
    best, rest = (f"{mean:.2f}" for mean in means)
    expected = fact(
        f"the expected mean ratings are {best} and {rest}",
        f"with expected mean ratings of {best} and {rest}",
        f"as the expected mean ratings are {best} and {rest}",
    )
    return f"{said}: {expected}."


def viewed_likes(name: str, chance: float) -> str:
    """Format whether a user likes a category, by the user encoder's probability."""
    yes = chance >= 0.5
    rather = "liking it rather than disliking it" if yes else "disliking it rather than liking it"
    sure = max(chance, 1 - chance)
    said = f"the chance of {rather} is {sure:.0%}"
    than = fact(said, f"with {_percent(sure)} chance of {rather}")
    return f"{_judged(yes, f'likes {name}', f'does not like {name}')}: {than}."


def rated_already(title: str, rating: str) -> str:
    """Format the rating of an item in the history."""
    return f"The user has rated {title} already: {rating}."


def had_already(title: str) -> str:
    """Format that an item is in the history, for data without ratings."""
    return f"The user's history has {title} already."


def rates(title: str, rating: float, sd: float, high: float) -> str:
    """Format the predicted rating of an item."""
    said = f"would rate {title} about {rating:.1f} of {high:g}"
    error = fact(f"give or take {sd:.1f}", f"with an error of about {sd:.1f}")
    return f"{_subject(said, f'would give {title} about {rating:.1f} of {high:g}')}, {error}."


def likes_item(title: str, chance: float, like_above: float) -> str:
    """Format whether a user would like an item, by the probability of a rating above the threshold."""
    said = _judged(chance >= 0.5, f"would probably like {title}", f"would probably not like {title}")
    above = fact(
        f"a rating above {like_above:g} has a chance of {chance:.0%}",
        f"the chance of a rating above {like_above:g} is {chance:.0%}",
        f"with {_percent(chance)} chance of a rating above {like_above:g}",
        f"with a chance of {chance:.0%} for a rating above {like_above:g}",
    )
    return f"{said}: {above}."


def takes_item(title: str, place: int, among: int, chance: float, noun: str) -> str:
    """Format whether an item suits a user, for data without ratings, by its rank among all items."""
    yes = chance >= 0.5
    said = f"{title} {'suits' if yes else 'does not suit'} this user"
    rank = fact(
        f"it ranks {place:,} of {counted(among, noun)}",
        f"ranking {place:,} of {counted(among, noun)}",
    )
    above = f"above {chance:.0%} of the items weighted by popularity"
    return f"{reworded(f'{_YES_NO[yes]}, {said}', f'{_YES_NO[yes].lower()}, {said}', said)}: {rank}, {fact(above)}."


def comes_next(title: str, chance: float, others: Sequence[str]) -> str:
    """Format which of several items comes next."""
    than = f"rather than {listed(others, 'or')}"
    said = fact(f"{title} comes next", f"{title} is the most likely to come next")
    return f"{said}, {_with_chance(chance)}, {fact(than, f'before {listed(others)}')}."


def recommended(titles: Sequence[str], personal: bool) -> str:
    """Format recommended items, best first."""
    if not titles:
        return "There is no item left to recommend."
    later = listed(titles[1:])
    first = reworded(
        f"Recommended is {titles[0]}",
        f"recommended is {titles[0]}",
        f"the best recommendation is {titles[0]}",
        f"the user should try {titles[0]} first",
    )
    if later:
        first += f", {fact(f'then {later}', f'followed by {later}')}"
    return first + ("." if personal else f", {fact('as to everyone: nothing is known of the user yet')}.")


def because_of(reasons: Explanation, rated: bool, *, first: bool = False, agrees: bool = True) -> str:
    """Format an explanation of a score.

    Args:
        reasons: The explanation.
        rated: Whether the items have ratings.
        first: Whether the item is the first of several in the sentence before.
        agrees: Whether the reasons speak for what the sentence before says.
    """
    way = "against" if reasons.against else "for"
    if not reasons.items:
        none = f"no single part of the user's history speaks {way} it"
        return f"{reworded(f'N{none[1:]}', none)}."
    items = listed([f"{one.title}" + (f" (rated {one.rating:g})" if rated else "") for one in reasons.items])
    own = [one.name for one in reasons.categories]
    speaks = f"hat speaks {way} {'the first' if first else 'it'} most: {items} in the user's history"
    also = f"for its {listed(own)}"
    if agrees:
        subject = "the first is recommended " if first else ""
        said = reworded(
            f"W{speaks}",
            f"{subject}because of {items} in the user's history",
            f"{subject}mainly because of {items} in their history",
        )
        shared = reworded(also, f"because of its {listed(own)}")
    else:
        said, shared = reworded(f"W{speaks}", f"w{speaks}"), fact(also)
    return f"{said}." if not own or reasons.against else f"{said} and {shared}."


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
    likes = f"likes {listed(liked) or f'no {field} above others'}"
    by = counted(events, noun)
    first = reworded(
        f"By {by} the user {likes}", f"by {by} the user {likes}", f"judging by {by}, the user {likes}"
    )
    if disliked:
        first += " and " + fact(f"doesn't like {listed(disliked)}") + "."
    else:
        first += f", and {fact(f'dislikes no {field} clearly')}."
    return f"{first} {_lately(changed, noun)}"


def avoided(view: TasteView | None, titles: Sequence[str], field: str) -> str:
    """Format the categories and items that a user should not be shown."""
    names = [] if view is None else [one.name for one in view.disliked]
    if not names and not titles:
        return f"Nothing stands out that the user should not be shown: no {field} is disliked."
    parts = []
    if names:
        what = f"the {field if len(names) == 1 else plural(field)} {listed(names)}"
        parts.append(fact(what, listed(names)))
    if titles:
        parts.append(fact(f"{listed(titles)}, which others choose and this user would probably not like"))
    head = reworded(
        "Better not shown to the user:", "better not shown to the user are", "the user should not be shown"
    )
    return f"{head} {'; and '.join(parts)}."


def _lately(changed: tuple[ChangedShare | None, ChangedShare | None, int], noun: str) -> str:
    rose, fell, newest = changed
    if not newest:
        few = f"too few {plural(noun)} to say what changed lately"
        return f"{reworded(f'There are {few}', f'there are {few}')}."
    parts = [
        f"{'more' if more else 'less'} {one.name} ({one.newest:.0%} of the newest {newest}, {one.before:.0%} before)"
        for more, one in ((True, rose), (False, fell))
        if one is not None
    ]
    if not parts:
        among = f"among the newest {counted(newest, noun)}"
        same = "nothing differs clearly"
        said = f"{among} {same} from before"
        return f"{reworded(said[0].upper() + said[1:], said, f'{same} from before {among}')}."
    more = listed(parts)
    return f"{reworded(f'Lately there is {more}', f'lately there is {more}', f'the history has lately had {more}')}."


_YES_NO = {True: "Yes", False: "No"}


def _subject(*said: str) -> str:
    """Mark what is said about the user, in the words of the template and in others."""
    return reworded(
        f"The user {said[0]}", *(f"{who} {one}" for one in said for who in ("the user", "this user"))
    )


def _judged(yes: bool, likes: str, dislikes: str) -> str:
    """Mark a yes or a no with what it means."""
    answer, said = ("Yes", likes) if yes else ("No", dislikes)
    written = (
        f"{start}{who} {said}" for start in ("", f"{answer.lower()}, ") for who in ("the user", "this user")
    )
    return reworded(f"{answer}, the user {said}", *written)


def _with_chance(chance: float) -> str:
    return fact(f"with a chance of {chance:.0%}", f"with {_percent(chance)} chance")


def _percent(chance: float) -> str:
    """Format a chance with its article: "a 71%", "an 8%"."""
    said = f"{chance:.0%}"
    return f"{'an' if said[0] == '8' or said in ('11%', '18%') else 'a'} {said}"
