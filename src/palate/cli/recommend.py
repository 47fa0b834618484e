"""``palate recommend``, ``palate rate`` and ``palate choose``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell

if TYPE_CHECKING:
    from palate.recommend.recommender import Recommender
    from palate.schema import History

RunOption: TypeAlias = Annotated[
    Path, Argument(metavar="RUN", help="The run's folder of a recipe with a section recommend.")
]
UserOption: TypeAlias = Annotated[str | None, Option(help="A user of the data.")]
HistoryOption: TypeAlias = Annotated[
    Path | None, Option(help="A history: a JSON, JSON lines or CSV file, which may be empty.")
]
DataOption: TypeAlias = Annotated[
    Path | None, Option(help="Dataset of the user; the run's own if not given.")
]
ItemsOption: TypeAlias = Annotated[list[str], Option("--item", help="An item's id; may be repeated.")]
JsonOption: TypeAlias = Annotated[bool, Option("--json", help="Print the answer as JSON.")]


def recommend(
    run: RunOption,
    user: UserOption = None,
    history: HistoryOption = None,
    k: Annotated[int, Option("-k", min=1, help="Number of items.")] = 10,
    category: Annotated[
        list[str] | None, Option(help="Only items with this category; may be repeated, for any of them.")
    ] = None,
    since: Annotated[int | None, Option(metavar="YEAR", help="Only items of this year or later.")] = None,
    diversity: Annotated[
        float, Option(min=0, max=1, help="From 0, the best items, to 1, items unlike each other.")
    ] = 0.0,
    seen: Annotated[bool, Option("--seen", help="Also items of the history.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend items of the catalogue to a user."""
    recommender, asked = _asked(run, user, history, data)
    (found,) = recommender.recommend(
        [asked], k, seen=seen, categories=category or (), since=since, diversity=diversity
    )
    _say_personal(found.personal)
    if as_json:
        show_json(asdict(found))
        return
    rows = [
        (str(place), item.item_id, item.title, f"{item.share:.2%}")
        for place, item in enumerate(found.items, start=1)
    ]
    _table(f"user {found.user_id}", ["", "id", recommender.facts.item_noun, "share"], rows)


def rate(
    run: RunOption,
    item: ItemsOption,
    user: UserOption = None,
    history: HistoryOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict a user's ratings of items."""
    recommender, asked = _asked(run, user, history, data)
    (found,) = recommender.rate([asked], item)
    _say_personal(found.personal)
    if as_json:
        show_json(asdict(found))
        return
    rows = [
        (one.item_id, one.title, f"{one.rating:.2f} ± {one.sd:.2f}", f"{one.chance:.0%}")
        for one in found.items
    ]
    _table(f"user {found.user_id}", ["id", recommender.facts.item_noun, "rating", "chance of a like"], rows)


def choose(
    run: RunOption,
    item: ItemsOption,
    user: UserOption = None,
    history: HistoryOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which of several items a user would choose."""
    recommender, asked = _asked(run, user, history, data)
    (found,) = recommender.choose([asked], item)
    _say_personal(found.personal)
    if as_json:
        show_json(asdict(found))
    else:
        show(f"{found.item_id} ({found.probabilities[found.item_id]:.0%}, by {found.by})")


def _asked(run: Path, user: str | None, file: Path | None, data: Path | None) -> tuple[Recommender, History]:
    """Load the recommender and the history that is asked about."""
    if (user is None) == (file is None):
        raise BadParameter("give either --user or --history")
    from palate.data.history_file import read_history
    from palate.errors import DataError
    from palate.recommend.files import load_recommender
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run

    recommender = load_recommender(run)
    if file is None:
        return recommender, dataset_of(load_run(run), data).histories([str(user)])[0]
    history, new_items = read_history(file, recommender.facts.unrated)
    if new_items:
        raise DataError(
            f"the item {new_items[0].item_id!r} is given as text; a recommender reads items of its catalogue only",
            file,
        )
    return recommender, history


def _say_personal(personal: bool) -> None:
    if not personal:
        tell("the history is empty: this is the answer for the population")


def _table(title: str, head: list[str], rows: Sequence[Sequence[str]]) -> None:
    from palate.report.sheet import Sheet

    show_table(Sheet(title, head, rows))
