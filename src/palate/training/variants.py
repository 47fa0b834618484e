"""Training of a recipe's variants, one after the other, and the table of their dev scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from palate.config.variants import Variant
from palate.errors import OutputError
from palate.model.config import model_settings
from palate.report.sheet import Sheet
from palate.training.start import train_recipe


def train_variants(
    variants: Sequence[Variant],
    out: Path,
    report: Callable[[str], None] | None = None,
    *,
    progress: bool = False,
    device: str = "auto",
) -> list[Path]:
    """Train each variant into its own folder; finished ones are left as they are, interrupted ones resume.

    Args:
        variants: The variants.
        out: Folder of their runs.
        report: Called with progress messages, one line each.
        progress: Show progress bars on stderr.
        device: Where models are trained.

    Returns:
        The runs' folders.

    Raises:
        OutputError: ``out`` is a run.
        PalateError: As by :func:`palate.training.start.train_recipe`.
    """
    if (out / "recipe.yaml").exists():
        raise OutputError(f"{out} is a run, and several need a folder above theirs; name another with --out")
    folders = []
    for number, variant in enumerate(variants, start=1):
        if report is not None:
            report(f"{variant.name}, {number} of {len(variants)}")
        folder = out / variant.name
        folders.append(train_recipe(variant.recipe, folder, report, progress=progress, device=device))
    return folders


def dev_sheet(variants: Sequence[Variant], folders: Sequence[Path]) -> Sheet | None:
    """Make the table of dev scores, a row for each combination of the grid; None if a variant has no dev score."""
    scores: dict[str, list[tuple[int, float]]] = {}
    for variant, folder in zip(variants, folders, strict=True):
        if variant.recipe.is_recommenders:
            return None
        record = model_settings(folder).training
        if record is None:
            return None
        scores.setdefault(variant.group, []).append((variant.recipe.seed, record.dev.f1))
    rows = [
        [
            group or variants[0].recipe.name,
            ", ".join(f"{f1:.3f} ({seed})" for seed, f1 in several),
            f"{fmean(f1 for _, f1 in several):.3f}",
            f"{stdev(f1 for _, f1 in several):.3f}" if len(several) > 1 else "",
        ]
        for group, several in scores.items()
    ]
    return Sheet(
        "Liked F1 of dev users",
        ("", "each (seed)", "mean", "deviation"),
        rows,
        "Select by these dev scores; test users are for the selected variant only.",
    )
