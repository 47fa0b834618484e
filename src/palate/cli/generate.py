"""The ``palate generate`` command: asks a trained model about a user."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import BadParameter, Option

from palate.cli.console import show, show_json, tell, tell_device
from palate.cli.options import UNREAD_TEXTS, BackboneOption, ConstrainedOption, DeviceOption, RunArgument

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import History, Item


def generate(
    run: RunArgument,
    user: Annotated[str | None, Option(help="User id in the data.")] = None,
    history: Annotated[Path | None, Option(help="A history: a JSON, JSON lines or CSV file.")] = None,
    instruction: Annotated[
        str | None,
        Option(
            help="A free-text question; the trained instruction if not given. With --free it is not rephrased."
        ),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    constrained: ConstrainedOption = None,
    data: Annotated[
        Path | None, Option(help="Dataset of the user, or of the packaged model; the run's own if not given.")
    ] = None,
    promise: Annotated[
        float | None,
        Option(min=0, max=1, metavar="F1", help="Abstain if the answer's expected F1 is lower."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the answer and the window as JSON.")] = False,
) -> None:
    """Ask a trained model about a user."""
    if (user is None) == (history is None):
        raise BadParameter("give either --user or --history")
    if instruction is not None and not instruction.strip():
        raise BadParameter("it is blank; give a question, or leave it out", param_hint="'--instruction'")
    asked, new_items, dataset = _history(run, user, history, data, backbone)
    from palate.model.answer import answer

    words = instruction
    if instruction is not None and promise is None and constrained is not False:
        words = _in_trained_words(run, instruction, asked.user_id, dataset, backbone)
    given = answer(run, asked, new_items, words, backbone, device, constrained, dataset, promise)
    tell_device(given.device)
    if as_json:
        show_json(asdict(given))
    else:
        show(given.text)


def _history(
    run: Path, user: str | None, file: Path | None, data: Path | None, backbone: str | None
) -> tuple[History, list[Item], Dataset | None]:
    """Read the history, its new items, and the dataset that a model without its own catalogue is bound to."""
    from palate.data.history_file import read_history
    from palate.model.named import find_model
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run

    source = load_run(run) if file is None and data is None else None
    named = find_model(run, backbone, data)
    if file is not None:
        given, items = read_history(file, named.settings.unrated)
        if given.texts and not named.settings.event_texts:
            tell(UNREAD_TEXTS)
        return given, items, named.dataset
    dataset = named.dataset or dataset_of(source, data)
    return dataset.histories([str(user)])[0], [], named.dataset


def _in_trained_words(
    run: Path, instruction: str, user_id: str, dataset: Dataset | None, backbone: str | None
) -> str:
    """Rephrase a free-text question in a wording that models are trained on; raises an error if it matches none."""
    from palate.answers.answerer import Answerer
    from palate.answers.load import question_matcher
    from palate.answers.trained import TRAINED, in_trained_words
    from palate.config.registry import tasks
    from palate.model.named import find_model
    from palate.model.wording import check_instruction
    from palate.tasks.category_preference import CategoryPreference
    from palate.tasks.questions import recognised

    settings = find_model(run, backbone, dataset).settings
    check_instruction(run, settings, instruction, backbone)
    names, field = settings.categories, settings.category_field
    if tasks.find(settings.task.kind).build is not CategoryPreference:
        return instruction  # other tasks define their own questions
    if instruction == settings.instruction or recognised(instruction, names, field).kind is not None:
        return instruction
    asked = Answerer(None, question_matcher, names, field).matched(
        instruction, user_id=user_id, known=TRAINED
    )
    tell(f"the question is understood as {asked.meaning} ({asked.kind}, probability {asked.probability:.0%})")
    return in_trained_words(asked, names, field).text
