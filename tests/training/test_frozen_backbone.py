"""Training around a frozen backbone, from recipe to answers."""

import json

import pytest
from safetensors import safe_open

from palate.evaluation.compare import Options, prepare_comparison
from palate.model.model import load_model
from palate.training.train import train_run
from tiny import tiny_recipe
from tiny_causal import save_causal


@pytest.mark.parametrize(("kind", "dtype"), [("frozen", "bfloat16"), ("lora", "float32")])
def test_a_run_around_a_frozen_backbone_goes_on_where_it_stopped_and_is_scored(
    tiny_data, tiny_sentence_encoder, tmp_path, kind, dtype
):
    name = str(save_causal(tmp_path / "backbone"))
    backbone = {"kind": "causal", "name": name, "train": kind, "dtype": dtype}
    user_encoder = {"kind": "streaming", "num_queries": 6, "d_model": 16, "num_layers": 1, "num_heads": 2}
    recipe = tiny_recipe(
        tiny_data.path,
        tiny_sentence_encoder,
        tmp_path / "cache",
        model={"backbone": backbone, "user_encoder": user_encoder, "like_tokens": True},
        train={
            "max_steps": 6,
            "eval_steps": 2,
            "auxiliary_weight": 1.0,
            "auxiliary_only_ratio": 0.3,
            "answers": "view",
        },
    )
    whole, lines = train_run(recipe, tmp_path / "whole"), []

    def stop_after_a_checkpoint(line):
        if (tmp_path / "cut" / "checkpoints" / "checkpoint-4" / "complete.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, tmp_path / "cut", report=stop_after_a_checkpoint)
    cut = train_run(recipe, tmp_path / "cut", report=lines.append)
    assert any(line.startswith("resuming from checkpoint-") for line in lines)
    norms = [row["norms"] for row in json.loads((whole / "logs" / "curve.json").read_text())["scores"]]
    assert len(norms) == 3
    for at in norms:  # soft prompts start as long as tokens are, and stay so
        assert at["user_prompt"] == pytest.approx(at["tokens"], rel=0.3)
        assert at["task_prompt"] == pytest.approx(at["tokens"], rel=0.3)
    people = tiny_data.histories(tiny_data.user_ids[:3])
    assert load_model(cut).generate(people) == load_model(whole).generate(people)
    with safe_open(whole / "model" / "model.safetensors", "pt") as file:
        of_the_backbone = [name for name in file.keys() if name.startswith("backbone.")]  # noqa: SIM118
    assert all("lora_" in name for name in of_the_backbone)
    assert bool(of_the_backbone) is (kind == "lora")
    assert "not in this folder" in (whole / "model" / "README.md").read_text()
    scored = prepare_comparison([str(whole)], Options(bare=True)).evaluate()
    assert len(scored.predictors) == 1
