"""Infers the user, item, rating, time and other columns from their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from string import Formatter

from palate.errors import DataError
from palate.words import singular

_NAMES = {
    "user": "user_id user uid userid customer_id customer member_id visitor_id account_id reviewer_id profile_id "
    "reviewer user_name username profile_name review_profilename user_mboxsha1 steam_id user_md5",
    "item": "item_id item movie_id book_id product_id parent_asin asin isbn sku track_id song_id artist_id article_id "
    "news_id game_id recipe_id business_id content_id anime_id show_id video_id app_id series_id album_id gmap_id "
    "beer_id venue_id place_id poi_id hotel_id restaurant_id location_id podcast_id episode_id course_id photo_id "
    "track_uri spotify_track_uri stock_code mal_id musicbrainz_artist_id art_id tra_id beer_beerid movie_md5",
    "rating": "rating stars score overall review_score review_rating user_rating my_rating my_score book_rating "
    "review_overall vote thumb thumbs liked is_recommended recommended voted_up",
    "weight": "weight count plays play_count playcount listen_count quantity qty views clicks purchases times hours "
    "hours_played playtime_forever ms_played",
    "time": "timestamp time ts datetime date event_time created_at updated_at unix_review_time review_time rated_at "
    "viewed_at purchased_at order_date date_added t_dat end_time",
    "title": "title name item_title item_name movie_title book_title product_title product_name track_name song_title "
    "prod_name artist_name art_name tra_name beer_name business_name game_title master_metadata_track_name "
    "original_title headline",
    "category": "genres genre categories category tags tag topics topic subjects subject shelves department "
    "main_category cuisines cuisine listed_in popular_shelves bookshelves keywords product_group_name "
    "product_type_name department_name aisle beer_style style type",
    "description": "description plot overview synopsis sypnopsis summary abstract about blurb body content text "
    "movie_info detail_desc",
    "event type": "event_type event action action_type activity_type behavior behavior_type behaviour behaviour_type "
    "interaction interaction_type feedback_type",
    "review": "review_text review review_body review_content comment text",
    "event id": "event_id",
    "deleted": "deleted is_deleted",
    "dwell": "dwell dwell_time dwell_seconds",
    "year": "year release_year publication_year published_year original_publication_year year_of_publication",
}
"""Common column names by role, likeliest first, collected from published datasets."""

_EVENT = (
    "order|event|review|rating|purchase|transaction|invoice|visit|click|check_?in|interaction|creation|post|comment|"
    "vote|action|activity|submission|server|request|log|sale|update|scrobble|buy|booking"
)
_DONE = (
    "created|updated|modified|ordered|purchased|bought|listened|watched|read|played|rated|viewed|reviewed|liked|"
    "clicked|visited|added|submitted|posted|logged|streamed|scrobbled|voted|consumed|checked_?in|downloaded|"
    "subscribed|completed|finished|started|interacted|inserted|occurred|recorded|cooked|eaten|seen|heard|borrowed|"
    "used|tried|sold|favou?rited|bookmarked|saved|shared"
)
_PATTERNS = {
    "time": (
        rf"(?:.*_)?(?:{_EVENT})_?(?:unix_?)?(?:timestamp|datetime|time|date|day|ts|dt)(?:_?(?:utc|ms|unix))?",
        rf"(?:.*_)?(?:{_DONE})_?(?:at|on|timestamp|datetime|date|utc|ts)(?:_?(?:utc|ms|unix))?",
        rf"(?:date|time|timestamp)_?(?:of_?)?(?:last_?)?(?:{_DONE}|{_EVENT})",
        r"(?:.*_)?(?:timestamp|datetime|unix_?time|epoch)(?:_.*)?",
        rf"(?:.*_)?last_?(?:mod|update|{_DONE})",
        r"created|updated|modified|ordered|purchased|bought|submitted|posted|scrobbled",
    ),
    "category": (
        r"(?:.*_)?(?:genres?|categor(?:y|ies)|tags?|topics?|cuisines?)(?:_?(?:list|names?|labels?|array|str|text))?",
    ),
}
"""Patterns of other names by role, likeliest first; words are separated by underscores."""
_NEVER = {
    "time": "released? publish(ed)? publication birth(day)? expir(y|ed|es)? deliver(y|ed)? due return(ed)? cancell?ed "
    "estimated scheduled zone timezone count number num hour dow prior duration since joined signup registration "
    "by is has was id",
    "category": "price age size count number num user by id is has",
}
"""Words by role that exclude a name: a release date is not an event's time."""


