"""Backbones: checkpoints in the hub's layouts, random weights, and tokenizers trained on the data."""

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LongT5Config,
    LongT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from palate.backbones.t5 import build_tokenizer, load_t5, random_t5, rebuild_t5
from palate.config.recipe import PretrainedT5Settings
from palate.errors import MismatchError
from tiny import GENRES, TEXTS, TINY_T5, tiny_backbone

TOKENIZER = build_tokenizer(TEXTS, 400)
IDS = torch.tensor([[5, 9, 20, 33, 1]])
LABELS = torch.tensor([[7, 30, 1]])


def reference(tied: bool) -> T5ForConditionalGeneration:
    """T5 v1.1 and Flan-T5 have an output layer of their own; the first T5 shares its embedding."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(TOKENIZER),
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="relu" if tied else "gated-gelu",
        tie_word_embeddings=tied,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    return model


def save_as_on_the_hub(model, folder, tied, sharded=False):
    """The files of google/t5-v1_1-small and google/flan-t5-small: plain weights, their config, tokenizer.json."""
    from safetensors.torch import save_file

    folder.mkdir()
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    weights = {name: weight for name, weight in weights.items() if "embed_tokens" not in name}
    if tied:
        del weights["lm_head.weight"]
    parts = [weights] if not sharded else [dict(list(weights.items())[part::3]) for part in range(3)]
    names = [
        "model.safetensors" if not sharded else f"model-{part + 1:05}-of-00003.safetensors"
        for part in range(len(parts))
    ]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    if sharded:
        places = {weight: name for name, part in zip(names, parts, strict=True) for weight in part}
        index = {"metadata": {"total_size": 0}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_ff": 32,
        "d_kv": 4,
        "d_model": 16,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "relu" if tied else "gated-gelu",
        "is_encoder_decoder": True,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "num_layers": 2,
        "pad_token_id": 0,
        "vocab_size": len(TOKENIZER),
    }
    if not tied:
        config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    TOKENIZER.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, labels=LABELS).logits


@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "sharded"])
@pytest.mark.parametrize("attention", ["local", "transient-global"])
def test_a_long_t5_in_the_hubs_layout_answers_as_it_did(tmp_path, attention, sharded):
    """The files of google/long-t5-local-base and google/long-t5-tglobal-base."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(TOKENIZER),
        "d_model": 16,
        "d_kv": 4,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 4,
    }
    config = LongT5Config(
        **sizes,
        encoder_attention_type=attention,
        local_radius=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    saved = LongT5ForConditionalGeneration(config).eval()
    saved.lm_head.weight = torch.nn.Parameter(torch.randn_like(saved.shared.weight))
    folder = save_as_on_the_hub(saved, tmp_path / "long-t5", tied=False, sharded=sharded)
    content = json.loads((folder / "config.json").read_text())
    content |= {"model_type": "longt5", "encoder_attention_type": attention, "local_radius": 3}
    content["architectures"] = ["LongT5ForConditionalGeneration"]
    (folder / "config.json").write_text(json.dumps(content))
    loaded = load_t5(PretrainedT5Settings(name=str(folder)))
    assert torch.equal(logits(loaded.model.eval()), logits(saved))
    assert loaded.model.config.encoder_attention_type == attention
    loaded.model.config.save_pretrained(tmp_path / "again")
    TOKENIZER.save_pretrained(tmp_path / "again")
    rebuilt = rebuild_t5(tmp_path / "again").model.eval()
    rebuilt.load_state_dict(loaded.model.state_dict())
    assert torch.equal(logits(rebuilt), logits(saved))


@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "sharded"])
@pytest.mark.parametrize("tied", [False, True], ids=["v1.1", "first"])
def test_a_checkpoint_in_the_hubs_layout_answers_as_it_did(tmp_path, tied, sharded):
    saved = reference(tied)
    folder = save_as_on_the_hub(saved, tmp_path / "t5", tied, sharded)
    loaded = load_t5(PretrainedT5Settings(name=str(folder)))
    assert torch.equal(logits(loaded.model.eval()), logits(saved))
    assert torch.equal(loaded.model.lm_head.weight, loaded.model.shared.weight) is tied
    assert loaded.tokenizer("The user likes Drama").input_ids == TOKENIZER("The user likes Drama").input_ids


def test_weights_in_half_precision_are_loaded_in_full(tmp_path):
    folder = save_as_on_the_hub(reference(False).bfloat16(), tmp_path / "t5", tied=False)
    model = load_t5(PretrainedT5Settings(name=str(folder))).model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_sentencepiece_tokenizer_is_read(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    folder = save_as_on_the_hub(reference(False), tmp_path / "t5", tied=False)
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "spiece.model", folder / "spiece.model")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "<pad>", "eos_token": "</s>"}
        )
    )
    tokenizer = load_t5(PretrainedT5Settings(name=str(folder))).tokenizer
    ids = tokenizer(TEXTS[3]).input_ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == TEXTS[3].split()


def bert(folder):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(folder)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def without(name):
    return lambda folder: (folder / name).unlink()


def without_decoder(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "decoder.block.1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        without("model.safetensors"),
        without("config.json"),
        without("tokenizer.json"),
        without_decoder,
        bert,
    ],
    ids=["truncated", "no-weights", "no-config", "no-tokenizer", "missing-layer", "a-bert"],
)
def test_a_folder_that_is_no_whole_t5_is_refused_in_one_line(tmp_path, damage):
    folder = save_as_on_the_hub(reference(False), tmp_path / "t5", tied=False)
    damage(folder)
    with pytest.raises(MismatchError, match="cannot be loaded as a T5") as caught:
        load_t5(PretrainedT5Settings(name=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_told_in_one_line(tmp_path):
    with pytest.raises(MismatchError, match=r"absent' cannot be loaded as a T5 .*random-t5") as caught:
        load_t5(PretrainedT5Settings(name=str(tmp_path / "absent")))
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_round_trips(text):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids, skip_special_tokens=True) == text.replace(
        "<pad>", ""
    ).replace("</s>", "")


def test_the_words_of_targets_are_single_tokens():
    for text in TEXTS:
        words = text.replace(",", " ,").replace("?", " ?").split(" ")
        assert len(TOKENIZER(text).input_ids) == len(words) + 1  # and the end


def test_texts_end_with_the_end_and_are_padded_on_the_right():
    tokens = TOKENIZER(["The user likes Drama", ""], padding=True)
    assert tokens["input_ids"][1] == [1, 0, 0, 0, 0]
    assert tokens["attention_mask"] == [[1] * 5, [1, 0, 0, 0, 0]]
    assert tokens["input_ids"][0][-1] == TOKENIZER.eos_token_id == 1


def test_the_tokenizer_has_no_more_tokens_than_asked_for():
    assert len(build_tokenizer(TEXTS, 300)) == 300


def test_a_random_backbone_has_the_sizes_of_the_recipe():
    backbone = tiny_backbone()
    config = backbone.model.config
    assert (config.d_model, config.d_ff, config.num_heads, config.num_layers, config.num_decoder_layers) == (
        *(32, 64, 2, 1, 1),
    )
    assert config.vocab_size == len(backbone.tokenizer)
    assert set(" ".join(GENRES).split()) <= {token.lstrip("Ġ") for token in backbone.tokenizer.get_vocab()}


def test_the_seed_makes_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return random_t5(TINY_T5, TEXTS).model.shared.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
