"""Runs palate's commands on the bookshop's files."""

from typer.testing import CliRunner

from bookshop import books, ratings, write_rows
from palate.cli.app import app

COLUMNS = [
    "--user-col", "reader", "--rating-col", "stars", "--title-col", "name", "--category-col", "subjects",
]  # fmt: skip


def run(*arguments):
    """Run a command and return its result."""
    return CliRunner().invoke(app, [str(one) for one in arguments])


def trained_recommender(folder, settings):
    """Train a recommender on the shop's data in the folder, with settings in YAML; return its run."""
    catalogue = books()
    events = write_rows(ratings(catalogue), folder / "events.csv")
    items = write_rows(catalogue, folder / "items.csv")
    prepared = run("prepare", events, "--items", items, *COLUMNS, "--out", folder / "data")
    assert prepared.exit_code == 0, prepared.output
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"name: books\nrecommend: {{{settings}}}\ntrain: {{threads: 1}}\n")
    trained = run("train", recipe, "--set", f"data.path={folder / 'data'}", "--out", folder / "run")
    assert trained.exit_code == 0, trained.output
    return folder / "run"
