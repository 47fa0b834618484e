"""``palate summarise``."""

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
            help="New folder for the model with the summary, which can be named as a run; RUN if not given."
        ),
    ] = None,
    bare: Annotated[
        bool,
        Option("--bare", help="Leave the decisions uncalibrated: no label of these users is read for them."),
    ] = False,
) -> None:
    """Summarise a dataset's training users for a model whose weights know no catalogue."""
    from palate.errors import MismatchError
    from palate.system.places import PACKAGED

    if out is None and str(run) == PACKAGED:
        raise BadParameter("the packaged model stays as it is; name a new folder", param_hint="'--out'")
    from palate.data.dataset import load_dataset
    from palate.model.config import POPULATION, check_model, model_folder
    from palate.system.files import check_fresh, check_writable

    settings = check_model(run)
    if not settings.binds:
        kind = settings.user_encoder.kind
        raise MismatchError(f"{run} has a {kind!r} user encoder, which reads no summary of a population")
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
