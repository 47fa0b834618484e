"""Start of the server: checks of settings, models and store, then uvicorn with one or several workers."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from palate.answers.writer import check_writer
from palate.errors import MismatchError, PalateError
from palate.model.config import is_decoder_only, model_settings
from palate.model.named import find_model
from palate.recommend.files import is_recommender, load_recommender, recommender_beside
from palate.runs.run import load_run, run_elsewhere
from palate.serve.connections import BACKLOG, GuardedProtocol
from palate.serve.keys import Keys
from palate.serve.metrics import FOLDER
from palate.serve.remote import EngineWriter
from palate.serve.replacing import check_replaces
from palate.serve.settings import EngineSettings, ServeSettings
from palate.serve.store.store import UserStore
from palate.system.device import describe_device, find_device
from palate.system.hub import is_hub_name
from palate.words import counted

if TYPE_CHECKING:
    from palate.model.record import TrainingRecord
    from palate.model.tables import Table
    from palate.recommend.recommender import Recommender

APPLICATION = "palate.serve.app:worker_app"


def serve(settings: ServeSettings, report: Callable[[str], None]) -> None:
    """Run the server until the process is stopped; pending requests are completed.

    Args:
        settings: Settings of the server.
        report: Receives progress lines and warnings.

    Raises:
        PalateError: The address cannot be bound or is reachable from other hosts without API keys; or a model, key
            file, store or engine cannot be used.
    """
    settings.check_host()
    settings = with_recommenders(_of_one_commit(settings))
    trained = _check_models(settings)
    if settings.previous is not None:
        _check_models(settings.of_previous)
        check_replaces(settings)
    if settings.key_file is not None and Keys(settings.key_file).readable_by_others:
        report(f"warning: everyone on this machine may read {settings.key_file}; chmod o-r it")
    device = find_device(settings.device)
    if settings.engine is not None:
        for one in (settings,) if settings.previous is None else (settings, settings.of_previous):
            report(_check_engine(one, settings.engine))
    listening = _listen(settings)
    UserStore(settings.store).close()
    name = settings.host.strip("[]")
    host = f"[{name}]" if ":" in name else name
    address = f"http://{host}:{listening.getsockname()[1]}"
    guard = "with API keys" if settings.key_file else "without API keys, so for this machine alone"
    report(f"serving on {address} {guard}; {address}/docs describes the API")
    report(f"computing on {describe_device(device)}")
    for warning in trained.warnings() if trained is not None else ():
        report(f"warning: {warning}")
    settings.to_environment()
    config = _config(settings)
    if settings.workers > 1:
        with tempfile.TemporaryDirectory(prefix="palate-metrics-") as folder:
            os.environ[FOLDER] = folder
            Multiprocess(config, [listening]).run()
        return
    # uvicorn re-raises the signal that stopped it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = uvicorn.Server(config)
    server.run([listening])
    if not server.started:
        raise PalateError("the server did not start; see the error above")


def _of_one_commit(settings: ServeSettings) -> ServeSettings:
    """Name runs of the hub by their folders in its cache, so that a worker that is started anew has the same ones."""
    fields = ("run", "recommender", "previous", "previous_recommender")
    named = {field: getattr(settings, field) for field in fields}
    found = {
        field: run_elsewhere(run) for field, run in named.items() if run is not None and is_hub_name(run)
    }
    called = settings.run.as_posix() if "run" in found else None
    return settings.model_copy(update={**found, "called": called})


def with_recommenders(settings: ServeSettings) -> ServeSettings:
    """Fill in the recommenders that were trained beside the runs, unless the settings name others."""
    found = {"recommender": settings.recommender or recommender_beside(settings.run)}
    if settings.previous is not None:
        named = settings.previous_recommender or recommender_beside(settings.previous)
        found["previous_recommender"] = named
    return settings.model_copy(update=found)


def _check_models(settings: ServeSettings) -> TrainingRecord | None:
    """Check that the models can be loaded and belong together; returns the language model's training record."""
    _refuse_engine(settings)
    if settings.writer is not None:
        own = None if is_recommender(settings.run) else model_settings(settings.run).backbone
        check_writer(settings.writer, own)
    if is_recommender(settings.run):
        if settings.recommender is not None or settings.backbone is not None:
            option = "--recommender" if settings.recommender is not None else "--backbone"
            raise MismatchError(
                f"{settings.run} is a recommender's run, with which {option} cannot be used; leave the option out, or "
                "give a language model's run as the first argument"
            )
        load_recommender(settings.run)
        return None
    named = find_model(settings.run, settings.backbone, settings.data)
    if settings.recommender is not None:
        recommender = load_recommender(settings.recommender)
        if load_run(settings.recommender).manifest.data_fingerprint != named.settings.data_fingerprint:
            _check_catalogues(settings, recommender, named.load("cpu").table)
    return named.settings.training


