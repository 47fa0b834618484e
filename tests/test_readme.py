"""The documents are true: snippets run, commands exist, generated tables are current, every recipe loads."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from demo_sample import small_recipes, write_movielens
from palate.cli import app
from palate.config.load import load_recipe
from palate.config.recipe import DataSettings, TaskSettings, UEMSettings
from palate.data.prepare import prepare
from palate.encoders.base import EncoderSizes
from palate.tasks.statistics import category_statistics
from palate.training.train import train_run
from tiny import tiny_model, with_own_registries

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text()
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text()
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OF_PRETRAINING = ROOT / "recipes" / "pretrain.yaml"
RECIPES = sorted(
    {*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "src" / "palate" / "demo").glob("*.yaml")}
    - {OF_PRETRAINING}
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

sys.path.insert(0, str(ROOT / "docs"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which runs/demo holds a finished run."""
    place = tmp_path_factory.mktemp("readme")
    out = place / "runs" / "demo"
    prepare(
        write_movielens(place / "raw", films=70), out / "data"
    )  # histories longer than the snippets' windows
    recipe = load_recipe(small_recipes(place)[0], ["train.max_steps=2"])
    train_run(recipe.model_copy(update={"data": DataSettings(path=out / "data")}), out / "main")
    return place


@pytest.fixture(scope="module")
def names(demo):
    """What the snippets of the README and of two documents define, run one after the other."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(demo)
        with_own_registries(patch)
        for snippet in SNIPPET.findall(README + EVALUATION + EXTENDING):
            exec(snippet, found)
    return found


def test_the_first_snippet_answers_and_encodes(names):
    model = names["model"]
    batch, length, size = names["prompt"].shape
    assert (batch, size) == (1, model.task_prompt.shape[1])
    assert 0 < length <= model.settings.user_encoder.vectors


def test_the_first_snippet_scores_its_model_at_three_windows(names):
    (line,) = [line for line in README.split("\n") if line.startswith("table = ")]
    exec(line, names)
    table = names["table"]
    assert table.windows == (5, 20, 50)
    assert {"model", "rule", "model, another user's history"} < set(table.names)


def test_the_evaluations_of_the_document_have_two_truths_and_calibration(names):
    exec(SNIPPET.findall(EVALUATION)[0], names)
    assert names["table"].truths == ("labels", "unseen")
    (frequencies,) = [one for one in names["found"].evaluations[0].predictors if one.name == "frequencies"]
    assert 0 <= frequencies.calibration.liked.error <= 1


def test_the_state_of_a_user_takes_events_in_and_out(demo, monkeypatch):
    monkeypatch.chdir(demo)
    found = {}
    for snippet in SNIPPET.findall(CONCEPTS):
        exec(snippet, found)
    model, state = found["model"], found["state"]
    assert len(state) == len(found["history"])
    expected = model.encode([found["history"]]).embeddings[0]
    torch.testing.assert_close(state.prompt(), expected)
    assert torch.equal(model.load_state("user-42.safetensors").prompt(), state.prompt())


def test_the_predictor_is_scored(names):
    scores = {one.name: one for one in names["scores"].evaluations[0].predictors}
    mine = scores["everybody likes drama"]
    drama = mine.per_category["Drama"]
    assert mine.unreadable == 0
    assert drama.liked_f1 > 0
    assert {"rule", "main", "main, another user's history"} < set(scores)


def test_the_task_names_one_favourite(names):
    data = names["data"]
    task = names["Favourite"](data.categories, "genre", TaskSettings())
    statistics = category_statistics(data.interactions, data.category_matrix, data.rating_values)
    texts = task.target_texts(task.labels(statistics))
    assert {len(found) for found in task.parse(texts).liked.tolist()} == {TaskSettings().max_labels}
    assert np.array_equal(task.parse(texts).liked[:, :1], task.labels(statistics).liked)
    assert "The user likes Drama and doesn't like any genre" in texts


def test_the_user_encoder_fits_a_model(names):
    model, history = tiny_model(names["data"], {"kind": "uem", "num_layers": 1}), names["history"]
    sizes = EncoderSizes(2, model.table.size, model.task_prompt.shape[1], len(model.settings.categories))
    model.user_encoder = names["MeanEncoder"](UEMSettings(), sizes)
    assert model.encode(history).embeddings.shape == (1, 1, sizes.embedding)
    assert len(model.generate(history)) == 1


def test_the_readme_is_read_in_one_go():
    assert len(README.splitlines()) < 200


def test_every_command_is_in_the_readme_and_takes_these_options():
    import typer

    commands = typer.main.get_command(app).commands
    shown = [shlex.split(line) for line in re.findall(r"^\| `palate (.*?)` \|", README, re.MULTILINE)]
    assert {line[0] for line in shown} == set(commands)
    for name, *arguments in shown:
        commands[name].make_context(name, arguments)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_is_read(path):
    assert load_recipe(path).name


def test_recipes_named_in_documents_exist():
    named = {name for path in DOCUMENTS for name in re.findall(r"recipes/[\w/.-]+\.yaml", path.read_text())}
    assert named
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_generated_tables_are_in_step():
    from generate import documents

    for path, text in documents().items():
        assert path.read_text() == text, f"{path.name} is behind; run: python docs/generate.py"


def test_a_score_table_holds_every_row_with_its_interval():
    from generate import scores_table

    from palate.report.data import Fact, ReportData, ScoreRow, ShownScore

    def row(name, value):
        score = ShownScore(value=value, low=value - 0.1, high=value + 0.1)
        return ScoreRow(
            predictor=name, kind="model", precision=score, recall=score, f1=score, prompt_tokens=24
        )

    facts = (Fact(label="Machine", value="an abacus"), Fact(label="Wall time", value="a year"))
    table = scores_table(
        ReportData(title="", lead="", facts=facts, scores=(row("one", 0.5), row("two", 0.25)))
    )
    assert "| **one** | 0.500 (0.40–0.60) |  |  | 24 vectors |  |" in table
    assert "| **two** | 0.250 (0.15–0.35) |" in table
    assert table.endswith("an abacus; a year.")
