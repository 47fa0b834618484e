"""`palate train --seeds --grid`: one run per variant, and a table of dev scores."""

from typer.testing import CliRunner

from palate.cli.app import app
from palate.config.load import dump_recipe
from palate.runs.run import load_run
from tiny import tiny_recipe


def test_a_grid_and_seeds_are_trained_one_after_the_other(tiny_data, tiny_sentence_encoder, tmp_path):
    recipe = tiny_recipe(
        tiny_data.path, tiny_sentence_encoder, tmp_path / "cache", train={"max_steps": 2, "eval_steps": 2}
    )
    (tmp_path / "tiny.yaml").write_text(dump_recipe(recipe))
    command = ["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    command += ["--seeds", "0,1", "--grid", "train.learning_rate=1.0e-3,1.0e-2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    names = [f"tiny-learning_rate={rate}-seed{seed}" for rate in ("0.001", "0.01") for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()) == names
    assert [str(tmp_path / "runs" / name) for name in names] == done.stdout.splitlines()[-4:]
    assert "Liked F1 of dev users" in done.stdout
    runs = [load_run(tmp_path / "runs" / name) for name in names]
    assert [(run.recipe.train.learning_rate, run.recipe.seed) for run in runs] == [
        (1e-3, 0),
        (1e-3, 1),
        (1e-2, 0),
        (1e-2, 1),
    ]
    again = CliRunner().invoke(app, command)
    assert again.stderr.count("is finished already") == 4


def test_several_runs_do_not_lie_in_a_run(tiny_data, tiny_sentence_encoder, tmp_path):
    recipe = tiny_recipe(tiny_data.path, tiny_sentence_encoder, tmp_path / "cache")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    command = ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path), "--seeds", "0,1"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "is a run, and several need a folder above theirs" in refused.stderr
