"""Tables of answers for many users, written in parts, so that an interrupted job goes on, and joined at the end."""

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
from palate.system.parted import run_parts, write_parted_table

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.system.engines import ShardEngine

AT_ONCE = 64
"""Users whose histories are read together."""
A_PART = 1_024
"""Users of a part, the most whose answers an interruption loses."""
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
"""Columns of the table; chances and reasons are JSON."""


@dataclass(frozen=True)
class AnsweringRuns:
    """What answers, by its paths: for processes that load it themselves."""

    run: Path
    recommender: Path | None
    data: Path | None
    device: str

    @lru_cache(maxsize=1)  # noqa: B019 - a process answers from one
    def loaded(self) -> tuple[Answerer, Dataset]:
        """Load the answerer, and the dataset of the users."""
        from palate.answers.load import load_answerer
        from palate.runs.data import dataset_of
        from palate.runs.run import load_run

        dataset = dataset_of(load_run(self.run) if self.data is None else None, self.data)
        return load_answerer(self.run, self.recommender, data=dataset, device=self.device), dataset


@dataclass(frozen=True)
class AnswerPart:
    """A part of a table of answers, for a process that loads what answers."""

    source: AnsweringRuns
    user_ids: tuple[str, ...]
    asked: tuple[AskedQuestion, ...]
    k: int
    file: Path

    @property
    def done(self) -> bool:
        """Whether the part is there."""
        return self.file.is_file()

    def run(self) -> int:
        """Write the part; returns its number of users."""
        if not self.done:
            job = AnswerJob(*self.source.loaded(), self.user_ids, self.asked, self.k, "")
            _write_part(job, self.user_ids, self.file, lambda done: None)
        return len(self.user_ids)


@dataclass(frozen=True)
class AnswerJob:
    """What a table is made of."""

    answerer: Answerer
    dataset: Dataset
    user_ids: Sequence[str]
    asked: Sequence[AskedQuestion]
    k: int
    identity: str
    """Tells apart what answers: paths of runs and digests of what they hold."""

    @property
    def settings(self) -> str:
        """What an interrupted table must have in common with this one to be gone on with."""
        users = hashlib.sha256("\n".join(self.user_ids).encode()).hexdigest()
        asked = [asdict(one) for one in self.asked]
        data = self.dataset.info.fingerprint
        made = {"answers": self.identity, "data": data, "users": users, "asked": asked, "k": self.k}
        return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


def read_questions(path: Path, answerer: Answerer) -> list[AskedQuestion]:
    """Read and match the questions of a file.

    Args:
        path: A question a line; or in a file .jsonl an object a line, of ``question`` and perhaps ``item_ids`` and
            ``categories``.
        answerer: Matches them.

    Returns:
        The questions.

    Raises:
        DataError: The file cannot be read, or a line is no question or of no kind that can be answered.
    """
    lines = read_text(path, "no such file of questions; give one with a question a line").splitlines()
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
        raise DataError("no question; expected one a line", path)
    return found


def write_answers(
    job: AnswerJob,
    out: Path,
    progress: Callable[[int, int], None],
    engine: ShardEngine | None = None,
    runs: AnsweringRuns | None = None,
) -> int:
    """Write the answers to all questions about all users.

    Parts lie in a folder beside ``out`` until all are there; a job of the same settings goes on with them.

    Args:
        job: What to ask.
        out: The table: Parquet, CSV or JSON lines by its suffix.
        progress: Callback (done, total) with numbers of users.
        engine: Writes the parts by processes of its own; this process does if None.
        runs: What they load, which the job's answerer is of.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or another process writes it.
        DataError: A history cannot be read.
    """
    total = len(job.user_ids)

    def write(place: Path) -> list[Path]:
        starts = range(0, total, A_PART)
        files = [place / f"{number:06d}.parquet" for number in range(len(starts))]
        if engine is not None and runs is not None:
            each = zip(starts, files, strict=True)
            users = ((tuple(job.user_ids[start : start + A_PART]), file) for start, file in each)
            parts = [AnswerPart(runs, some, tuple(job.asked), job.k, file) for some, file in users]
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
            raise ValueError("expected an object with a question")
        if wrong := [name for name, value in found.items() if not isinstance(value, wanted.get(name, ()))]:
            raise ValueError(f"{wrong[0]!r} is not expected so; there are question, item_ids and categories")
    except ValueError as error:
        raise DataError(str(error), path, number) from None
    return found
