"""The command line: arguments passed on, stdout and stderr, and error messages."""

import json
import re
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.errors import DataError
from palate.tasks.verbalizer import NO_ANSWER
from palate.words import printable


@pytest.fixture
def palate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def stand_in(monkeypatch):
    """Puts a function in the place of a module's, without importing the module."""

    def put(module: str, name: str, function):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: function}))

    return put


def fails_with(error):
    def fail(*_arguments, **_options):
        raise error

    return fail


def test_version(palate):
    assert palate("--version").stdout == f"palate {version('palate')}\n"


@pytest.mark.parametrize(
    "command", ["prepare", "inspect", "train", "evaluate", "generate", "export", "serve", "demo"]
)
def test_every_command_has_help(palate, command):
    assert f" {command} " in palate("--help").stdout
    assert palate(command, "--help").exit_code == 0


def test_an_error_is_one_line_and_exit_code_2(palate):
    done = palate("train", "gone.yaml")
    assert done.exit_code == 2
    assert done.stderr == "palate: gone.yaml: no such recipe\n"
    assert done.stdout == ""


def test_the_home_folder_is_meant_in_every_path_of_an_option(palate, stand_in, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stand_in("palate.data.prepare", "prepare", lambda source, out, **rest: given.update(out=out, **rest))
    assert palate("prepare", "events.csv", "--out=~/data", "--descriptions=~/texts.csv").exit_code == 0
    assert given["out"] == tmp_path / "home" / "data"
    assert given["descriptions"] == tmp_path / "home" / "texts.csv"
    stand_in("palate.serve.run", "serve", lambda settings, _: given.update(settings=settings))
    monkeypatch.setenv("PALATE_STORE", "~/users.sqlite")
    assert palate("serve", "~/runs/mine", "--data=~/data").exit_code == 0
    assert given["settings"].run == tmp_path / "home" / "runs" / "mine"
    assert given["settings"].store == str(tmp_path / "home" / "users.sqlite")
    assert given["settings"].data == tmp_path / "home" / "data"


@pytest.mark.parametrize(
    "arguments",
    [["demo", "--out=~nobody-of-that-name/demo"], ["serve", "run", "--store=~nobody-of-that-name/db"]],
)
def test_nobodys_home_folder_is_refused(palate, arguments):
    done = palate(*arguments)
    assert done.exit_code == 2
    assert "write the path in full" in " ".join(done.stderr.replace("│", " ").split())


def test_an_error_of_several_lines_becomes_one(palate, stand_in):
    stand_in("palate.demo.run", "run_demo", fails_with(DataError("one\n  two")))
    assert palate("demo").stderr == "palate: one two\n"


def test_verbose_prints_the_traceback_before_the_line(palate):
    done = palate("--verbose", "train", "gone.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("palate: gone.yaml: no such recipe\n")


def test_a_bug_keeps_its_traceback(palate, stand_in):
    stand_in("palate.demo.run", "run_demo", fails_with(ZeroDivisionError()))
    assert isinstance(palate("demo").exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("train", "run the same command again to resume from the last checkpoint"),
        ("demo", "run it again to resume"),
    ],
)
def test_an_interrupt_says_how_to_go_on(palate, stand_in, tmp_path, command, hint):
    (tmp_path / "x.yaml").touch()
    stand_in("palate.demo.run", "run_demo", fails_with(KeyboardInterrupt()))
    stand_in("palate.training.train", "train_run", fails_with(KeyboardInterrupt()))
    done = palate(command, *(["x.yaml"] if command == "train" else []))
    assert done.exit_code == 130
    assert f"palate: stopped; {hint}" in done.stderr


def test_train_passes_the_recipe_and_prints_the_run(palate, stand_in, tmp_path):
    seen = []
    stand_in("palate.training.train", "train_run", lambda recipe, out, *_: seen.append((recipe, out)) or out)
    (tmp_path / "x.yaml").write_text("name: mine\n")
    done = palate("train", "x.yaml", "--set", "train.max_steps=3", "--set", "seed=4")
    assert done.exit_code == 0
    assert (seen[0][0].train.max_steps, seen[0][0].seed) == (3, 4)
    assert done.stdout.strip().endswith("mine")
    assert palate("train", "x.yaml", "--out", "elsewhere").stdout == "elsewhere\n"


def test_a_wrong_override_stops_before_training(palate, stand_in, tmp_path):
    stand_in("palate.training.train", "train_run", fails_with(AssertionError("training began")))
    (tmp_path / "x.yaml").touch()
    done = palate("train", "x.yaml", "--set", "train.step=3")
    assert (done.exit_code, done.stderr) == (
        2,
        "palate: --set train.step=3: unknown key 'train.step'; did you mean 'train.max_steps'?\n",
    )


def test_prepare_passes_its_options_and_prints_the_folder(palate, stand_in):
    seen = {}

    def prepare(source, out, *, report, **options):
        seen.update(source=source, out=str(out), **options)
        report("1,000 ratings")

    stand_in("palate.data.prepare", "prepare", prepare)
    done = palate("prepare", "ml-1m", "--out", "data/ml-1m", "--descriptions", "d.csv", "--seed", 5)
    assert done.exit_code == 0
    assert (done.stdout, done.stderr) == ("data/ml-1m\n", "1,000 ratings\n")
    assert (seen["source"], seen["out"], str(seen["descriptions"]), seen["seed"]) == (
        ["ml-1m"],
        "data/ml-1m",
        "d.csv",
        5,
    )
    assert (seen["min_ratings"], seen["dev_share"], seen["test_share"]) == (None, 0.1, 0.1)


def test_prepare_refuses_a_filled_folder(palate, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").touch()
    done = palate("prepare", tmp_path, "--out", "data")
    assert done.exit_code == 2
    assert done.stderr == "palate: data is not empty; name a new folder, or remove this one first\n"


def test_evaluate_names_what_is_neither_a_run_nor_a_reference(palate):
    done = palate("evaluate", "ruel")
    assert done.exit_code == 2
    assert "or the name of a reference: population, floor, counting, rule, shrinkage" in done.stderr


def test_references_alone_need_data(palate):
    done = palate("evaluate", "rule")
    assert (done.exit_code, done.stderr) == (
        2,
        "palate: references and loaded models do not name a dataset; name it with --data, or pass it\n",
    )


def test_evaluate_refuses_a_filled_folder_before_the_work(palate, tmp_path):
    done = palate("evaluate", "rule", "--out", tmp_path.parent)
    assert done.exit_code == 2
    assert "is not empty" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--user", "1", "--history", "h.json"]])
def test_generate_wants_a_user_or_a_history(palate, arguments):
    done = palate("generate", "runs/demo", *arguments)
    assert done.exit_code == 2
    assert "give either --user or --history" in done.stderr


def test_generate_checks_the_history_before_the_model_is_loaded(palate, stand_in, tmp_path):
    stand_in("palate.model.answer", "answer", fails_with(AssertionError("the model was loaded")))
    named = SimpleNamespace(settings=SimpleNamespace(unrated=None), dataset=None)
    stand_in("palate.model.named", "find_model", lambda run, backbone, data: named)
    (tmp_path / "h.csv").write_text("item_id,rating\n1,good\n")
    done = palate("generate", "runs/demo", "--history", "h.csv")
    assert (done.exit_code, done.stderr) == (2, "palate: h.csv:2: rating is 'good', expected a number\n")


def test_export_wants_users(palate):
    done = palate("export", "runs/demo", "--out", "prompts")
    assert done.exit_code == 2
    assert "give --user, --users, --split or --history" in done.stderr


def test_export_names_what_is_no_run(palate, tmp_path):
    done = palate("export", tmp_path, "--out", "prompts", "--user", "1")
    assert done.exit_code == 2
    assert "not a run" in done.stderr


def test_generate_names_what_is_no_run(palate, tmp_path):
    done = palate("generate", tmp_path, "--user", "1")
    assert done.exit_code == 2
    assert "not a run: expected a folder that 'palate train' wrote" in done.stderr


def test_the_way_from_ratings_to_an_answer(palate, tmp_path):
    rows = [
        f"{user},{movie},{1 + (user * movie) % 5},{movie}" for user in range(1, 41) for movie in range(1, 26)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows, ""]))
    films = [
        f"{movie},Film {movie} (1990),{'Drama' if movie % 2 else 'Comedy|War'}" for movie in range(1, 26)
    ]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films, ""]))
    (tmp_path / "x.yaml").write_text(
        "name: tiny\n"
        "data: {path: prepared}\n"
        "items: {cache: cache}\n"
        "windows: {shortest: 4, longest: 8}\n"
        "model:\n"
        "  backbone: {kind: random-t5, d_model: 16, d_ff: 16, num_heads: 2, num_layers: 1, vocab_size: 400}\n"
        "  user_encoder: {kind: streaming, num_queries: 4, d_model: 16, num_layers: 1, num_heads: 2}\n"
        "  task_prompt: 2\n"
        "train: {max_steps: 4, per_device_train_batch_size: 4, eval_steps: 2}\n"
        "evaluate: {window: 8, max_new_tokens: 24}\n"
    )
    assert palate("prepare", tmp_path, "--out", "prepared").exit_code == 0
    trained = palate("train", "x.yaml")
    assert trained.exit_code == 0, trained.stderr
    assert trained.stdout == "runs/tiny\n"
    assert "finished already" in palate("train", "x.yaml").stderr

    scored = palate("evaluate", "runs/tiny", "population")
    assert scored.exit_code == 0, scored.stderr
    metrics = json.loads((tmp_path / "runs/tiny/metrics.json").read_text())
    control = "tiny, another user's history"
    view = "tiny, view in a template"
    expected = ["population", "counting", "rule", "shrinkage", control, view, "tiny"]
    assert [one["name"] for one in metrics["predictors"]] == expected
    assert (metrics["setting"]["window"], metrics["setting"]["split"]) == (8, "test")
    assert (tmp_path / "runs/tiny/predictions.jsonl").exists()
    bare = palate(
        "evaluate", "runs/tiny", "--bare", "--window", 5, "--window-kind", "random", "--out", "scores"
    )
    assert bare.exit_code == 0, bare.stderr
    bare_metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert [one["name"] for one in bare_metrics["predictors"]] == ["tiny"]
    assert (bare_metrics["setting"]["window"], bare_metrics["setting"]["kind"]) == (5, "random")
    wrong = palate("evaluate", "runs/tiny", "--bare", "--controls", "--out", "controls")
    assert wrong.exit_code == 0, wrong.stderr
    names = [
        one["name"] for one in json.loads((tmp_path / "controls/metrics.json").read_text())["predictors"]
    ]
    shown = ("another user's history", "no history", "ratings shuffled", "population prompt")
    assert names == [*(f"tiny, {name}" for name in shown), "tiny"]
    constrained = palate("evaluate", "runs/tiny", "--bare", "--constrained", "--out", "constrained")
    assert constrained.exit_code == 0, constrained.stderr
    (said,) = json.loads((tmp_path / "constrained/metrics.json").read_text())["predictors"]
    assert said["unreadable"] == 0
    answer = palate("generate", "runs/tiny", "--user", "1", "--constrained")
    assert re.fullmatch("The user likes .* and doesn't like .*\n", answer.stdout)

    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows[:-25], ""]))
    assert palate("prepare", tmp_path, "--out", "other").exit_code == 0
    refused = palate("evaluate", "runs/tiny", "--data", "other")
    assert refused.exit_code == 2
    assert "was trained on" in refused.stderr
    assert "add --transfer" in refused.stderr
    assert palate("evaluate", "runs/tiny", "--data", "other", "--transfer", "--bare").exit_code == 0

    promised = palate("generate", "runs/tiny", "--user", "7", "--promise", "1", "--json")
    assert promised.exit_code == 0, promised.stderr
    assert json.loads(promised.stdout)["text"] == NO_ANSWER
    assert 0 < json.loads(promised.stdout)["expected_f1"] < 1
    kept = palate("generate", "runs/tiny", "--user", "7", "--promise", "0")
    assert kept.stdout == palate("generate", "runs/tiny", "--user", "7").stdout
    asked = palate("generate", "runs/tiny", "--user", "7", "--promise", "0.5", "--instruction", "Which?")
    assert (asked.exit_code, asked.stderr) == (
        2,
        "palate: a promise is for the trained instruction only; leave out the promise or the instruction\n",
    )

    answered = palate("generate", "runs/tiny", "--user", "7", "--json")
    assert answered.exit_code == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert answer["user_id"] == "7"
    assert [event["item_id"] for event in answer["window"]] == [
        str(movie) for movie in range(1, 26)
    ]  # all of it
    assert palate("generate", "runs/tiny", "--user", "7").stdout == printable(answer["text"]) + "\n"
    assert "99" in palate("generate", "runs/tiny", "--user", "99").stderr

    (tmp_path / "new.jsonl").write_text(
        '{"title": "Film 99", "categories": "War", "rating": 4}\n{"item_id": 3, "rating": 2}'
    )
    new = palate("generate", "runs/tiny", "--history", "new.jsonl", "--json")
    assert new.exit_code == 0, new.stderr
    assert [event["item_id"] for event in json.loads(new.stdout)["window"]] == ["new: Film 99", "3"]

    (tmp_path / "ids.txt").write_text("7\n8\n\n")
    exported = palate(
        *("export", "runs/tiny", "--out", "prompts", "--user", "9", "--users", "ids.txt"),
        *("--split", "test", "--history", "new.jsonl", "--dtype", "bfloat16"),
    )
    assert exported.exit_code == 0, exported.stderr
    assert exported.stdout == "prompts\n"
    assert "needs the trained weights of the backbone too" in exported.stderr
    manifest = json.loads((tmp_path / "prompts/manifest.json").read_text())
    assert {"7", "8", "9", "new"} < {user["user_id"] for user in manifest["users"]}
    assert manifest["dtype"] == "bfloat16"
    (tmp_path / "ids.txt").write_text("7\nnobody\n")
    unknown = palate("export", "runs/tiny", "--out", "again", "--users", "ids.txt")
    assert unknown.exit_code == 2
    assert "ids.txt:2: " in unknown.stderr
    assert "no user 'nobody'" in unknown.stderr
    refused = palate("export", "runs/tiny", "--out", "again", "--user", "7", "--instruction", "")
    assert "encoder-decoder" in refused.stderr
    refused = palate("export", "runs/tiny", "--out", "again", "--user", "7", "--weights", "adapter")
    assert "only models with model.backbone.train: lora have an adapter" in refused.stderr
    assert not (tmp_path / "again").exists()
    whole = palate("export", "runs/tiny", "--out", "again", "--user", "7", "--weights", "backbone")
    assert whole.exit_code == 0, whole.stderr
    assert "needs the trained weights of the backbone too" not in whole.stderr
    assert (tmp_path / "again/backbone/model.safetensors").is_file()