def _check_engine(settings: ServeSettings, engine: EngineSettings) -> str:
    """Check that the engine serves the run's backbone, by its log-probabilities; returns a line for the report."""
    named = find_model(settings.run, settings.backbone, settings.data)
    writer = EngineWriter(named.load("cpu"), engine, settings.limits)
    try:
        writer.check()
        found = writer.fingerprint()
    finally:
        writer.close()
    return (
        f"generating with the engine {engine.url}, model {writer.called!r}, whose log-probabilities differ by "
        f"{found.apart:.2g} from those of the run's backbone"
    )


def _refuse_engine(settings: ServeSettings) -> None:
    """Raise :class:`MismatchError` if there is an engine and the run's backbone is not decoder-only."""
    if settings.engine is None:
        return
    if is_recommender(settings.run):
        raise MismatchError(
            f"{settings.run} is a recommender's run, which generates no text; leave --engine out"
        )
    if not is_decoder_only(settings.run):
        raise MismatchError(
            f"the backbone of {settings.run} is an encoder-decoder, and engines accept prompt embeddings for "
            "decoder-only models alone; leave --engine out, or serve a run with a decoder-only backbone, such as the "
            "packaged model's adapter to Gemma:  palate train recipes/gemma3-270m-packaged.yaml"
        )


def _check_catalogues(settings: ServeSettings, recommender: Recommender, table: Table) -> None:
    """Raise :class:`MismatchError` unless both models have the same items and the same rating scale."""
    ours, theirs = set(table.item_ids), set(recommender.item_ids)
    if different := sorted(ours ^ theirs):
        where = settings.run if different[0] in ours else settings.recommender
        raise MismatchError(
            f"{settings.recommender} has another catalogue than {settings.run}: {counted(len(different), 'item')} in "
            f"only one of them, such as {different[0]!r} of {where}; train both on the same data"
        )
    scales = [
        [float(value) for value in one] for one in (table.rating_values, recommender.facts.rating_values)
    ]
    if scales[0] != scales[1]:
        raise MismatchError(
            f"{settings.recommender} has the rating scale {_scale(scales[1])}, {settings.run} {_scale(scales[0])}; "
            "train both on the same data"
        )


def _scale(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # without it, Nagle's algorithm and delayed acknowledgements may hold back the end of a response for 40 ms;
    # asyncio sets it only on connections of sockets that it created itself
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        listening.close()
        raise PalateError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); give another --port"
        ) from error
    listening.set_inheritable(True)
    return listening


def _config(settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        APPLICATION,
        factory=True,
        http=GuardedProtocol,
        ws="none",
        backlog=BACKLOG,
        workers=settings.workers,
        log_level="warning",
        access_log=False,  # its lines name users
        server_header=False,
        timeout_graceful_shutdown=int(settings.limits.seconds) + 1,
        timeout_worker_healthcheck=60,  # loading a model may keep a worker from answering
    )