def find_column(role: str, given: str | None, columns: Sequence[str], place: str) -> str | None:
    """Find the column of a role: the given one, else the likeliest by name, else None.

    Raises:
        DataError: The given column does not exist.
    """
    if given is not None:
        if given not in columns:
            raise DataError(f"no column {given!r} for the {role}; {_hint(given, columns)}", place)
        return given
    plain = {_plain(name): name for name in reversed(columns)}
    known = next((plain[_plain(name)] for name in _NAMES[role].split() if _plain(name) in plain), None)
    return known or _by_pattern(role, columns)


def _by_pattern(role: str, columns: Sequence[str]) -> str | None:
    """Find the first column whose name matches the role's patterns."""
    never = re.compile("|".join(_NEVER.get(role, "").split()))
    names = {name: words for name in columns if not any(map(never.fullmatch, words := _words(name)))}
    for pattern in _PATTERNS.get(role, ()):
        for name, words in names.items():
            if re.fullmatch(pattern, "_".join(words)):
                return name
    return None


def require_column(role: str, given: str | None, columns: Sequence[str], place: str) -> str:
    """Find the column of a role as :func:`find_column`; raises :class:`DataError` if there is none."""
    found = find_column(role, given, columns, place)
    if found is None:
        raise DataError(
            f"which column is the {role}? name it with --{role}-col{_nearest(role, columns)}; "
            f"there are {_listed(columns)}",
            place,
        )
    return found


def columns_of(template: str, columns: Sequence[str], place: str) -> list[str]:
    """List the columns of a template like ``{name} by {author}``; raises :class:`DataError` for unknown ones."""
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
    """Infer the noun of a column's values from its name: book for book_id, tag for tag_list."""
    known = next(
        (name for names in _NAMES.values() for name in names.split() if _plain(name) == _plain(column)), None
    )
    words = _words(column if known is None else known)
    kept = [word for word in words if word not in _NOT_NOUNS.split()] or ["item"]
    noun = singular(kept[-1])
    return _NOUNS.get(noun, noun)


_NOT_NOUNS = (
    "id ids uri url key code no number num uuid md5 index idx parent main primary list lists array str text string "
    "name names title label labels in of"
)
"""Words in a column's name that are not the noun of its values."""
_NOUNS = {"asin": "product", "sku": "product", "stock": "product", "prod": "product", "isbn": "book"}
_NOUNS |= {"listed": "genre", "gmap": "place", "mal": "anime", "tra": "track", "art": "artist", "app": "app"}


def _words(name: str) -> list[str]:
    """Split a name such as unixReviewTime, Date Read or review-date into lower-case words."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[\W_]+", " ", parted.lower()).split()


def _plain(name: str) -> str:
    return "".join(_words(name))


def _nearest(role: str, columns: Sequence[str]) -> str:
    """List the columns whose names are most similar to the role's common ones."""
    plain = {_plain(name): name for name in columns}
    close = {
        plain[one]: None
        for known in _NAMES[role].split()
        for one in difflib.get_close_matches(_plain(known), plain, n=1, cutoff=0.75)
    }
    return f", perhaps {' or '.join(map(repr, [*close][:2]))}" if close else ""


def _hint(given: str, columns: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, columns, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {_listed(columns)}"


def _listed(columns: Iterable[str]) -> str:
    names = [repr(name) for name in columns]
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
