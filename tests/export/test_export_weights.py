"""Weights beside exported prompts: a trained backbone answers in an engine as in palate."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from engine import engine_answer, saved
from palate.config.recipe import PretrainedT5Settings
from palate.errors import DataError, MismatchError
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.model.model import load_model
from tiny import pretrained_model, tiny_backbone
from tiny_causal import STREAMING, causal_model, save_causal

ASKED = "Which genres does this user like and dislike?"
FAMILIES = ["llama", "qwen3", "gemma2", "gemma3"]


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:3])


def trained(model):
    """As if it had been trained: LoRA's updates are no longer nothing, and all weights others than the hub's."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


def run_of(data, place, train, family="llama", **settings):
    model = causal_model(data, save_causal(place / "hub", family), train=train, **settings)
    return saved(trained(model), place / "run")


def bare(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def answers(prompts, backbone, tokenizer):
    return [engine_answer(prompts, user_id, ASKED, backbone, tokenizer) for user_id in prompts.user_ids]


@pytest.mark.parametrize("train", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_backbone_answers_as_the_model_does(tiny_data, histories, tmp_path, family, train):
    run = run_of(tiny_data, tmp_path, train, family)
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], weights="backbone")
    model, prompts = load_model(run), read_prompts(tmp_path / "out", run)
    prompts.check()
    engine, hub = bare(tmp_path / "out" / "backbone"), bare(tmp_path / "hub")
    prompts.check_backbone(engine)
    expected = [model.generate([one], ASKED)[0] for one in histories]
    assert answers(prompts, engine, model.tokenizer) == expected
    own = model.complete(model.encode(histories), ASKED)
    read = [
        one(inputs_embeds=own.embeddings, attention_mask=own.mask, position_ids=own.positions).logits[:, -1]
        for one in (engine, model.backbone, hub)
    ]
    torch.testing.assert_close(read[0], read[1], atol=1e-3, rtol=1e-3)
    assert (read[2] - read[1]).abs().max() > 0.1  # what was trained is heard
    with pytest.raises(MismatchError, match="load the same one"):
        prompts.check_backbone(hub)


