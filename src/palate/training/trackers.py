"""Checks the experiment trackers of a recipe (``train.report_to``), which transformers supports."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from palate.errors import RecipeError
from palate.system.extras import missing_extra, missing_modules

WRITTEN_ANYWAY = "tensorboard"


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers can be used.

    Args:
        names: Their names, as in ``report_to`` of transformers' TrainingArguments.

    Raises:
        RecipeError: A tracker is unknown or not installed, or its files are written anyway.
        MissingExtraError: It is TensorBoard, which is an extra of palate and not installed.
    """
    known = sorted({*INTEGRATION_TO_CALLBACK} - {WRITTEN_ANYWAY})
    for name in names:
        if name == WRITTEN_ANYWAY:
            if missing_modules(name):
                raise missing_extra("train.report_to: its files need TensorBoard", name)
            raise RecipeError(
                "train.report_to: TensorBoard's files are in the run's logs anyway; leave it out"
            )
        if name not in known:
            raise RecipeError(
                f"train.report_to: no tracker is called {name!r}; choose from {', '.join(known)}"
            )
        if name not in get_available_reporting_integrations():
            raise RecipeError(f"train.report_to: {name} is not installed; install it, or leave it out")
