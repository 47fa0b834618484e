"""Runs the demo: trains and scores two models on MovieLens 100K and writes a report; an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from palate.config.load import load_recipe
from palate.config.recipe import Recipe
from palate.config.registry import user_encoders
from palate.data.dataset import load_dataset
from palate.data.prepare import prepare
from palate.demo.page import demo_page
from palate.demo.scores import MAIN, PAPER, measure
from palate.evaluation.evaluate import write_evaluation
from palate.items.encoder_files import encoder_folder
from palate.model.build import build_table
from palate.report.build import build_report
from palate.runs.run import RunFolder
from palate.system.device import find_device
from palate.system.files import remove_leftovers
from palate.system.locks import locked
from palate.system.machine import reproducible
from palate.system.progress import counting_bar
from palate.system.stages import Stages
from palate.training.side_by_side import train_side_by_side
from palate.training.train import train_run

RECIPES = (Path(__file__).with_name("demo.yaml"), Path(__file__).with_name("demo_uem.yaml"))
"""Recipes of the palate model and of the paper's."""
VECTORS = "item-vectors"
"""The demo's own item vector cache; vectors encoded in other batches may differ in the last digits."""


def run_demo(
    out: Path,
    report: Callable[[str], None] | None = None,
    progress: bool = False,
    source: str | Path = "ml-100k",
    recipes: tuple[Path, Path] = RECIPES,
) -> Path:
    """Prepare a dataset, train both recipes on it in parallel processes, and score them on the test users.

    Completed stages are skipped, and an interrupted training resumes from its last checkpoint.

    Args:
        out: Folder for ``data``, the runs ``main`` and ``paper``, the scores, and ``report.html`` with
            ``report.json``.
        report: Called with status messages.
        progress: Whether to show progress bars.
        source: Source of the dataset, as for ``palate prepare``.
        recipes: Recipe files of the palate model and of the paper's.

    Returns:
        The path of the report.

    Raises:
        PalateError: As :func:`palate.items.encoder_files.encoder_folder`, :func:`palate.data.prepare.prepare` and
            :func:`palate.training.train.train_run` raise.
    """
    with locked(out):
        remove_leftovers(out)
        return _run(out, report or (lambda line: None), progress, source, recipes)


def _run(
    out: Path,
    tell: Callable[[str], None],
    progress: bool,
    source: str | Path,
    recipes: tuple[Path, Path],
) -> Path:
    main, paper = (_in_folder(load_recipe(recipe), out) for recipe in recipes)
    stages = Stages(out / "stages.json")
    for recipe, name in ((main, MAIN), (paper, PAPER)):
        if not RunFolder(out / name).model.is_dir() and _reads_vectors(recipe):
            encoder_folder(recipe.items)  # check that it is available before downloading the dataset
    if not (out / "data").is_dir():
        with stages.timed("preparing"):
            prepare(source, out / "data", report=tell, progress=progress)
    _train({MAIN: (main, out / MAIN), PAPER: (paper, out / PAPER)}, stages, tell, progress)
    page = out / "report.html"
    if not page.is_file():  # written last
        tell("scoring both models and the references on the test users")
        with stages.timed("scoring"), reproducible(main.train.threads, find_device()):
            results = measure(out)
        write_evaluation(results.evaluation, out)
        build_report(demo_page(results, stages.seconds(), stages.peak_memory_gib()), page)
    return page


def _train(
    runs: Mapping[str, tuple[Recipe, Path]], stages: Stages, tell: Callable[[str], None], progress: bool
) -> None:
    """Train the runs that are not finished, after encoding the items that all of them read."""
    waiting = {}
    for name, (recipe, out) in runs.items():
        if RunFolder(out).model.is_dir():
            train_run(recipe, out, report=tell)  # returns at once after checking the recipe
        else:
            waiting[name] = recipe, out
    if not waiting:
        return
    with stages.timed("encoding"), counting_bar("encoding item texts", progress) as encoded:
        tell("encoding item texts")
        for recipe, _ in waiting.values():
            with reproducible(recipe.train.threads, find_device()):
                build_table(recipe, load_dataset(recipe.data.path), encoded)
    tell(f"training {' and '.join(waiting)} in parallel")
    with stages.timed("training"):
        train_side_by_side(waiting, tell)


def _reads_vectors(recipe: Recipe) -> bool:
    return user_encoders.find(recipe.model.user_encoder.kind).reads == "vectors"


def _in_folder(recipe: Recipe, out: Path) -> Recipe:
    """Set the recipe's data and item vector cache to the demo's folder."""
    items = recipe.items
    if items.cache is None:
        items = items.model_copy(update={"cache": (out / VECTORS).resolve()})
    data = recipe.data.model_copy(update={"path": (out / "data").resolve()})
    return recipe.model_copy(update={"data": data, "items": items})