def test_the_exported_adapter_over_the_hubs_backbone_answers_as_the_model_does(
    tiny_data, histories, tmp_path
):
    run = run_of(tiny_data, tmp_path, "lora")
    manifest = export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], weights="adapter")
    model, prompts = load_model(run), read_prompts(tmp_path / "out", run)
    prompts.check()
    adapted = PeftModel.from_pretrained(bare(tmp_path / "hub"), tmp_path / "out" / "adapter")
    expected = [model.generate([one], ASKED)[0] for one in histories]
    assert answers(prompts, adapted.get_base_model(), model.tokenizer) == expected
    assert set(manifest.weights.files) == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (8, 16, "CAUSAL_LM")
    assert config["base_model_name_or_path"] == str(tmp_path / "hub")
    with safe_open(tmp_path / "out" / "adapter" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    trained_weights = [name for name, weight in model.backbone.named_parameters() if "lora_" in name]
    assert len(names) == len(trained_weights)
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    with pytest.raises(MismatchError, match="not merged here; export with --weights backbone"):
        prompts.check_backbone(bare(tmp_path / "hub"))


def test_a_merged_backbone_in_bfloat16_is_the_one_in_float32_rounded_once(tiny_data, histories, tmp_path):
    run = run_of(tiny_data, tmp_path, "lora")
    for dtype in ("float32", "bfloat16"):
        settings = {"instructions": [ASKED], "dtype": dtype, "weights": "backbone"}
        export_prompts(run, histories, tmp_path / dtype, **settings)
    prompts, tokenizer = read_prompts(tmp_path / "bfloat16", run), load_model(run).tokenizer
    engine = bare(tmp_path / "bfloat16" / "backbone", "auto")  # as its config says
    rounded = bare(tmp_path / "float32" / "backbone", torch.bfloat16)
    assert engine.dtype == torch.bfloat16
    prompts.check_backbone(engine)
    prompts.check_backbone(rounded)
    assert answers(prompts, engine, tokenizer) == answers(prompts, rounded, tokenizer)


@pytest.mark.parametrize("weights", ["backbone", "adapter"])
def test_the_same_run_has_the_same_weights(tiny_data, histories, tmp_path, weights):
    run = run_of(tiny_data, tmp_path, "lora")
    first, second = (
        export_prompts(run, histories[:1], tmp_path / name, weights=weights).weights for name in "ab"
    )
    assert first == second


def test_a_frozen_backbone_can_be_exported_and_stays_the_hubs(tiny_data, histories, tmp_path):
    run = run_of(tiny_data, tmp_path, "frozen")
    export_prompts(run, histories, tmp_path / "out", dtype="float16", weights="backbone")
    prompts = read_prompts(tmp_path / "out")
    prompts.check_backbone(bare(tmp_path / "hub"))
    prompts.check_backbone(bare(tmp_path / "hub", torch.float16))
    with pytest.raises(MismatchError, match=r"in float32 or sha256:\w+ in float16"):
        prompts.check_backbone(bare(tmp_path / "hub", torch.bfloat16))


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_an_adapter_comes_from_lora_alone(tiny_data, histories, tmp_path, train):
    run = run_of(tiny_data, tmp_path, train)
    with pytest.raises(MismatchError, match=rf"this model has {train}; export the whole backbone"):
        export_prompts(run, histories, tmp_path / "out", weights="adapter")
    assert not (tmp_path / "out").exists()


def test_weights_too_large_for_the_dtype_are_refused(tiny_data, histories, tmp_path):
    model = causal_model(tiny_data, save_causal(tmp_path / "hub"))
    with torch.no_grad():
        model.backbone.lm_head.weight[0, 0] = 1e6
    run = saved(model, tmp_path / "run")
    with pytest.raises(DataError, match=r"lm_head\.weight has values that are not finite in float16"):
        export_prompts(run, histories, tmp_path / "out", dtype="float16", weights="backbone")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_weights_are_told(tiny_data, histories, tmp_path, name):
    run = run_of(tiny_data, tmp_path, "lora")
    export_prompts(run, histories[:1], tmp_path / "out", weights="backbone")
    path = tmp_path / "out" / "backbone" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: its checksum is sha256:\w+, expected"):
        read_prompts(tmp_path / "out").check()
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}: the file is missing"):
        read_prompts(tmp_path / "out").check()


def test_a_manifest_cannot_lead_out_of_the_folder(tiny_data, histories, tmp_path):
    run = run_of(tiny_data, tmp_path, "lora")
    export_prompts(run, histories[:1], tmp_path / "out", weights="adapter")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("../run/config.json", "/etc/passwd", "a/../../b", ".hidden"):
        manifest["weights"]["files"] = {name: "sha256:" + "0" * 64}
        path.write_text(json.dumps(manifest))
        with pytest.raises(DataError, match=r"manifest\.json: weights"):
            read_prompts(tmp_path / "out")


@pytest.mark.parametrize("train", ["lora", "full"])
def test_an_encoder_decoder_can_be_exported_too(tiny_data, histories, tmp_path, train):
    made = tiny_backbone()
    made.model.save_pretrained(tmp_path / "t5")
    made.tokenizer.save_pretrained(tmp_path / "t5")
    settings = PretrainedT5Settings(name=str(tmp_path / "t5"), train=train)
    run = saved(trained(pretrained_model(tiny_data, settings, STREAMING)), tmp_path / "run")
    export_prompts(run, histories, tmp_path / "out", weights="backbone")
    model = load_model(run)
    engine = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out" / "backbone").eval()
    read_prompts(tmp_path / "out").check_backbone(engine)
    own = model.complete(model.encode(histories))
    ids = engine.generate(
        inputs_embeds=own.embeddings, attention_mask=own.mask, max_new_tokens=12, do_sample=False
    )
    assert model.tokenizer.batch_decode(ids, skip_special_tokens=True) == model.generate(histories)
