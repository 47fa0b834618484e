"""The demo: from MovieLens 100K to a report, beside a small copy of the paper's model; goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.config import DataSettings, Recipe
from palate.data.prepare import prepare
from palate.demo_page import demo_page
from palate.demo_scores import MAIN, PAPER, measure
from palate.evaluate import write_evaluation
from palate.files import remove_leftovers
from palate.locks import locked
from palate.recipes import load_recipe
from palate.report.build import build_report
from palate.stages import Stages
from palate.train import train

RECIPES = (Path(__file__).with_name("demo.yaml"), Path(__file__).with_name("demo_uem.yaml"))
"""The palate model, and the paper's."""


def run_demo(
    out: Path,
    report: Callable[[str], None] | None = None,
    progress: bool = False,
    source: str | Path = "ml-100k",
    recipes: tuple[Path, Path] = RECIPES,
) -> Path:
    """Prepare ``source``, train both recipes on it, score them on the test users; returns the report's path.

    Everything lies in ``out``: ``data``, the runs ``main`` and ``paper``, the scores, and ``report.html`` with its
    data in ``report.json``. What is complete is not done again, and an interrupted training goes on from its last
    checkpoint. ``report`` is told what happens, a line at a time; ``progress`` shows bars.

    Raises what :func:`palate.data.prepare.prepare` and :func:`palate.train.train` raise.
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
    main, paper = (_on_data(load_recipe(recipe), out / "data") for recipe in recipes)
    stages = Stages(out / "stages.json")
    if not (out / "data").is_dir():
        with stages.timed("preparing"):
            prepare(source, out / "data", report=tell, progress=progress)
    for name, recipe in ((MAIN, main), (PAPER, paper)):
        with stages.timed(f"training {name}"):
            train(recipe, out / name, report=tell, progress=progress)
    page = out / "report.html"
    if not page.is_file():  # written last
        tell("scoring both models and the references on the test users")
        with stages.timed("scoring"):
            results = measure(out)
        write_evaluation(results.evaluation, out)
        build_report(demo_page(results, stages.seconds(), stages.peak_memory_gib()), page)
    return page


def _on_data(recipe: Recipe, data: Path) -> Recipe:
    return recipe.model_copy(update={"data": DataSettings(path=data.resolve())})
