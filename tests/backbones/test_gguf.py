"""GGUF files: converted once, then loaded from safetensors; the packaged Gemma among them."""

import sys

import pytest
import torch

from palate.backbones import gguf
from palate.backbones.gguf import GEMMA, PACKAGE, converted_gguf, packaged_gemma
from palate.backbones.load import load_backbone
from palate.config.recipe import CausalSettings
from palate.errors import DataError, MissingExtraError
from palate.system.extras import install_line


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "cache_folder", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "gguf"


def test_a_file_is_converted_once_and_another_content_anew(tmp_path, cache, monkeypatch):
    converted = []

    def convert(path, folder):
        converted.append(path.read_text())
        (folder / "config.json").write_text(path.read_text())

    monkeypatch.setattr(gguf, "_convert", convert)
    path = tmp_path / "model.gguf"
    path.write_text("one")
    first = converted_gguf(path)
    assert converted_gguf(path) == first
    path.write_text("two")
    assert (converted_gguf(path) / "config.json").read_text() == "two"
    assert (first / "config.json").read_text() == "one"
    assert converted == ["one", "two"]


def test_a_conversion_that_fails_leaves_nothing(tmp_path, cache):
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF no such thing")
    with pytest.raises(DataError, match=r"model\.gguf: not a readable GGUF file") as caught:
        converted_gguf(path)
    assert "\n" not in str(caught.value)
    assert not [place for place in cache.iterdir() if place.is_dir()]


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("gguf", lambda path: converted_gguf(path), "gguf"),
        (PACKAGE, lambda path: packaged_gemma(), "gemma"),
    ],
)
def test_a_missing_extra_names_the_command(tmp_path, cache, monkeypatch, missing, call, extra):
    (path := tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError) as caught:
        call(path)
    assert install_line(extra) in str(caught.value)


LLAMA_CPP = {
    "The capital of France is": {" the": 0.179, " a": 0.108, " Paris": 0.091, " one": 0.073},
    "Paris is the capital of": {" France": 0.742, " the": 0.129, " French": 0.053, " Europe": 0.014},
    "1, 2, 3, 4, 5,": {" ": 0.927, " ...": 0.010},
}
"""The likeliest next tokens of the same file by llama-cpp-python 0.3.36, which multiplies in eight bits."""


@pytest.mark.slow
def test_the_packaged_gemma_says_what_another_engine_says_from_tokens_and_from_embeddings():
    pytest.importorskip(PACKAGE)
    backbone, source = load_backbone(CausalSettings(name=GEMMA, train="frozen"))
    model, tokenizer = backbone.model.eval(), backbone.tokenizer
    assert backbone.frame.opening == (tokenizer.bos_token_id,)
    for text, likely in LLAMA_CPP.items():
        ids = torch.tensor([[*backbone.frame.opening, *tokenizer(text)["input_ids"]]])
        from_tokens = model(input_ids=ids).logits
        from_embeddings = model(inputs_embeds=backbone.token_embeddings(ids)).logits
        torch.testing.assert_close(from_tokens, from_embeddings)
        chances = from_tokens[0, -1].softmax(dim=-1)
        assert tokenizer.decode(chances.argmax()) == max(likely, key=likely.__getitem__)
        for token, chance in likely.items():
            assert chances[tokenizer(token)["input_ids"][0]].item() == pytest.approx(chance, abs=0.04)
    assert load_backbone(CausalSettings(name=GEMMA, train="frozen"))[1] == source
