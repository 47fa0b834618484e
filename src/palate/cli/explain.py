"""The ``palate explain`` command: explanations by a trained PEPLER, P5 or POD."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, BadParameter, Option

from palate.cli.console import show, show_json, show_table, tell
from palate.cli.options import DeviceOption
from palate.errors import MismatchError

if TYPE_CHECKING:
    from palate.generative.pepler_answers import WrittenExplanation
    from palate.ranking.explanations import HeldOutScores


def explain(
    run: Annotated[
        Path, Argument(metavar="RUN", help="Run folder of a recipe with a section pepler or generative.")
    ],
    user: Annotated[str | None, Option(help="User id in the run's data.")] = None,
    item: Annotated[list[str] | None, Option(help="Item id in the run's data; may be repeated.")] = None,
    history: Annotated[
        Path | None,
        Option(
            help="History of a user outside the training data: a JSON, JSON lines or CSV file, whose events may have "
            "a text; for runs with pepler.newcomer_steps."
        ),
    ] = None,
    held_out: Annotated[
        Literal["dev", "test"] | None,
        Option(help="Explain the held-out interactions instead, and score the texts and predicted ratings."),
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="File for the explanations of held-out interactions, one JSON object per line."),
    ] = None,
    data: Annotated[Path | None, Option(help="The run's dataset, if it has moved.")] = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Explain why a user would like or dislike an item, in the style of reviews, with a trained PEPLER, P5 or POD."""
    asked = [name for name in (held_out, user, history) if name is not None]
    if len(asked) != 1 or (held_out is None) == (not item):
        raise BadParameter("give --user or --history with --item, or --held-out test", param_hint="'--user'")
    if out is not None and held_out is None:
        raise BadParameter("it is an option of --held-out; leave it out", param_hint="'--out'")
    from palate.runs.run import load_run

    if load_run(run).recipe.generative is not None:
        _by_ids(run, user, item or [], held_out, out, data, as_json)
        return
    from palate.generative.pepler_files import load_pepler
    from palate.system.device import find_device

    trained = load_pepler(run)
    trained.model.to(find_device(device))
    if held_out is None:
        from palate.data.history_file import read_history
        from palate.generative.pepler_answers import explain_items

        who = read_history(history)[0] if history is not None else str(user)
        _show_answers(explain_items(trained, who, item or []), as_json)
        return
    from palate.ranking.explanations import score_held_out

    _show_scores(score_held_out(trained, run, held_out, data), held_out, out, as_json)


def _by_ids(
    run: Path,
    user: str | None,
    items: list[str],
    held_out: Literal["dev", "test"] | None,
    out: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Explain or score by a P5 or POD."""
    from palate.generative.files import load_generative
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run

    if held_out == "dev":
        raise BadParameter(
            "P5 and POD are scored on test alone; take --held-out test", param_hint="'--held-out'"
        )
    if user is None and held_out is None:
        raise BadParameter(
            "P5 and POD explain to users of whom they have learned; give --user", param_hint="'--history'"
        )
    folder = load_run(run)
    recommender, dataset = load_generative(run), dataset_of(folder, data)
    if dataset.info.fingerprint != folder.manifest.data_fingerprint:
        raise MismatchError(
            f"{run} was trained on other data than {dataset.path}; name the dataset that it was trained on with --data"
        )
    if user is not None:
        from palate.generative.p5_answers import explain_by_ids

        _show_answers(explain_by_ids(recommender, dataset, user, items), as_json)
        return
    from palate.ranking.generative_texts import score_generative_texts

    found = score_generative_texts(recommender, folder.recipe, dataset)
    _show_scores(found, "test", out, as_json)


def _show_answers(answers: list[WrittenExplanation], as_json: bool) -> None:
    if as_json:
        show_json([one.model_dump(mode="json", exclude_none=True) for one in answers])
        return
    for one in answers:
        rating = "" if one.rating is None else f" ({one.rating:.1f})"
        show(f"{one.item_id}{rating}: {one.text}")


def _show_scores(
    found: HeldOutScores, held_out: Literal["dev", "test"], out: Path | None, as_json: bool
) -> None:
    from palate.ranking.explanation_tables import pepler_sheet
    from palate.system.files import write_json_lines

    if out is not None:
        write_json_lines(out, found.answers)
        tell(f"written: {out}")
    if as_json:
        show_json([one.model_dump(mode="json") for one in found.scores])
    else:
        show_table(
            pepler_sheet(found.scores, f"{found.data}: {len(found.answers):,} {held_out} interactions")
        )
