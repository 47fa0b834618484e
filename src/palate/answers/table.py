"""Tables of answers for many users, written in parts, so that an interrupted job resumes, and joined at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from palate.answers.answerer import Answerer, AskedQuestion, WordedAnswer
from palate.errors import DataError, QuestionError
from palate.system.files import read_text, replacing
from palate.system.parted import TablePart, run_parts, write_parted_table

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.system.engines import ShardEngine

AT_ONCE = 64
"""Batch size, in users."""
A_PART = 1_024
"""Number of users per part; an interruption loses at most one part per process."""
COLUMNS = {
    "user_id": pl.String,
    "question": pl.String,
    "kind": pl.String,
    "match": pl.Float64,
    "text": pl.String,
    "source": pl.String,
    "by": pl.String,
    "personal": pl.Boolean,
    "chances": pl.String,
    "reasons": pl.String,
}
"""Columns of the table; ``chances`` and ``reasons`` hold JSON."""


@dataclass(frozen=True)
class AnsweringRuns:
    """Paths of an answerer's runs and data, from which worker processes load it."""

    run: Path
    recommender: Path | None
    data: Path | None
    device: str
    writer: str | None = None
    """Name of the model that writes the sentences; None for templates."""

    @lru_cache(maxsize=1)  # noqa: B019 - one instance per process
    def loaded(self) -> tuple[Answerer, Dataset]:
        """Load the answerer, and the dataset of the users."""
        from palate.answers.load import load_answerer
        from palate.runs.data import dataset_of
        from palate.runs.run import load_run

        dataset = dataset_of(load_run(self.run) if self.data is None else None, self.data)
        answerer = load_answerer(
            self.run, self.recommender, data=dataset, device=self.device, writer=self.writer
        )
        return answerer, dataset


@dataclass(frozen=True, kw_only=True)
class AnswerPart(TablePart):
    """Task of a worker process: a part of a table of answers."""

    source: AnsweringRuns
    asked: tuple[AskedQuestion, ...]
    k: int

    def run(self) -> int:
        """Write the part unless it exists; returns its number of users."""
        if not self.done:
            job = AnswerJob(*self.source.loaded(), self.user_ids, self.asked, self.k, "")
            _write_part(job, self.user_ids, self.file, lambda done: None)
        return len(self.user_ids)


@dataclass(frozen=True)
class AnswerJob:
    """Content of a table of answers: the answerer, the users and the questions."""

    answerer: Answerer
    dataset: Dataset
    user_ids: Sequence[str]
    asked: Sequence[AskedQuestion]
    k: int
    identity: str
    """Identity of the answerer: paths and digests of its runs, and of the model that writes."""

    @property
    def settings(self) -> str:
        """Settings as JSON; an interrupted job with the same settings is resumed."""
        users = hashlib.sha256("\n".join(self.user_ids).encode()).hexdigest()
        asked = [asdict(one) for one in self.asked]
        data = self.dataset.info.fingerprint
        made = {"answers": self.identity, "data": data, "users": users, "asked": asked, "k": self.k}
        return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


def read_questions(path: Path, answerer: Answerer) -> list[AskedQuestion]:
    """Read and match the questions of a file.

    Args:
        path: File with one question per line; or as .jsonl one object per line with ``question`` and optionally
            ``item_ids`` and ``categories``.
        answerer: Matches the questions.

    Returns:
        The questions.

    Raises:
        DataError: The file cannot be read, or a line is invalid or of a kind that cannot be answered.
    """
    lines = read_text(path, "no such file of questions; give one with a question per line").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        asked = _read_question(path, number, line) if path.suffix == ".jsonl" else {"question": line.strip()}
        try:
            found.append(answerer.ask(**asked))
        except (QuestionError, DataError) as error:
            raise DataError(str(error), path, number) from None
    if not found:
        raise DataError("found no question, expected one per line", path)
    return found


def write_answers(
    job: AnswerJob,
    out: Path,
    progress: Callable[[int, int], None],
    engine: ShardEngine | None = None,
    runs: AnsweringRuns | None = None,
) -> int:
    """Write the answers to all questions about all users.

    Parts are kept in a folder next to ``out`` until all are complete; a job with the same settings resumes with them.

    Args:
        job: The answerer, users and questions.
        out: File of the table: Parquet, CSV or JSON lines by its suffix.
        progress: Called with the number of users done and their total.
        engine: Runs the parts in worker processes; None for this process.
        runs: Paths from which worker processes load the job's answerer; required with ``engine``.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or is being written by another process.
        DataError: A history is invalid.
    """
    total = len(job.user_ids)

    def write(place: Path) -> list[Path]:
        starts = range(0, total, A_PART)
        files = [place / f"{number:06d}.parquet" for number in range(len(starts))]
        if engine is not None and runs is not None:
            each = zip(starts, files, strict=True)
            users = ((tuple(job.user_ids[start : start + A_PART]), file) for start, file in each)
            parts = [
                AnswerPart(source=runs, user_ids=some, asked=tuple(job.asked), k=job.k, file=file)
                for some, file in users
            ]
            run_parts(engine, parts, total, progress)
        for start, file in zip(starts, files, strict=True):
            some = job.user_ids[start : start + A_PART]
            if not file.is_file():
                _write_part(job, some, file, lambda done, start=start: progress(start + done, total))  # type: ignore[misc]
            progress(start + len(some), total)
        return files

    return write_parted_table(out, job.settings, write)


def _write_part(job: AnswerJob, users: Sequence[str], file: Path, progress: Callable[[int], None]) -> None:
    rows: list[tuple[object, ...]] = []
    for start in range(0, len(users), AT_ONCE):
        some = users[start : start + AT_ONCE]
        known = job.answerer.known(job.dataset.histories(some), {one.kind for one in job.asked})
        each = [job.answerer.answer_each(known, asked, job.k, explained=1) for asked in job.asked]
        rows += [_row(answer) for of_user in zip(*each, strict=True) for answer in of_user]
        progress(start + len(some))
    table = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    with replacing(file) as partial:
        table.write_parquet(partial)


def _row(answer: WordedAnswer) -> tuple[object, ...]:
    chances, reasons = (
        json.dumps([asdict(one) for one in some], ensure_ascii=False)
        for some in (answer.chances, answer.reasons)
    )
    return (
        answer.user_id,
        answer.question,
        answer.kind,
        answer.match,
        answer.text,
        answer.source,
        answer.by,
        answer.personal,
        chances,
        reasons,
    )


def _read_question(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
        wanted = {"question": str, "item_ids": list, "categories": list}
        if not isinstance(found, dict) or not isinstance(found.get("question"), str):
            raise ValueError("expected an object with a text question")
        if wrong := [name for name, value in found.items() if not isinstance(value, wanted.get(name, ()))]:
            raise ValueError(
                f"unknown or invalid field {wrong[0]!r}, expected question (text), item_ids and categories (lists)"
            )
    except ValueError as error:
        raise DataError(str(error), path, number) from None
    return found
