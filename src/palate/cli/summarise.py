"""The ``palate summarise`` command: binds a model without its own catalogue to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import BadParameter, Option

from palate.cli.console import show, tell
from palate.cli.options import RunArgument


def summarise(
    run: RunArgument,
    data: Annotated[Path, Option(help="Dataset whose training users are summarised.")],
    out: Annotated[
        Path | None,
        Option(
            help="New folder for the model with the summary, usable as a run; RUN is changed if not given."
        ),
    ] = None,
    bare: Annotated[
        bool,
        Option("--bare", help="Do not calibrate the decisions on these users' labels."),
    ] = False,
) -> None:
    """Bind a model without its own catalogue to a dataset, by a summary of its training users."""
    from palate.errors import MismatchError
    from palate.runs.run import run_folder

    if out is None and not run_folder(run).keeps:
        raise BadParameter(f"{run} cannot be changed; give a new folder", param_hint="'--out'")
    from palate.data.dataset import load_dataset
    from palate.model.config import POPULATION, check_model, model_folder
    from palate.system.files import check_fresh, check_writable

    settings = check_model(run)
    if not settings.binds:
        kind = settings.user_encoder.kind
        raise MismatchError(
            f"{run} has a {kind!r} user encoder, which reads no population summary; give a model with a universal one"
        )
    if out is not None:
        check_fresh(out)
    check_writable((out or model_folder(run)).resolve().parent)
    dataset = load_dataset(data)
    from palate.model.model import load_model

    model = load_model(run, device="cpu")
    summary = model.summarised(dataset)
    summary = summary.decided(None) if bare else summary
    if out is None:
        model.with_summary(summary).summary.save(model_folder(run) / POPULATION)
    else:
        model.bind(dataset, summary).save_pretrained(out)
    tell(f"{summary.users:,} users of {dataset.info.name}: {summary.digest[:19]}…")
    show(str(out or run))
