"""The commands ``palate recommend``, ``palate rate`` and ``palate choose``, which ask a trained recommender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell, watched
from palate.cli.options import EngineOption, WorkersOption
from palate.words import counted

if TYPE_CHECKING:
    from palate.recommend.recommender import ItemChoice, Ratings, Recommendations, Recommender
    from palate.recommend.table import ListSettings
    from palate.schema import History, Item
    from palate.system.engines import EngineName

RunOption: TypeAlias = Annotated[
    Path, Argument(metavar="RUN", help="Run folder of a recipe with a section recommend.")
]
UserOption: TypeAlias = Annotated[list[str] | None, Option(help="User id in the data; may be repeated.")]
UsersOption: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="FILE|all",
        help="Users of the data: a file with one id per line, or all. Prints one JSON object per line.",
    ),
]
HistoryOption: TypeAlias = Annotated[
    Path | None,
    Option(help="History of another user: a JSON, JSON lines or CSV file, which may be empty."),
]
DataOption: TypeAlias = Annotated[
    Path | None, Option(help="Dataset of the user; the run's own if not given.")
]
ItemsOption: TypeAlias = Annotated[
    list[str] | None, Option("--item", help="Item id in the catalogue; may be repeated.")
]
NewItemsOption: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--new-item",
        metavar="'TITLE | CATEGORY, CATEGORY | DESCRIPTION'",
        help="An item that is not in the catalogue, as text; may be repeated. Categories and description are "
        "optional; a JSON object with title, categories and description is accepted too.",
    ),
]
JsonOption: TypeAlias = Annotated[bool, Option("--json", help="Print the answer as JSON.")]
_Answer = TypeVar("_Answer", "Recommendations", "Ratings", "ItemChoice")
_AT_ONCE = 256
"""Batch size, in users."""
_NEWEST = 5
"""Number of items of the history that are shown below an answer."""


def recommend(
    run: RunOption,
    user: UserOption = None,
    users: UsersOption = None,
    history: HistoryOption = None,
    k: Annotated[int, Option("-k", min=1, help="Number of items.")] = 10,
    category: Annotated[
        list[str] | None,
        Option(help="Only items with this category; may be repeated, for items with any of them."),
    ] = None,
    since: Annotated[int | None, Option(metavar="YEAR", help="Only items of this year or later.")] = None,
    diversity: Annotated[
        float,
        Option(
            min=0, max=1, help="0 for the best items, up to 1 for items that differ from each other most."
        ),
    ] = 0.0,
    seen: Annotated[bool, Option("--seen", help="Also recommend items of the history.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
    everybody: Annotated[bool, Option("--all", help="All users of the data, as --users all.")] = False,
    out: Annotated[
        Path | None,
        Option(
            help="New file for a table of several users' recommendations, .parquet, .csv or .jsonl; run the command "
            "again to resume an interrupted job."
        ),
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = 1,
) -> None:
    """Recommend items of the catalogue to users."""
    from palate.recommend.table import ListSettings

    settings = ListSettings(k, seen, tuple(category or ()), since, diversity)
    if everybody:
        if users is not None:
            raise BadParameter("give one of --users and --all")
        users = "all"
    if out is not None:
        if users is None or user or history:
            raise BadParameter("a table needs --users FILE or --all", param_hint="'--out'")
        return _write_table(run, users, data, settings, out, engine, workers)
    ask = settings.ask

    def shown(recommender: Recommender, history: History, found: Recommendations) -> None:
        rows = [
            (str(place), item.item_id, item.title, f"{item.share:.2%}")
            for place, item in enumerate(found.items, start=1)
        ]
        if len(rows) < k:
            tell(f"only {len(rows)} of {k} items: no others are allowed by the options")
        head = ["", "id", recommender.facts.item_noun, "share"]
        _table(f"user {found.user_id}", head, rows, _rests_on(recommender, history))

    _answer(run, user, users, history, data, as_json, (), ask, shown)
    return None


def _write_table(
    run: Path,
    users: str,
    data: Path | None,
    settings: ListSettings,
    out: Path,
    engine: EngineName,
    workers: int,
) -> None:
    from palate.recommend.table import loaded_recommender, write_lists
    from palate.runs.run import run_elsewhere
    from palate.system.engines import shard_engine
    from palate.system.parted import check_table
    from palate.system.progress import counting_bar

    check_table(out)
    recommender, dataset = loaded_recommender(run_elsewhere(run), None if data is None else data.resolve())
    names = named_users(users, dataset.user_ids)
    settings.ask(
        recommender, dataset.histories(names[:1])
    )  # raises errors of the settings before the work starts
    with counting_bar("asking", watched()) as progress, shard_engine(engine, workers) as others:
        rows = write_lists(run, data, names, settings, out, others, progress)
    show(f"{counted(rows, 'item')} for {counted(len(names), 'user')} in {out}")


def rate(
    run: RunOption,
    item: ItemsOption = None,
    new_item: NewItemsOption = None,
    user: UserOption = None,
    users: UsersOption = None,
    history: HistoryOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict users' ratings of items."""
    item_ids, new = _candidates(item, new_item)

    def ask(recommender: Recommender, histories: Sequence[History]) -> list[Ratings]:
        return recommender.rate(histories, item_ids)

    def shown(recommender: Recommender, history: History, found: Ratings) -> None:
        rows = [
            (one.item_id, one.title, f"{one.rating:.2f} ± {one.sd:.2f}", f"{one.chance:.0%}")
            for one in found.items
        ]
        head = ["id", recommender.facts.item_noun, "rating", f"chance above {recommender.facts.like_above:g}"]
        _table(f"user {found.user_id}", head, rows, _rests_on(recommender, history))

    _answer(run, user, users, history, data, as_json, new, ask, shown)


