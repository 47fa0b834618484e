"""The ``palate serve`` command: starts the HTTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import tell
from palate.cli.options import BackboneOption, DeviceOption, WriterOption, option_at_home


def serve(
    run: Annotated[
        Path,
        Argument(
            metavar="RUN",
            help="Run folder of a language model, or of a recommender only, or  packaged  for the model that comes "
            "with palate.",
        ),
    ],
    store: Annotated[
        str | None,
        Option(
            envvar="PALATE_STORE",
            callback=option_at_home,
            help="User store: an SQLite file or a PostgreSQL URL; RUN/users.sqlite if not given, DATA/users.sqlite "
            "for the packaged model.",
        ),
    ] = None,
    recommender: Annotated[
        Path | None,
        Option(
            help="Run of a recommender to serve with a language model, trained on the same data; the one trained with "
            "the language model if not given."
        ),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    writer: WriterOption = None,
    data: Annotated[
        Path | None,
        Option(
            help="Dataset, for titles, the label rule and the packaged model; the run's own if not given."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        Option(
            metavar="URL",
            help="URL of an inference engine that serves the run's backbone and generates the answers, such as vLLM "
            "with --enable-prompt-embeds; its API key, if any, is read from PALATE_ENGINE_KEY.",
        ),
    ] = None,
    engine_model: Annotated[
        str | None, Option(help="Name of the model on the engine, if it serves several.")
    ] = None,
    previous: Annotated[
        Path | None,
        Option(
            metavar="OLD",
            help="Run that was served on this store before: it answers until all users are encoded for RUN, and can "
            "be switched back to.",
        ),
    ] = None,
    previous_recommender: Annotated[
        Path | None,
        Option(
            metavar="OLD2",
            help="Run of the recommender served with OLD; the one trained with OLD if not given.",
        ),
    ] = None,
    host: Annotated[
        str, Option(help="Address to listen on; one that other machines can reach needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="TCP port; 0 for any free one.")] = 8000,
    workers: Annotated[int, Option(min=1, help="Number of worker processes, each with its own model.")] = 1,
    api_key_file: Annotated[
        Path | None,
        Option(
            help="File with one API key per line, each optionally followed by  read-only  or  admin, rate=60  "
            "(requests a minute) and  name=shop."
        ),
    ] = None,
    retention: Annotated[
        float | None,
        Option(
            metavar="DAYS",
            min=1,
            help="Age in days above which events are deleted, within an hour, and refused; unlimited if not given.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="Limit to change, such as seconds=60; may be repeated."),
    ] = None,
    log_content: Annotated[
        bool, Option("--log-content", help="Write user ids and instructions to the log.")
    ] = False,
) -> None:
    """Start the HTTP server, which stores users' events, answers questions about users and recommends items.

    Options may also be set by environment variables, such as PALATE_SERVE_HOST for --host. The variable of a
    repeatable option holds its values separated by blanks.
    """
    check_serve_extra()
    from palate.serve.settings import ServeSettings, default_store, read_engine, read_limits

    settings = ServeSettings(
        run=run,
        recommender=recommender,
        store=store or default_store(run, data),
        backbone=backbone,
        device=device,
        writer=writer,
        data=data,
        engine=read_engine(engine, engine_model),
        previous=previous,
        previous_recommender=previous_recommender,
        host=host,
        port=port,
        workers=workers,
        key_file=api_key_file,
        retention_days=retention,
        log_content=log_content,
        limits=read_limits(limit or ()),
    )
    settings.check_host()  # before slow imports
    from palate.serve.run import serve as start

    start(settings, tell)


def check_serve_extra() -> None:
    """Raise :class:`palate.errors.MissingExtraError` unless the packages of the extra ``serve`` are installed."""
    from palate.system.extras import missing_extra, missing_modules

    if missing := missing_modules("serve"):
        raise missing_extra(f"a server needs {missing[0]}", "serve")
