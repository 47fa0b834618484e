"""Finds and loads recommenders by the names of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from palate.recommend.parts import HEADER
from palate.recommend.recommender import Recommender
from palate.runs.hub import found_run
from palate.runs.run import load_run, run_folder


def load_recommender(run: Path | str, *, revision: str | None = None) -> Recommender:
    """Load the recommender of a run that ``palate train`` wrote from a recipe with a section ``recommend``.

    Args:
        run: The run's folder, also of a language model, beside which the recommender was trained; a folder of
            ``save_pretrained``; or ``OWNER/NAME`` for one of the hub.
        revision: Branch, tag or commit of one of the hub.

    Returns:
        The recommender; ``recommender.run`` is the run that trained it, or None for a folder without one.

    Raises:
        DataError: The folder is no run, the run is not a recommender's, a file is damaged, or there is no such
            recommender on the hub.
        MismatchError: A folder has no revision.

    Example:
        >>> recommender = palate.load_recommender("runs/recommender")
        >>> recommender.facts.feedback
        'ratings'
    """
    found_run(run, revision)
    found = load_run(recommender_run(run))
    return replace(Recommender.from_pretrained(found.model), run=found if found.there else None)


def is_recommender(run: Path | str) -> bool:
    """Return whether a run, or a folder of ``save_pretrained``, is that of a recommender without a language model."""
    found = run_folder(run)
    return found.recipe.is_recommenders if found.there else (found.model / HEADER).is_file()


def recommender_run(run: Path | str) -> Path:
    """Return the recommender's run for a run: the one trained beside a language model, or else the run itself."""
    place = Path(run).expanduser()
    return recommender_beside(place) or place


def recommender_beside(run: Path | str) -> Path | None:
    """Return the run of the recommender that was trained beside a language model; None if there is none."""
    folder = run_folder(run).recommender
    return folder if is_recommender(folder) else None
