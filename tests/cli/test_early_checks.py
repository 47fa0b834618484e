"""Invalid arguments are reported with a remedy before a model is loaded."""

import json
import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.model.model import PersonalizedModel
from palate.training.train import train_run
from tiny import prepare_tiny, save_tiny_encoder, tiny_recipe
from tiny_causal import save_causal

DECODER = {"kind": "causal", "train": "frozen"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset with two runs that were not trained a step: a T5's, which holds its backbone, and a frozen Llama's."""
    place = tmp_path_factory.mktemp("world")
    data = prepare_tiny(place, users=30)
    encoder = save_tiny_encoder(place / "encoder")
    save_causal(place / "llama")
    save_causal(place / "other", seed=1)
    for name, model in (("t5", {}), ("llama", {"backbone": {**DECODER, "name": str(place / "llama")}})):
        changes = {**{"train": {"max_steps": 0}}, **({"model": model} if model else {})}
        train_run(tiny_recipe(data.path, encoder, place / "cache", **changes), place / "runs" / name)
    return place


@pytest.fixture
def palate(world, monkeypatch):
    monkeypatch.chdir(world)

    def run(*arguments):
        return CliRunner().invoke(app, [str(one) for one in arguments])

    return run


@pytest.fixture
def unloaded(monkeypatch):
    """Loading a model fails the test."""

    def load(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(PersonalizedModel, "from_pretrained", load)


def taken_port():
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


RUN = "runs/t5"
REFUSED = {
    "generate, unknown user": (["generate", RUN, "--user", "101"], "no user '101' among the 30"),
    "generate, another spelling": (["generate", RUN, "--user", "007"], "no user '007'", "did you mean '7'?"),
    "generate, blank instruction": (["generate", RUN, "--user", "7", "--instruction", "  "], "it is blank"),
    "generate, empty instruction": (["generate", RUN, "--user", "7", "--instruction", ""], "it is blank"),
    "generate, no run": (["generate", "runs/none", "--user", "7"], "the folder does not exist"),
    "generate, no history": (["generate", RUN, "--history", "gone.json"], "gone.json"),
    "generate, needless backbone": (
        ["generate", RUN, "--user", "7", "--backbone", "llama"],
        "runs/t5 has its own backbone; leave --backbone out",
    ),
    "generate, too long an instruction": (
        ["generate", "runs/llama", "--user", "7", "--instruction", "Action " * 3000],
        "tokens; the backbone reads at most 2,048, of which task prompt, user prompt and answer take",
    ),
    "generate, backbone elsewhere": (
        ["generate", "runs/llama", "--user", "7", "--backbone", "/gone"],
        "there is no backbone at '/gone'",
        "--backbone FOLDER",
    ),
    "evaluate, no run": (
        ["evaluate", "runs/none"],
        "the folder does not exist",
        "or the name of a reference",
    ),
    "evaluate, window": (["evaluate", RUN, "--window", "5,0"], "expected a number of interactions like 50"),
    "evaluate, seed": (["evaluate", RUN, "--seed", "-1"], "greater than or equal to 0"),
    "evaluate, data": (["evaluate", RUN, "--data", "nowhere"], "nowhere"),
    "evaluate, out": (["evaluate", RUN, "--out", "data"], "data is not empty"),
    "evaluate, out in a file": (["evaluate", RUN, "--out", "a-file/scores"], "a-file/scores"),
    "evaluate, needless backbone": (["evaluate", RUN, "--backbone", "llama"], "leave --backbone out"),
    "questions, kind": (
        ["questions", RUN, "--kind", "raiting"],
        "unknown kind of question 'raiting'",
        "did you mean 'rating'?",
    ),
    "questions, seed": (["questions", RUN, "--seed", "-1"], "greater than or equal to 0"),
    "questions, out in a file": (["questions", RUN, "--out", "a-file/q.json"], "a-file"),
    "inspect, page in a file": (["inspect", "data", "--html", "a-file/page.html"], "a-file"),
    "questions, data": (["questions", RUN, "--data", "nowhere"], "nowhere"),
    "export, unknown user": (["export", RUN, "--out", "p", "--user", "7", "--user", "x"], "no user 'x'"),
    "export, unknown user in a file": (
        ["export", RUN, "--out", "p", "--users", "ids.txt"],
        "ids.txt:2: ",
        "'x'",
    ),
    "export, nobody": (["export", RUN, "--out", "p"], "give --user, --users, --split or --history"),
    "export, out": (["export", RUN, "--out", "data", "--user", "7"], "data is not empty"),
    "export, out in a file": (["export", RUN, "--out", "a-file/p", "--user", "7"], "a-file: Not a dir"),
    "export, adapter": (
        ["export", RUN, "--out", "p", "--user", "7", "--weights", "adapter"],
        "only models with model.backbone.train: lora have an adapter",
    ),
    "export, instruction": (
        ["export", RUN, "--out", "p", "--user", "7", "--instruction", ""],
        "encoder-decoder",
    ),
    "export, blank instruction": (
        ["export", "runs/llama", "--out", "p", "--user", "7", "--instruction", " "],
        "it is blank",
    ),
    "serve, no run": (["serve", "runs/none"], "the folder does not exist"),
    "serve, key file": (["serve", RUN, "--api-key-file", "gone.keys"], "gone.keys"),
    "serve, short key": (["serve", RUN, "--api-key-file", "ids.txt"], "ids.txt:1: not an API key"),
    "serve, open address": (["serve", RUN, "--host", "0.0.0.0"], "there are no API keys"),
    "serve, limit": (["serve", RUN, "--limit", "seconds=-1"], "--limit seconds: expected greater than 0"),
    "serve, store": (
        ["serve", RUN, "--store", "no/such/folder/users.sqlite", "--port", "0"],
        "no/such/folder",
    ),
    "serve, needless backbone": (["serve", RUN, "--backbone", "llama"], "leave --backbone out"),
}


@pytest.mark.parametrize(("arguments", "said"), [(one, said) for one, *said in REFUSED.values()], ids=REFUSED)
def test_a_wrong_argument_is_refused_before_the_model_is_loaded(palate, world, unloaded, arguments, said):
    (world / "ids.txt").write_text("7\nx\n")
    (world / "a-file").touch()
    done = palate(*arguments)
    assert done.exit_code == 2, done.output or done.exception
    plain = " ".join(done.stderr.replace("│", " ").split())
    assert all(" ".join(part.split()) in plain for part in said), plain
    assert not (world / "p").exists()


def test_a_taken_port_is_told_before_the_store_is_made(palate, world, unloaded):
    with taken_port() as taken:
        done = palate("serve", RUN, "--store", "fresh.sqlite", "--port", taken.getsockname()[1])
    assert done.exit_code == 2
    assert "give another --port" in done.stderr
    assert not (world / "fresh.sqlite").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "runs/moved", "--user", "7"],
        ["evaluate", "runs/moved", "--bare"],
        ["questions", "runs/moved", "--users", "2"],
        ["export", "runs/moved", "--user", "7", "--out", "prompts"],
    ],
    ids=lambda one: one[0],
)
def test_a_backbone_that_has_moved_is_missed_at_once_and_taken_from_where_it_lies_now(
    palate, world, arguments
):
    for name in ("runs/moved", "prompts"):
        shutil.rmtree(world / name, ignore_errors=True)
    shutil.copytree(world / "runs/llama", world / "runs/moved")
    config = world / "runs/moved/model/config.json"
    content = json.loads(config.read_text())
    content["backbone"]["settings"]["name"] = "/where/it/was/llama"
    config.write_text(json.dumps(content))

    lost = palate(*arguments)
    assert lost.exit_code == 2
    assert "no backbone at '/where/it/was/llama'" in lost.stderr
    assert "--backbone FOLDER" in lost.stderr
    wrong = palate(*arguments, "--backbone", "other")
    assert wrong.exit_code == 2
    assert "was trained with the backbone '/where/it/was/llama' whose weights are sha256:" in wrong.stderr
    found = palate(*arguments, "--backbone", "llama")
    assert found.exit_code == 0, found.stderr


def test_a_backbone_in_a_folder_is_found_from_every_other_folder(world, monkeypatch, tmp_path):
    recipe = tiny_recipe(
        world / "data",
        world / "encoder" / "encoder",
        world / "cache",
        train={"max_steps": 0},
        model={"backbone": {**DECODER, "name": "llama"}},
    )
    monkeypatch.chdir(world)
    train_run(recipe, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["generate", "run", "--user", "7"])
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", [["evaluate", RUN], ["questions", RUN, "--users", "2"]], ids=lambda one: one[0]
)
def test_scores_that_cannot_be_kept_are_shown_all_the_same(palate, monkeypatch, arguments):
    from palate.errors import OutputError
    from palate.evaluation import evaluate, write
    from palate.evaluation import questions as question_scores
    from palate.system import files

    def barred(path, *_):
        raise OutputError(f"cannot write {path}: Read-only file system")

    for module in (write, files):
        monkeypatch.setattr(module, "check_writable", barred, raising=False)
    for module in (evaluate, question_scores):
        monkeypatch.setattr(module, "write_text", barred)
    done = palate(*arguments)
    assert done.exit_code == 2
    first, *_, last = done.stderr.strip().splitlines()
    assert "Read-only file system; the scores will be shown but not saved, unless --out names" in first
    assert last.startswith("palate: cannot write runs/t5/")
    assert "another user's history" in done.stdout or "2 test users" in done.stdout


def test_scores_of_the_packaged_model_are_not_written_beside_it(palate, world):
    from palate.runs.run import PACKAGED_FOLDER

    before = sorted(PACKAGED_FOLDER.rglob("*"))
    done = palate(
        "questions", "packaged", "--data", "data", "--users", "2", "--kind", "yes-no", "--window", "5"
    )
    assert done.exit_code == 0, done.stderr
    assert "as packaged has no run folder; give a file with --out" in done.stderr
    assert sorted(PACKAGED_FOLDER.rglob("*")) == before


@pytest.mark.parametrize("user", ["007", "None", "-1", "two words", "ü", "1.0"])
def test_any_user_id_can_be_named(palate, world, user, tmp_path):
    rows = [
        f"{name},{item},{1 + (item + len(name)) % 5}"
        for name in (user, "a", "b", "c")
        for item in range(1, 26)
    ]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,rating", *rows, ""]))
    items = [
        f'{{"item_id": "{item}", "title": "Film {item}", "genres": ["{("Drama", "War")[item % 2]}"]}}'
        for item in range(1, 26)
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(items))
    made = palate(
        "prepare", tmp_path / "events.csv", "--items", tmp_path / "items.jsonl", "--out", tmp_path / "data"
    )
    assert made.exit_code == 0, made.stderr
    done = palate("generate", RUN, "--user", user, "--data", tmp_path / "data", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["user_id"] == user
    assert Path(RUN).is_dir()


@pytest.fixture
def idle(monkeypatch):
    """Starting a cell fails the test."""
    from palate.reproduce import engine

    def run(*_):
        raise AssertionError("a cell was started")

    monkeypatch.setattr(engine, "run_cells", run)


def test_what_all_cells_need_is_looked_for_once(palate, world, idle):
    done = palate("reproduce", "all", "--preset", "smoke", "--data", "nowhere")
    assert done.exit_code == 2
    assert "palate: nowhere: no dataset here, which all cells need; run palate prepare FILES" in done.stderr
    done = palate("reproduce", "all", "--preset", "paper")
    assert done.exit_code == 2
    options = "--descriptions DESCRIPTIONS.csv --described-only --min-ratings 20"
    assert f"run palate prepare ml-20m {options} --out data/ml-20m first" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_small_release_is_had_by_itself(palate, world, monkeypatch, idle):
    from palate.data.dataset import load_dataset
    from palate.reproduce import ready

    made = []

    def prepare(release, out, report):
        made.append((release, str(out)))
        return load_dataset(world / "data")

    monkeypatch.setattr(ready, "prepare", prepare)
    done = palate("reproduce", "table3", "--preset", "smoke")
    assert str(done.exception) == "a cell was started"
    assert made == [("ml-100k", "data/ml-100k")]


def test_a_backbone_that_no_cell_can_have_is_told_once(palate, world, idle, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = palate("reproduce", "table2", "--preset", "paper", "--data", "data")
    assert done.exit_code == 2
    assert "the backbone 'google/t5-v1_1-base' cannot be loaded" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", RUN],
        ["questions", RUN],
        ["generate", RUN, "--user", "1"],
        ["export", RUN, "--user", "1", "--out", "by-device"],
        ["serve", RUN, "--port", "0"],
        ["reproduce", "all", "--preset", "smoke"],
    ],
    ids=lambda one: one[0],
)
def test_a_device_that_is_not_there_is_refused_before_a_model_is_loaded(palate, unloaded, arguments):
    done = palate(*arguments, "--device", "cuda:77")
    assert done.exit_code == 2
    assert "palate: device 'cuda:77' cannot be used" in done.stderr
    assert not Path("by-device").exists()


def test_commands_say_where_they_computed(palate, world):
    for arguments in (
        ["evaluate", RUN, "--bare"],
        ["questions", RUN, "--users", "2", "--kind", "preference"],
        ["generate", RUN, "--user", "1"],
        ["export", RUN, "--user", "1", "--out", "by-device"],
    ):
        done = palate(*arguments, "--device", "cpu")
        assert done.exit_code == 0, done.stderr
        assert "computed on cpu" in done.stderr.splitlines(), arguments
    for file in ("metrics.json", "questions.json", "manifest.json"):
        assert json.loads((world / RUN / file).read_text())["device"] == "cpu"
    assert json.loads((world / "by-device" / "manifest.json").read_text())["device"] == "cpu"
