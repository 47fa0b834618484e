"""``palate ask``."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell, watched
from palate.cli.own_files import RuleOption, reads_own_files

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.evidence import EvidencedAnswer
    from palate.schema import History, Item


@reads_own_files
def ask(
    events: Annotated[
        list[str],
        Argument(
            metavar="EVENTS...",
            help="Event files: CSV, JSON lines, Parquet; or a MovieLens release, or a folder or zip of one.",
        ),
    ],
    user: Annotated[list[str] | None, Option(help="A user of the events; may be repeated.")] = None,
    history: Annotated[
        Path | None, Option(help="A history of someone else: a JSON, JSON lines or CSV file.")
    ] = None,
    question: Annotated[
        str | None, Option(help="The question; what the user likes and dislikes if not given.")
    ] = None,
    own: Any = None,
    run: Annotated[
        Path,
        Option(help="The run's folder of a model whose weights know no catalogue, if not palate's own."),
    ] = Path("packaged"),
    save: Annotated[
        Path | None, Option(help="Also write the dataset to this new folder, as palate prepare does.")
    ] = None,
    rule: RuleOption = "thresholds",
    as_json: Annotated[bool, Option("--json", help="Print answers and evidence as JSON.")] = False,
) -> None:
    """Answer from event files at once: read them, summarise everybody in them, and ask about a user."""
    if not user and history is None:
        raise BadParameter("give --user, --history or both")
    if question is not None and not question.strip():
        raise BadParameter("it is blank; say what to ask, or leave it out", param_hint="'--question'")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # small matrices, which threads only delay
        os.environ.setdefault(threads, "1")
    Thread(target=import_module, args=("palate.model.model",), daemon=True).start()  # while files are read
    from palate.data.prepare import read_dataset

    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        tell(line)

    _check(run, history, save)
    dataset = read_dataset(events, own, save, rule, note, watched())
    asked, new_items = _histories(dataset, list(dict.fromkeys(user or [])), history)
    answers = _answers(run, _held_out(dataset, user or [], note), asked, new_items, question)
    if as_json:
        info = dataset.info.model_dump(
            mode="json",
            include={"name", "users", "items", "interactions", "rating_values", "categories", "feedback"},
        )
        show_json({"data": info, "said": said, "answers": [asdict(one) for one in answers]})
        return
    for answer in answers:
        _show(answer, dataset)


def _check(run: Path, history: Path | None, save: Path | None) -> None:
    """Check what can be checked before the events are read."""
    from palate.data.history_file import check_history
    from palate.errors import MismatchError
    from palate.model.config import check_model
    from palate.system.files import check_fresh, check_writable

    if not check_model(run).binds:
        raise MismatchError(f"the weights of {run} are of one catalogue; ask it with  palate generate {run}")
    if history is not None:
        check_history(history)
    if save is not None:
        check_fresh(save)
        check_writable(save.resolve().parent)


def _histories(dataset: Dataset, users: list[str], file: Path | None) -> tuple[list[History], list[Item]]:
    from palate.data.history_file import read_history

    histories: list[History] = dataset.histories(users)
    items: list[Item] = []
    if file is not None:
        given, items = read_history(file, dataset.info.unrated)
        histories.append(given)
    return histories, items


def _held_out(dataset: Dataset, users: list[str], note: Any) -> Dataset:
    """Leave the users who are asked about out of the population."""
    import numpy as np

    from palate.data.label_rules import with_label_statistics

    asked = np.unique([dataset.user_index(user) for user in users]).astype(np.int64)
    if len(asked) == len(dataset.user_ids):
        note("warning: no one else is in the events, so that nothing is known of others")
        asked = asked[:0]
    return with_label_statistics(dataset.holding_out(asked))


def _answers(
    run: Path, dataset: Dataset, histories: list[History], new_items: list[Item], question: str | None
) -> list[EvidencedAnswer]:
    from palate.model.evidence import evidenced_answers
    from palate.model.model import load_model
    from palate.model.wording import check_instruction
    from palate.tasks import load_task

    model = load_model(run, device="cpu")
    if question is not None:
        check_instruction(run, model.settings.over(dataset.info), question)
    lengths = [len(history) for history in histories]
    model = model.bind(dataset, model.summarised(dataset, near=lengths)).with_items(new_items)
    info = dataset.info.model_copy(update={"categories": model.settings.categories})
    return evidenced_answers(model, histories, load_task(model.settings.task, info), question)


def _show(answer: EvidencedAnswer, dataset: Dataset) -> None:
    from palate.report.sheet import Sheet

    rated = "rating" if dataset.info.feedback == "ratings" else "interaction"
    show(answer.text)
    rows = [
        (
            one.name,
            half,
            f"{one.count:,}",
            "–" if one.mean is None else f"{one.mean:.2f}",
            f"{one.chance:.0%}",
        )
        for half, named in (("liked", answer.liked), ("disliked", answer.disliked))
        for one in named
    ]
    if rows:
        mean = "mean rating" if rated == "rating" else "mean weight"
        head = [dataset.info.category_field, "", f"{rated}s", mean, "chance"]
        show_table(Sheet(f"user {answer.user_id}: {answer.interactions:,} {rated}s read", head, rows))
