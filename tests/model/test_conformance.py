"""The conformance suite of backbones passes supported families and fails deviating models."""

import json

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.models.bert import BertConfig
from transformers.models.mamba import MambaConfig
from typer.testing import CliRunner

from palate.cli.app import app
from palate.config.recipe import CausalSettings
from palate.model.conformance import check_conformance
from tiny_causal import FAMILIES, OTHER_FAMILIES, save_causal

CHAT = (
    "<s>{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def checked(folder):
    found = check_conformance(CausalSettings(name=str(folder)))
    return {one.name: one for one in found.checks}, found


def failed(checks):
    return {name for name, one in checks.items() if one.passed is False}


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES])
def test_every_family_passes(tmp_path, family):
    checks, found = checked(save_causal(tmp_path / family, family, template=CHAT))
    assert not failed(checks), {name: checks[name].found for name in failed(checks)}
    assert found.passed
    assert {name for name, one in checks.items() if one.passed is None} <= {"context length"}
    assert len(checks) == 18


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
def test_gemma_scales_its_embedding_by_the_root_of_its_size(tmp_path, family):
    checks, _ = checked(save_causal(tmp_path / family, family))
    assert "√32" in checks["scaling of the embedding"].found


def test_a_model_without_a_chat_template_is_told_so(tmp_path):
    checks, found = checked(save_causal(tmp_path / "bare"))
    assert found.passed
    assert checks["frame of the chat template"].passed is None
    assert "no chat template" in checks["frame of the chat template"].found


def broken(monkeypatch, change):
    """Llama whose forward is another's: ``change`` gets its named arguments."""
    true = LlamaForCausalLM.forward

    def forward(self, input_ids=None, inputs_embeds=None, position_ids=None, logits_to_keep=0, **named):
        given = {
            "input_ids": input_ids,
            "inputs_embeds": inputs_embeds,
            "position_ids": position_ids,
            "logits_to_keep": logits_to_keep,
            **named,
        }
        return true(self, **change(given))

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (  # as Gemma did before transformers 5.4
            lambda given: (
                given
                if given["inputs_embeds"] is None
                else {**given, "inputs_embeds": given["inputs_embeds"] * 5.7}
            ),
            {"embeddings as input"},
        ),
        (
            lambda given: {**given, "attention_mask": None, "position_ids": None},
            {"attention mask", "padding"},
        ),
        (lambda given: {**given, "logits_to_keep": 0}, {"logits_to_keep"}),
    ],
    ids=["scales again", "no mask", "all logits"],
)
def test_what_a_model_does_otherwise_is_found(tmp_path, monkeypatch, change, expected):
    folder = save_causal(tmp_path / "llama")
    broken(monkeypatch, change)
    checks, found = checked(folder)
    assert expected <= failed(checks)
    assert not found.passed


def test_a_model_that_counts_padding_is_found(tmp_path, monkeypatch):
    folder = save_causal(tmp_path / "gpt2", "gpt2")
    from transformers import GPT2LMHeadModel

    true = GPT2LMHeadModel.forward

    def forward(self, input_ids=None, position_ids=None, inputs_embeds=None, logits_to_keep=0, **named):
        return true(
            self, input_ids=input_ids, inputs_embeds=inputs_embeds, logits_to_keep=logits_to_keep, **named
        )

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    checks, _ = checked(folder)
    assert "padding" in failed(checks)


@pytest.mark.parametrize(
    ("config", "reason"),
    [(BertConfig, "reads what follows a token"), (MambaConfig, "does not answer from embeddings alone")],
)
def test_a_model_that_cannot_be_one_is_refused_with_the_reason(tmp_path, config, reason):
    from transformers import AutoModelForCausalLM

    from tiny_causal import tokenizer_with_a_beginning

    tokenizer = tokenizer_with_a_beginning()
    sizes = {"num_attention_heads": 2, "intermediate_size": 32} if config is BertConfig else {}
    made = config(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, **sizes)
    AutoModelForCausalLM.from_config(made).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    checks, found = checked(tmp_path)
    assert list(checks) == ["loads"]
    assert not found.passed
    assert found.architecture is None
    assert reason in checks["loads"].found


def test_the_command_shows_a_table_and_says_by_its_exit_code(tmp_path):
    folder = save_causal(tmp_path / "llama")
    good = CliRunner().invoke(app, ["check-backbone", str(folder)])
    assert good.exit_code == 0, good.output
    assert "It can be a backbone." in good.output
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "model_type": "t5"})
    )
    bad = CliRunner().invoke(app, ["check-backbone", str(folder)])
    assert bad.exit_code == 1
    assert "1 of 1 checks failed." in bad.output


@pytest.mark.slow
def test_the_packaged_gemma_passes():
    torch.manual_seed(0)
    found = check_conformance(CausalSettings())
    assert found.passed, [one for one in found.checks if one.passed is False]
    assert found.architecture == "Gemma3ForCausalLM"
