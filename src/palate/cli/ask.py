"""The ``palate ask`` command: answers a question about a user from event files, without training."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell, watched
from palate.cli.options import UNREAD_TEXTS, WriterOption
from palate.cli.own_files import RuleOption, reads_own_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palate.answers.answerer import WordedAnswer
    from palate.data.dataset import Dataset
    from palate.model.evidence import EvidencedAnswer
    from palate.model.model import PersonalizedModel
    from palate.schema import History, Item


@reads_own_files
def ask(
    events: Annotated[
        list[str],
        Argument(
            metavar="EVENTS...",
            help="Event files (CSV, JSON lines, Parquet); or a MovieLens release by name, folder or zip; "
            "or  example  for a made-up shop that comes with palate.",
        ),
    ],
    user: Annotated[list[str] | None, Option(help="User id in the events; may be repeated.")] = None,
    history: Annotated[
        Path | None, Option(help="History of another user: a JSON, JSON lines or CSV file.")
    ] = None,
    question: Annotated[
        str | None,
        Option(help="A free-text question; what the user likes and dislikes if not given."),
    ] = None,
    own: Any = None,
    run: Annotated[
        Path,
        Option(help="Run folder of a model without its own catalogue; palate's packaged model if not given."),
    ] = Path("packaged"),
    recommender: Annotated[
        Path | None,
        Option(
            metavar="RUN",
            help="Run of a recommender on the same data, for questions about items; fitted on the fly if not given.",
        ),
    ] = None,
    writer: WriterOption = None,
    save: Annotated[
        Path | None, Option(help="New folder to write the dataset to, as palate prepare does.")
    ] = None,
    rule: RuleOption = "thresholds",
    as_json: Annotated[bool, Option("--json", help="Print answers and evidence as JSON.")] = False,
) -> None:
    """Answer a question about a user directly from event files: read them, summarise all users, and answer."""
    if not user and history is None:
        raise BadParameter("give --user, --history or both")
    if question is not None and not question.strip():
        raise BadParameter("it is blank; give a question, or leave it out", param_hint="'--question'")
    if writer is not None and question is None:
        raise BadParameter("it writes answers to questions; give --question, too", param_hint="'--writer'")
    for threads in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    ):  # threads slow down operations on small matrices
        os.environ.setdefault(threads, "1")
    importing = Thread(target=import_module, args=("palate.model.model",), daemon=True)
    importing.start()  # while files are read
    if writer is not None:
        importing.join()  # the check of the writer imports transformers, too, which fails in two threads at once
    from palate.answers.answerer import WordedAnswer
    from palate.cli.worded import show_worded
    from palate.data.prepare import read_dataset

    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        tell(line)

    _check(run, history, save, writer)
    dataset = read_dataset(events, own, save, rule, note, watched())
    asked, new_items = _histories(dataset, list(dict.fromkeys(user or [])), history, note)
    others = _held_out(dataset, user or [], note)
    answers: Sequence[EvidencedAnswer | WordedAnswer]
    if question is None:
        model = _bound(run, others, asked).with_items(new_items)
        answers = _evidenced(model, others, asked, None)
    else:
        answers = _answers(run, others, asked, new_items, question, recommender, writer, note)
    if as_json:
        info = dataset.info.model_dump(
            mode="json",
            include={"name", "users", "items", "interactions", "rating_values", "categories", "feedback"},
        )
        show_json({"data": info, "said": said, "answers": [asdict(one) for one in answers]})
        return
    for answer in answers:
        if isinstance(answer, WordedAnswer):
            show_worded(answer)
        else:
            _show(answer, dataset)


def _check(run: Path, history: Path | None, save: Path | None, writer: str | None) -> None:
    """Check the run, the history, the output folder and the writer before the events are read."""
    from palate.data.history_file import check_history
    from palate.errors import MismatchError
    from palate.model.config import check_model
    from palate.system.files import check_fresh, check_writable

    settings = check_model(run)
    if not settings.binds:
        raise MismatchError(
            f"{run} was trained on one catalogue and cannot be bound to other data; use  palate generate {run}"
        )
    if history is not None:
        check_history(history)
    if save is not None:
        check_fresh(save)
        check_writable(save.resolve().parent)
    if writer is not None:
        from palate.answers.writer import check_writer

        check_writer(writer, settings.backbone)


def _histories(
    dataset: Dataset, users: list[str], file: Path | None, note: Callable[[str], None]
) -> tuple[list[History], list[Item]]:
    from palate.data.history_file import read_history

    histories: list[History] = dataset.histories(users)
    items: list[Item] = []
    if file is not None:
        given, items = read_history(file, dataset.info.unrated)
        if given.texts:
            note(UNREAD_TEXTS)
        histories.append(given)
    return histories, items


def _held_out(dataset: Dataset, users: list[str], note: Any) -> Dataset:
    """Exclude the users of the question from the population summary."""
    import numpy as np

    from palate.data.label_rules import with_label_statistics

    asked = np.unique([dataset.user_index(user) for user in users]).astype(np.int64)
    if len(asked) == len(dataset.user_ids):
        note("warning: the events have no other users, so that the population summary is of these users")
        asked = asked[:0]
    return with_label_statistics(dataset.holding_out(asked))


def _bound(run: Path, dataset: Dataset, histories: list[History]) -> PersonalizedModel:
    """Load the model and bind it to the dataset, with a summary for histories of these lengths."""
    from palate.model.model import load_model

    model = load_model(run, device="cpu")
    return model.bind(dataset, model.summarised(dataset, near=[len(history) for history in histories]))


def _evidenced(
    model: PersonalizedModel, dataset: Dataset, histories: list[History], question: str | None
) -> list[EvidencedAnswer]:
    from palate.model.evidence import evidenced_answers
    from palate.tasks import load_task

    info = dataset.info.model_copy(update={"categories": model.settings.categories})
    return evidenced_answers(model, histories, load_task(model.settings.task, info), question)


def _answers(
    run: Path,
    dataset: Dataset,
    histories: list[History],
    new_items: list[Item],
    question: str,
    recommender_run: Path | None,
    writer: str | None,
    note: Callable[[str], None],
) -> Sequence[EvidencedAnswer | WordedAnswer]:
    """Answer a free-text question: with the language model if the answer names categories, else from scores."""
    from dataclasses import replace

    from palate.answers.load import answerer_of
    from palate.config.recipe import ItemSettings
    from palate.recommend.files import load_recommender
    from palate.recommend.fit import fit_recommender
    from palate.recommend.train import quick_settings
    from palate.tasks.wordings import NAMING, WORDINGS
    from palate.words import counted, plural

    recommender = None if recommender_run is None else load_recommender(recommender_run)
    model = _bound(run, dataset, histories).with_items(new_items)
    answerer = answerer_of(model, recommender, items=dataset.items)
    user_id = histories[0].user_id if len(histories) == 1 else None
    asked = answerer.matched(question, user_id=user_id)
    note(f"the question is understood as {asked.meaning} ({asked.kind}, probability {asked.probability:.0%})")
    if asked.kind in NAMING:
        wording = WORDINGS[asked.kind].trained[0].format(fields=plural(model.settings.category_field))
        return [replace(one, question=question) for one in _evidenced(model, dataset, histories, wording)]
    writing = None
    if writer is not None:
        from palate.answers.writer import load_writer

        writing = load_writer(writer, "cpu", model)
    if recommender is None and answerer.needs_recommender(asked.kind):
        note(
            f"fitting a recommender to {counted(dataset.info.interactions, 'event')}; use a trained one with "
            "--recommender RUN"
        )
        recommender = fit_recommender(dataset, dataset.users("train"), quick_settings(), ItemSettings())
    scores = None if recommender is None else recommender.with_items(new_items)
    answerer = answerer_of(model, scores, writer=writing)
    answerer.check_kind(asked.kind)
    return answerer.answer_each(answerer.known(histories, [asked.kind]), asked)


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
