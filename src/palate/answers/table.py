"""Tables of answers for many users, written in parts, so that an interrupted job goes on, and joined at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from palate.answers.answerer import Answerer, AskedQuestion, WordedAnswer
from palate.errors import DataError, OutputError, QuestionError
from palate.system.files import check_writable, read_text, replacing, write_text
from palate.system.locks import locked

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

AT_ONCE = 64
"""Users whose histories are read together."""
A_PART = 1_024
"""Users of a part, the most whose answers an interruption loses."""
SUFFIXES = (".parquet", ".csv", ".jsonl")
SETTINGS = "settings.json"
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


def check_table(out: Path) -> None:
    """Check early that a table can be written.

    Raises:
        OutputError: There is a file already, the suffix is not known, or the folder cannot be written.
    """
    if out.suffix not in SUFFIXES:
        raise OutputError(f"{out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if out.exists():
        raise OutputError(f"{out} is there already; name a new file, or remove it first")
    check_writable(out.resolve().parent)


def write_answers(job: AnswerJob, out: Path, progress: Callable[[int, int], None]) -> int:
    """Write the answers to all questions about all users.

    Parts lie in a folder beside ``out`` until all are there; a job of the same settings goes on with them.

    Args:
        job: What to ask.
        out: The table: Parquet, CSV or JSON lines by its suffix.
        progress: Callback (done, total) with numbers of users.

    Returns:
        The number of rows.

    Raises:
        OutputError: The table cannot be written, or another process writes it.
        DataError: A history cannot be read.
    """
    parts = out.with_name(f"{out.name}.parts")
    with locked(out):
        check_table(out)
        _begin(parts, job.settings)
        total, files = len(job.user_ids), []
        for number, start in enumerate(range(0, total, A_PART)):
            users = job.user_ids[start : start + A_PART]
            files.append(parts / f"{number:06d}.parquet")
            if not files[-1].is_file():
                _write_part(job, users, files[-1], lambda done, start=start: progress(start + done, total))  # type: ignore[misc]
            progress(min(start + A_PART, total), total)
        rows = _joined(files, out)
        shutil.rmtree(parts)
    return rows


def _begin(parts: Path, settings: str) -> None:
    """Keep the parts of an interrupted job of the same settings, and remove those of another."""
    there = parts / SETTINGS
    if parts.exists() and (not there.is_file() or there.read_text(encoding="utf-8") != settings):
        shutil.rmtree(parts)
    if not parts.exists():
        parts.mkdir(parents=True)
        write_text(there, settings)


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


def _joined(files: list[Path], out: Path) -> int:
    """Join parts into the table; returns its number of rows."""
    with replacing(out) as partial:
        if out.suffix == ".parquet":
            pl.scan_parquet(files).sink_parquet(partial)
        else:
            with partial.open("wb") as file:
                for number, text in enumerate(_texts(files, out.suffix)):
                    file.write(text if number == 0 or out.suffix != ".csv" else text.split(b"\n", 1)[1])
    return int(pl.scan_parquet(files).select(pl.len()).collect().item())


def _texts(files: Sequence[Path], suffix: str) -> Iterator[bytes]:
    for file in files:
        table = pl.read_parquet(file)
        yield (table.write_csv() if suffix == ".csv" else table.write_ndjson()).encode()


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
