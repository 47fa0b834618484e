"""``palate serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.console import tell
from palate.cli.options import BackboneOption, DeviceOption, option_at_home


def serve(
    run: Annotated[
        Path,
        Argument(
            metavar="RUN",
            help="The run's folder, of a language model or of a recommender alone, or  packaged  for the model that "
            "comes with palate.",
        ),
    ],
    store: Annotated[
        str | None,
        Option(
            envvar="PALATE_STORE",
            callback=option_at_home,
            help="The users: an SQLite file or a PostgreSQL URL; RUN/users.sqlite if not given, DATA/users.sqlite for "
            "the packaged model.",
        ),
    ] = None,
    recommender: Annotated[
        Path | None,
        Option(
            help="Run of a recommender to serve beside a language model, trained on the same data; the one that was "
            "trained with it if not given."
        ),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    data: Annotated[
        Path | None,
        Option(help="The dataset, for titles, the rule and the packaged model; the run's own if not given."),
    ] = None,
    engine: Annotated[
        str | None,
        Option(
            metavar="URL",
            help="An engine that generates, such as vLLM with --enable-prompt-embeds, that serves the run's backbone; "
            "its key, if it has one, in PALATE_ENGINE_KEY.",
        ),
    ] = None,
    engine_model: Annotated[
        str | None, Option(help="What the engine calls the model, where it serves several.")
    ] = None,
    previous: Annotated[
        Path | None,
        Option(
            metavar="OLD",
            help="Run that was served on this store: it answers until all users are prepared for RUN, and can again.",
        ),
    ] = None,
    previous_recommender: Annotated[
        Path | None, Option(metavar="OLD2", help="Run of the recommender beside OLD.")
    ] = None,
    host: Annotated[str, Option(help="Address; one that other hosts can reach needs keys.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    workers: Annotated[int, Option(min=1, help="Worker processes, each with its own model.")] = 1,
    api_key_file: Annotated[
        Path | None,
        Option(
            help="File with an API key a line; behind it may stand  read-only, rate=60  (requests a minute) and  "
            "name=shop."
        ),
    ] = None,
    retention: Annotated[
        float | None,
        Option(
            metavar="DAYS",
            min=1,
            help="Age above which events are deleted, within an hour, and refused; kept for ever if not given.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None, Option(metavar="NAME=VALUE", help="Change a limit; may be repeated.")
    ] = None,
    log_content: Annotated[
        bool, Option("--log-content", help="Write users' ids and instructions to the log.")
    ] = False,
) -> None:
    """Keep users' events, and answer about them and recommend to them over HTTP.

    Whatever is not given on the command line is read from the environment: PALATE_SERVE_HOST is --host, and so on.
    Options that may be repeated have their values there with blanks in between.
    """
    check_serve_extra()
    from palate.serve.settings import ServeSettings, default_store, read_engine, read_limits

    settings = ServeSettings(
        run=run,
        recommender=recommender,
        store=store or default_store(run, data),
        backbone=backbone,
        device=device,
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
    settings.check_host()  # before what takes seconds to import
    from palate.serve.run import serve as start

    start(settings, tell)


def check_serve_extra() -> None:
    """Raise :class:`palate.errors.MissingExtraError` unless what the server and its store need is installed."""
    from palate.system.extras import missing_extra, missing_modules

    if missing := missing_modules("serve"):
        raise missing_extra(f"a server needs {missing[0]}", "serve")
