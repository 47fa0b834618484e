"""The ``palate store`` commands: bulk loading, export and retention of a server's user store."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Argument, Option, Typer

from palate.cli.console import show, show_json, tell, watched
from palate.cli.options import option_at_home, paths_at_home
from palate.cli.serve import check_serve_extra
from palate.errors import PalateError

if TYPE_CHECKING:
    from palate.serve.store.store import UserStore

store_app = Typer(
    help="Fill the user store of  palate serve, export its content, and delete old events.",
    no_args_is_help=True,
)

StoreOption: TypeAlias = Annotated[
    str | None,
    Option(
        envvar="PALATE_STORE",
        callback=option_at_home,
        help="User store: an SQLite file or a PostgreSQL URL; RUN/users.sqlite if not given.",
    ),
]


def load(
    data: Annotated[Path, Argument(metavar="DIR", help="Dataset folder, as written by palate prepare.")],
    run: Annotated[
        Path | None,
        Option(
            help="Served run, whose catalogue must contain the dataset's items, and whose store is filled."
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Add all events of a dataset's users to a store; run it again to resume an interrupted load."""
    check_serve_extra()
    if store is None and run is None:
        raise PalateError("give the served run with --run, or the store with --store")
    from palate.data.dataset import load_dataset
    from palate.serve.loading import check_same_catalogue, check_times, load_users
    from palate.serve.settings import default_store
    from palate.serve.store.store import UserStore
    from palate.system.progress import counting_bar
    from palate.words import counted

    dataset = load_dataset(data)
    check_times(dataset)
    if run is not None:
        check_same_catalogue(run, dataset)
        store = store or default_store(run, data)
    assert store is not None
    opened, started = UserStore(store), time.monotonic()
    try:
        with counting_bar("loading events", watched()) as progress:
            loaded = load_users(dataset, opened, progress)
    finally:
        opened.close()
    tell(f"{time.monotonic() - started:.1f} s")
    show(
        f"{counted(loaded.users, 'user')}: {counted(loaded.new, 'new event')}, {loaded.known:,} that were already "
        f"stored, in {opened.database.name}"
    )


def save(
    out: Annotated[Path, Argument(metavar="DIR", help="New folder for events.jsonl and items.jsonl.")],
    run: Annotated[Path, Option(help="Served run, whose dataset has the items' texts.")],
    data: Annotated[Path | None, Option(help="Dataset of the run; the run's own if not given.")] = None,
    store: StoreOption = None,
) -> None:
    """Write all users' events and all items as files for  palate prepare, to train the next model on."""
    check_serve_extra()
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run
    from palate.serve.saving import save_users
    from palate.serve.settings import default_store
    from palate.serve.store.store import UserStore
    from palate.system.files import check_fresh
    from palate.system.progress import counting_bar
    from palate.words import counted

    check_fresh(out)
    dataset = dataset_of(load_run(run), data)
    opened = UserStore(store or default_store(run, data), dataset.info.repeats)
    try:
        with counting_bar("saving users", watched()) as progress:
            saved = save_users(opened, dataset, out, progress)
    finally:
        opened.close()
    tell(f"{counted(saved.users, 'user')}: {counted(saved.events, 'event')}, {counted(saved.items, 'item')}")
    show(str(out))


def forget(
    older_than: Annotated[
        float,
        Option(
            metavar="DAYS", min=1, help="Age in days, by the events' times, above which events are deleted."
        ),
    ],
    run: Annotated[
        Path | None, Option(help="Served run; deleted users are also removed from its exports.")
    ] = None,
    data: Annotated[Path | None, Option(help="Dataset of the packaged model.")] = None,
    store: StoreOption = None,
) -> None:
    """Delete all events above an age, and users without remaining events, as DELETE /users/{user_id} does."""
    opened = _open(run, data, store)
    from palate.export.noted import forget_in_exports
    from palate.words import counted

    try:
        found = opened.delete_older(older_than)
    finally:
        opened.close()
    _, left = forget_in_exports([] if run is None else [(run, data)], found.gone)
    for folder in left:
        tell(f"warning: {folder} still holds users who were deleted; make it writable and export again")
    if found.gone and run is None:
        tell("exports were not changed; give the run with --run to remove deleted users from its exports")
    show(
        f"deleted {counted(found.events, 'event')} of {counted(found.users, 'user')}, and {len(found.gone):,} of "
        "these users, who had no other events"
    )


def trim(
    runs: Annotated[
        list[Path],
        Argument(metavar="RUN...", help="Runs that are still served, with their recommenders."),
    ],
    data: Annotated[Path | None, Option(help="Dataset of the packaged model.")] = None,
    store: StoreOption = None,
) -> None:
    """Delete cached prompts and states of all models but those of the given runs; events stay as they are."""
    opened = _open(runs[0], data, store)
    from palate.serve.run import with_recommenders
    from palate.serve.service import identities
    from palate.serve.settings import ServeSettings
    from palate.words import counted

    try:
        served = [
            with_recommenders(ServeSettings(run=run, store="", device="cpu", data=data)) for run in runs
        ]
        found = opened.trim(set().union(*map(identities, served)))
    finally:
        opened.close()
    show(f"deleted {counted(found, 'encoding')} of other models, in {opened.database.name}")


def deletions(
    run: Annotated[Path | None, Option(help="Served run, whose store is read.")] = None,
    data: Annotated[Path | None, Option(help="Dataset of the packaged model.")] = None,
    store: StoreOption = None,
    user: Annotated[str | None, Option(help="Only deletions of this user, who may be deleted.")] = None,
) -> None:
    """Print the deletion log, one JSON object per line: time, counts, API key, and a digest of the user's id."""
    opened = _open(run, data, store)
    try:
        after = 0
        while page := opened.deletions(after, user_id=user):
            for one in page:
                show_json(asdict(one), indent=None)
            after = page[-1].number
    finally:
        opened.close()


def _open(run: Path | None, data: Path | None, store: str | None) -> UserStore:
    """Open an existing store, given by its name or by the served run."""
    check_serve_extra()
    from palate.serve.settings import default_store
    from palate.serve.store.store import UserStore

    if store is None and run is None:
        raise PalateError("give the served run with --run, or the store with --store")
    name = store if run is None or store else default_store(run, data)
    assert name is not None
    if "://" not in name and not Path(name).is_file():
        raise PalateError(f"{name}: no such store; name the one that  palate serve  was started with")
    return UserStore(name)


store_app.command("load")(paths_at_home(load))
store_app.command("save")(paths_at_home(save))
store_app.command("forget")(paths_at_home(forget))
store_app.command("trim")(paths_at_home(trim))
store_app.command("deletions")(paths_at_home(deletions))
