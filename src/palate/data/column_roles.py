"""Which column plays which part: named by the user, or guessed from common names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from string import Formatter

from palate.errors import DataError

_NAMES = {
    "user": "user_id user uid userid customer_id customer member_id visitor_id account_id reviewer_id profile_id",
    "item": "item_id item movie_id book_id product_id parent_asin asin isbn sku track_id song_id artist_id article_id "
    "news_id game_id recipe_id business_id content_id anime_id show_id video_id",
    "rating": "rating stars score overall review_score review_rating user_rating vote thumb thumbs liked",
    "weight": "weight count plays play_count playcount quantity views clicks purchases times hours",
    "time": "timestamp time ts datetime date event_time created_at updated_at unix_review_time review_time rated_at "
    "viewed_at purchased_at order_date date_added",
    "title": "title name item_title item_name movie_title book_title product_title product_name track_name song_title",
    "category": "genres genre categories category tags tag topics topic subjects subject shelves department "
    "main_category cuisines cuisine type",
    "description": "description plot overview synopsis summary abstract about blurb body content text movie_info",
    "year": "year release_year publication_year published_year original_publication_year",
}
"""Common names by role, the likeliest first."""


def find_column(role: str, given: str | None, columns: Sequence[str], place: str) -> str | None:
    """The column of a role: the one that is given, else the likeliest by its name, else none.

    Raises :class:`DataError` when the given one is not there.
    """
    if given is not None:
        if given not in columns:
            raise DataError(f"no column {given!r} for the {role}; {_hint(given, columns)}", place)
        return given
    plain = {_plain(name): name for name in reversed(columns)}
    return next((plain[_plain(name)] for name in _NAMES[role].split() if _plain(name) in plain), None)


def require_column(role: str, given: str | None, columns: Sequence[str], place: str) -> str:
    """:func:`find_column` for a role that must be there."""
    found = find_column(role, given, columns, place)
    if found is None:
        raise DataError(
            f"which column is the {role}? name it with --{role}-col; there are {_listed(columns)}", place
        )
    return found


def columns_of(template: str, columns: Sequence[str], place: str) -> list[str]:
    """The columns that a template like ``{name} by {author}`` names; raises :class:`DataError` for others."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"the template {template!r}: {error}; write a literal brace twice") from error
    names = [name for _, name, _, _ in parts if name is not None]
    for name, (_, _, spec, conversion) in zip(
        names, (part for part in parts if part[1] is not None), strict=True
    ):
        if name not in columns or spec or conversion:
            raise DataError(
                f"the template {template!r} names no column {name!r}; {_hint(name, columns)}", place
            )
    return names


def noun_of(column: str) -> str:
    """What a column's name calls one of its things: book_id is about a book, genres about a genre."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).replace("_", " ").replace("-", " ").lower().split()
    kept = [word for word in words if word not in ("id", "ids", "parent", "main")] or ["item"]
    noun = {"asin": "product", "sku": "product", "isbn": "book"}.get(kept[-1], kept[-1])
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is", "series")):
        return noun[:-1] if not noun.endswith(("sses", "xes", "ches")) else noun[:-2]
    return noun


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _hint(given: str, columns: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, columns, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {_listed(columns)}"


def _listed(columns: Iterable[str]) -> str:
    names = [repr(name) for name in columns]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
