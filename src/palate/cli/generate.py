"""``palate generate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json

if TYPE_CHECKING:
    from palate.schema import History, Item


def generate(
    run: Annotated[Path, Argument(help="The run's folder.")],
    user: Annotated[str | None, Option(help="A user of the data.")] = None,
    history: Annotated[Path | None, Option(help="A history: a JSON, JSON lines or CSV file.")] = None,
    instruction: Annotated[str | None, Option(help="What to ask, if not what was trained.")] = None,
    data: Annotated[Path | None, Option(help="Where the user is; the run's own data if not given.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the window that was read, too, as JSON.")] = False,
) -> None:
    """Ask a trained model about a user."""
    if (user is None) == (history is None):
        raise BadParameter("give either --user or --history")
    asked, new_items = _history(run, user, history, data)
    from palate.answer import answer

    given = answer(run, asked, new_items, instruction)
    if as_json:
        show_json(asdict(given))
    else:
        show(given.text)


def _history(run: Path, user: str | None, file: Path | None, data: Path | None) -> tuple[History, list[Item]]:
    if file is not None:
        from palate.data.history_file import read_history
        from palate.model.personalized import model_settings

        return read_history(file, model_settings(run).unrated)
    from palate.data.dataset import load_dataset
    from palate.runs import load_run

    dataset = load_dataset(data or load_run(run).recipe.data.path)
    return dataset.histories([str(user)])[0], []
