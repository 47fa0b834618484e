"""The notebooks run from top to bottom, in this process and one in a Jupyter kernel."""

import ast
import json
from pathlib import Path

import pytest

from tiny import with_own_registries

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))


def cells(path):
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def run(code, names):
    """Run a cell, and return the value of its last expression, as Jupyter shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """What the cells of a notebook show, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with_own_registries(monkeypatch)

    def of(name):
        names = {"__name__": "__main__"}
        (path,) = [path for path in NOTEBOOKS if path.stem == name]
        return [run(code, names) for code in cells(path)]

    return of


def test_there_are_three_without_outputs():
    assert [path.stem for path in NOTEBOOKS] == ["add_an_encoder", "own_data", "quickstart"]
    for path in NOTEBOOKS:
        assert all(not cell.get("outputs") for cell in json.loads(path.read_text())["cells"]), path


def test_the_quickstart_answers_and_an_event_changes_the_answer(shown):
    _, answer, (events, prompt), (before, after), table = shown("quickstart")
    assert answer == before
    assert answer.startswith("The user likes Indian")
    assert events == 28
    assert prompt[0] == 1
    assert 15 < prompt[1] < 40
    assert "Seafood" in after
    assert "Seafood" not in before
    assert {"model", "rule", "shrinkage"} <= set(table["predictor"])


def test_own_tables_become_a_dataset_with_answers_and_recommendations(shown):
    *_, answer, listed, ratings, frame = shown("own_data")
    assert answer.startswith("The user likes")
    assert len(listed) == 5
    assert len(ratings[0].items) == 2
    assert len(frame) == 3


@pytest.mark.slow  # half a minute: a model is trained
def test_an_encoder_is_added_and_trained(shown):
    *_, prompt, table = shown("add_an_encoder")
    assert prompt == (1, 1, 32)
    assert {"model", "rule"} <= set(table["predictor"])


@pytest.mark.slow  # half a minute: a kernel starts
def test_the_quickstart_runs_in_a_kernel(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    (path,) = [path for path in NOTEBOOKS if path.stem == "quickstart"]
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    shown = [one["data"]["text/plain"] for one in outputs if one.output_type == "execute_result"]
    assert "The user likes Indian" in shown[1]
