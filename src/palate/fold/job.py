"""The fold job: builds user states from event logs, resumes after an interruption, and extends an earlier fold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from palate.data.tabular.csv_files import CsvOptions
from palate.data.tabular.files import RowFiles, find_row_files
from palate.data.tabular.settings import OwnData
from palate.errors import MismatchError, PalateError
from palate.fold.log import LogColumns, LogFile, LogValues, find_log_columns
from palate.fold.manifest import (
    FOLD_MANIFEST,
    FoldedModel,
    FoldManifest,
    log_digest,
    read_fold_manifest,
)
from palate.fold.state_builder import StateBuilder
from palate.fold.state_files import BlockRecord
from palate.fold.tasks import BUILDER, DONE, LAST_EVENTS, SCALE, STATES, BlockTask, ReadTask
from palate.model.named import find_model
from palate.recommend.files import is_recommender
from palate.system.engines import EngineName, Result, ShardTask, shard_engine
from palate.system.files import check_fresh, check_writable, fresh_folder, sha256_of, write_bytes, write_text
from palate.system.machine import package_versions
from palate.words import counted

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.config import PersonalizedSettings
    from palate.system.engines import ShardEngine

_BYTES_A_BLOCK = 32 << 20
_MOST_BLOCKS = 4096
_JOB = "job.json"
_EVERYTHING: OwnData = OwnData()


@dataclass(frozen=True)
class FoldOptions:
    """Options for reading and folding a log.

    Attributes:
        own: Columns and format of the files; inferred from their names if not given.
        event_id: Column of event ids; if None, ``event_id`` if it exists. Without ids, rows with equal content are one
            event.
        deleted: Column that is true in rows that delete a user's earlier events with an item; if None, ``deleted`` if
            it exists.
        blocks: Number of blocks of users; by the size of the files if None. Must be None if an earlier fold is
            extended.
        engine: Engine that runs the tasks.
        workers: Number of processes; one per CPU if None.
    """

    own: OwnData = _EVERYTHING
    event_id: str | None = None
    deleted: str | None = None
    blocks: int | None = None
    engine: EngineName = "local"
    workers: int | None = None


def fold_log(
    events: Sequence[str | Path],
    run: Path | str,
    out: Path | str,
    options: FoldOptions | None = None,
    *,
    previous: Path | str | None = None,
    data: Dataset | Path | None = None,
    backbone: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FoldManifest:
    """Build the states of all users in event files, in a new folder.

    Per user and item, only the latest event counts, unless the model's data keeps repeated events. The result depends
    on the events alone: not on their order, the number of files, workers or blocks, or the split between an earlier
    fold and this one. An interrupted fold resumes at the files and blocks that are not complete.

    Args:
        events: Event files, by name or glob.
        run: The run whose states are computed, or ``packaged``.
        out: The new folder.
        options: Options for reading the files and running the tasks.
        previous: Folder of an earlier fold to add the events to.
        data: Dataset that a catalogue-free model is bound to.
        backbone: Folder of a backbone that is not saved with the model, if it has moved.
        say: Called with status messages.
        progress: Called with the number of completed tasks and their total.

    Returns:
        The manifest.

    Raises:
        DataError: A file cannot be read.
        MismatchError: The model has no state, the run is a recommender's, or the earlier fold is of another kind.
        OutputError: The folder exists and is not empty, or the disk is full.
        MissingExtraError: The engine is not installed.
    """
    options = options or FoldOptions()
    out = Path(out)
    check_fresh(out)
    check_writable(out.resolve().parent)
    own = options.own
    files = find_row_files(
        list(events), CsvOptions(own.columns or (), (), own.quotes), own.skip_bad_rows, own.format
    )
    earlier = None if previous is None else read_fold_manifest(Path(previous))
    if is_recommender(run):
        raise MismatchError(
            f"{run} is a recommender's run, which has no user states; expected a language model's run with a "
            "'streaming' or 'universal' user encoder. For lists for all users:  palate recommend RUN --all;  for the "
            "users of a server:  palate store load"
        )
    named = find_model(run, backbone, data)
    settings = named.settings
    columns = find_log_columns(files, own, settings.feedback, options.event_id, options.deleted, say)
    _check_columns(files, columns)
    say("events: " + ", ".join(f"{part} {name}" for part, name in columns.by_role.items()))
    from palate.fold.projections import builder_of

    model = named.load("cpu")
    builder, reader = builder_of(model), _reader(model)
    described = FoldedModel(
        run=str(run),
        encoder=settings.user_encoder.kind,
        items=len(builder.item_ids),
        builder=f"sha256:{hashlib.sha256(builder.to_bytes()).hexdigest()}",
        reader=reader,
        repeats=settings.repeats,
    )
    if earlier is not None:
        _check_earlier(Path(previous or ""), earlier, described, options.blocks)
    blocks = len(earlier.blocks) if earlier is not None else options.blocks or _blocks_for(files)
    with fresh_folder(out, resumable=True) as work, shard_engine(options.engine, options.workers) as engine:
        work = work.resolve()
        before = None if previous is None else Path(previous).resolve()
        job = _Job(work, files, columns, blocks, settings.repeats, before, described)
        _begin(job, builder, settings)
        logs, records = job.done_by(engine, say, progress)
        every = (*logs, *(() if earlier is None else earlier.logs))
        known = {one.sha256: one for one in reversed(every)}
        manifest = FoldManifest(
            made=datetime.now(timezone.utc).replace(microsecond=0),
            versions=package_versions(),
            model=described,
            parts=_part_versions(builder),
            logs=tuple(sorted(known.values(), key=lambda one: one.sha256)),
            log_digest=log_digest(every),
            blocks=tuple(records),
        )
        write_text(work / FOLD_MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        shutil.rmtree(work / "log", ignore_errors=True)
        (work / _JOB).unlink()
    return manifest


@dataclass(frozen=True, eq=False)
class _Job:
    work: Path
    files: RowFiles
    columns: LogColumns
    blocks: int
    repeats: bool
    previous: Path | None
    model: FoldedModel

    @property
    def settings(self) -> str:
        """JSON of all inputs; an interrupted fold is resumed only if they are equal."""
        files = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files.paths
        ]
        before = None if self.previous is None else sha256_of(self.previous / FOLD_MANIFEST)
        made = {
            "files": files,
            "columns": asdict(self.columns),
            "csv": asdict(self.files.csv),
            "format": self.files.format,
            "skip_bad_rows": self.files.skip_bad_rows,
            "blocks": self.blocks,
            "previous": before,
            "model": self.model.model_dump(),
        }
        return json.dumps(made, indent=2, sort_keys=True) + "\n"

    def done_by(
        self, engine: ShardEngine, say: Callable[[str], None], progress: Callable[[int, int], None]
    ) -> tuple[list[LogFile], list[BlockRecord]]:
        """Run the tasks: partition the files, then fold the blocks."""
        reading = [
            ReadTask(self.work, number, replace(self.files, paths=(path,)), self.columns, self.blocks)
            for number, path in enumerate(self.files.paths)
        ]
        folding = [BlockTask(self.work, number, self.repeats, self.previous) for number in range(self.blocks)]
        total = len(reading) + len(folding)
        begun = sum(one.done for one in reading) + sum(one.done for one in folding)
        if begun:
            say(f"resuming: {begun:,} of {total:,} files and blocks are done")
        _all_of(engine, reading, lambda done: progress(done, total))
        logs = [one.run() for one in reading]
        for name, advice in (
            ("unknown_items", "their items are not in the model's catalogue"),
            ("bad_rows", "their rows cannot be read"),
        ):
            if left_out := sum(getattr(one, name) for one in logs):
                say(f"skipped {counted(left_out, 'event')}: {advice}")
        _all_of(engine, folding, lambda done: progress(len(reading) + done, total))
        return logs, [one.run() for one in folding]


def _all_of(engine: ShardEngine, tasks: Sequence[ShardTask[Result]], report: Callable[[int], None]) -> None:
    left = [one for one in tasks if not one.done]
    done = len(tasks) - len(left)
    report(done)
    for _ in engine.run(left):
        done += 1
        report(done)


def _begin(job: _Job, builder: StateBuilder, settings: PersonalizedSettings) -> None:
    """Prepare the work folder: keep the results of an interrupted fold with equal settings, else delete them."""
    there, text = job.work / _JOB, job.settings
    if there.is_file() and there.read_text(encoding="utf-8") == text:
        return
    for path in job.work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in (STATES, LAST_EVENTS, DONE, "log"):
        (job.work / name).mkdir()
    write_bytes(job.work / BUILDER, builder.to_bytes())
    write_text(job.work / SCALE, LogValues(event_types=settings.event_types).model_dump_json() + "\n")
    write_text(there, text)


def _check_columns(files: RowFiles, columns: LogColumns) -> None:
    """Raise :class:`DataError` for a file that lacks a column, before any file is read."""
    next(iter(files.batches(list(dict.fromkeys(columns.by_role.values())))), None)


def _check_earlier(folder: Path, earlier: FoldManifest, now: FoldedModel, blocks: int | None) -> None:
    if blocks not in (None, len(earlier.blocks)):
        raise PalateError(
            f"{folder} has {len(earlier.blocks)} blocks, which cannot be changed; leave --blocks out"
        )
    if earlier.model.encoder != now.encoder or earlier.model.repeats != now.repeats:
        raise MismatchError(
            f"{folder} holds states of a {earlier.model.encoder!r} user encoder"
            f"{', with repeated events' if earlier.model.repeats else ''}, and {now.run} has a {now.encoder!r} one"
            f"{', with repeated events' if now.repeats else ''}; fold the whole log without --previous"
        )


def _blocks_for(files: RowFiles) -> int:
    """Choose the number of blocks by file size, so that a block fits in a worker's memory."""
    size = sum(path.stat().st_size * (1 if path.suffix in _PLAIN else 5) for path in files.paths)
    return min(max(-(-size // _BYTES_A_BLOCK), 1), _MOST_BLOCKS)


_PLAIN = {".csv", ".tsv", ".txt", ".dat", ".data", ".json", ".jsonl", ".ndjson"}


def _reader(model: object) -> str | None:
    encoder = model.user_encoder  # type: ignore[attr-defined]
    latent = getattr(encoder, "latent", encoder)
    return None if latent is None else str(latent.reader.identity())


def _part_versions(builder: StateBuilder) -> dict[str, int]:
    from palate.encoders.history_parts import VERSIONS

    return {part: VERSIONS[part] for part in builder.parts}