def choose(
    run: RunOption,
    item: ItemsOption = None,
    new_item: NewItemsOption = None,
    user: UserOption = None,
    users: UsersOption = None,
    history: HistoryOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict which of several items users would choose."""
    item_ids, new = _candidates(item, new_item)

    def ask(recommender: Recommender, histories: Sequence[History]) -> list[ItemChoice]:
        return recommender.choose(histories, item_ids)

    def shown(recommender: Recommender, history: History, found: ItemChoice) -> None:
        ids = list(found.probabilities)
        titles = dict(zip(ids, recommender.titles(recommender.index_of(ids)), strict=True))
        rows = [
            (item_id, titles[item_id], f"{chance:.0%}")
            for item_id, chance in sorted(found.probabilities.items(), key=lambda pair: -pair[1])
        ]
        head = ["id", recommender.facts.item_noun, f"chance, by {found.by}"]
        title = f"user {found.user_id} would choose {titles[found.item_id]}"
        _table(title, head, rows, _rests_on(recommender, history))

    _answer(run, user, users, history, data, as_json, new, ask, shown)


def _answer(
    run: Path,
    user: list[str] | None,
    users: str | None,
    file: Path | None,
    data: Path | None,
    as_json: bool,
    new: Sequence[Item],
    ask: Callable[[Recommender, Sequence[History]], list[_Answer]],
    shown: Callable[[Recommender, History, _Answer], None],
) -> None:
    """Print the answer about one user, or one line of JSON for each of several users."""
    if sum(one is not None for one in (user or None, users, file)) != 1:
        raise BadParameter("give one of --user, --users and --history")
    from palate.recommend.files import load_recommender
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run
    from palate.system.progress import counting_bar

    recommender = load_recommender(run)
    if file is not None:
        return _show(*_someone_else(recommender, file, new), as_json, ask, shown)
    dataset = dataset_of(load_run(run), data)
    names = named_users(users, dataset.user_ids) if users is not None else list(dict.fromkeys(user or ()))
    for name in names:
        dataset.user_index(name)
    recommender = _with_items(recommender, new)
    if users is None and len(names) == 1:
        return _show(dataset.histories(names)[0], recommender, as_json, ask, shown)
    with counting_bar("asking", watched()) as progress:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            for one in ask(recommender, dataset.histories(some)):
                show_json(asdict(one), indent=None)
            progress(start + len(some), len(names))
    return None


def _show(
    history: History,
    recommender: Recommender,
    as_json: bool,
    ask: Callable[[Recommender, Sequence[History]], list[_Answer]],
    shown: Callable[[Recommender, History, _Answer], None],
) -> None:
    (found,) = ask(recommender, [history])
    if not found.personal:
        tell("the history is empty: this is the answer for the population")
    if as_json:
        show_json(asdict(found))
    else:
        shown(recommender, history, found)


def named_users(users: str, known: Sequence[str]) -> list[str]:
    """Return the user ids of ``--users``: all known ones, or those of a file."""
    from palate.errors import DataError, did_you_mean
    from palate.system.files import read_text

    if users == "all":
        return list(known)
    path, there = Path(users), set(known)
    lines = read_text(path, "no such file of users; give one with an id per line, or  all").splitlines()
    names = {name: number for number, line in enumerate(lines, 1) if (name := line.strip())}
    if not names:
        raise DataError("found no user ids, expected one per line", path)
    for name, number in names.items():
        if name not in there:
            raise DataError(f"no user {name!r} in the data{did_you_mean(name, known)}", path, number)
    return list(names)


def _someone_else(recommender: Recommender, file: Path, new: Sequence[Item]) -> tuple[History, Recommender]:
    """Read a history file, and add its new items and ``new`` to the recommender."""
    from palate.data.history_file import read_history
    from palate.errors import DataError

    history, unknown = read_history(file, recommender.facts.unrated, may_be_empty=True)
    known = set(recommender.item_ids)
    for one in unknown:
        if one.item_id in known:
            raise DataError(
                f"the new item {one.item_id!r} is in the catalogue already; leave its texts out", file
            )
    return history, _with_items(recommender, [*unknown, *new])


def _candidates(item: list[str] | None, new_item: list[str] | None) -> tuple[list[str], list[Item]]:
    """Return the ids of all candidate items, and the new items among them."""
    new = [_described(text) for text in new_item or ()]
    item_ids = [*(item or ()), *(one.item_id for one in new)]
    if not item_ids:
        raise BadParameter("give items with --item, or describe new ones with --new-item")
    return item_ids, new


def _described(text: str) -> Item:
    """Parse an item of ``--new-item``."""
    from palate.data.event_fields import FieldError
    from palate.data.given_history import described_item

    try:
        return described_item(text)
    except FieldError as error:
        raise FieldError(f"--new-item {text!r}: {error}") from None


def _with_items(recommender: Recommender, items: Sequence[Item]) -> Recommender:
    """Add new items, and report which of their categories and texts the recommender ignores."""
    from palate.errors import did_you_mean

    new = list(dict.fromkeys(items))
    known = recommender.facts.categories
    for name in dict.fromkeys(name for item in new for name in item.categories if name not in known):
        tell(
            f"{name!r} is not a category of {recommender.facts.name} and is ignored{did_you_mean(name, known)}"
        )
    if not recommender.content.reading:
        for item in new:
            if not set(item.categories) & set(known):
                tell(
                    f"{item.title!r} is scored without any information: this recommender reads no texts, and knows "
                    "none of its categories"
                )
    return recommender.with_items(new)


def _rests_on(recommender: Recommender, history: History) -> str:
    """Describe a history: its number of events, and the newest items."""
    newest = list(dict.fromkeys(history.item_ids[::-1]))[:_NEWEST]
    if not newest:
        return ""
    titles = recommender.titles(recommender.index_of(newest))
    return f"From {counted(len(history), 'event')}, the newest: {'; '.join(titles)}."


def _table(title: str, head: list[str], rows: Sequence[Sequence[str]], note: str) -> None:
    from palate.report.sheet import Sheet

    show_table(Sheet(title, head, rows, note))
