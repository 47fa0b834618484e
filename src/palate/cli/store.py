"""``palate store``: fill the users' store of a server, and save what it holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Argument, Option, Typer

from palate.cli.console import show, tell, watched
from palate.cli.options import option_at_home, paths_at_home
from palate.cli.serve import check_serve_extra
from palate.errors import PalateError

store_app = Typer(
    help="Fill the store of users that  palate serve  keeps, and save what it holds.", no_args_is_help=True
)

StoreOption: TypeAlias = Annotated[
    str | None,
    Option(
        envvar="PALATE_STORE",
        callback=option_at_home,
        help="The store: an SQLite file or a PostgreSQL URL; RUN/users.sqlite if not given.",
    ),
]


def load(
    data: Annotated[Path, Argument(metavar="DIR", help="The dataset: a folder that palate prepare wrote.")],
    run: Annotated[
        Path | None,
        Option(help="Run that is served: its catalogue must hold the dataset's, and its store is filled."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Add all events of a dataset's users to a store; run it again to go on after an interruption."""
    check_serve_extra()
    if store is None and run is None:
        raise PalateError("give the run that is served with --run, or the store itself with --store")
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
        f"{counted(loaded.users, 'user')}: {counted(loaded.new, 'new event')}, {loaded.known:,} that the store had "
        f"already, in {opened.database.name}"
    )


def save(
    out: Annotated[Path, Argument(metavar="DIR", help="New folder for events.jsonl and items.jsonl.")],
    run: Annotated[Path, Option(help="Run that is served, whose data has the items' texts.")],
    data: Annotated[Path | None, Option(help="That data; the run's own if not given.")] = None,
    store: StoreOption = None,
) -> None:
    """Write all users' events and all items as files for  palate prepare: the data of the next model."""
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


store_app.command("load")(paths_at_home(load))
store_app.command("save")(paths_at_home(save))
