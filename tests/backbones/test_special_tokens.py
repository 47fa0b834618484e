"""Tokenizers without pad or end token, with tokens outside the embedding, or of another model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from palate.backbones.load import load_backbone
from palate.config.recipe import CausalSettings, PretrainedT5Settings
from palate.errors import MismatchError
from palate.model.build import build_backbone
from tiny import pretrained_model, tiny_backbone
from tiny_causal import STREAMING, causal_model, save_causal, tokenizer_with_a_beginning


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("backbones")
    save_causal(place / "causal")
    made = tiny_backbone()
    made.model.save_pretrained(place / "t5")
    made.tokenizer.save_pretrained(place / "t5")
    return place


@pytest.fixture
def copied(folders, tmp_path):
    def copy(kind):
        shutil.copytree(folders / kind, tmp_path / kind)
        return tmp_path / kind

    return copy


def edit(path, **changes):
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not ...:
            content[key] = value
    path.write_text(json.dumps(content))


def forget(folder, *names):
    """Let a tokenizer not know which of its tokens are special."""
    edit(folder / "tokenizer_config.json", **dict.fromkeys(names, ...))


def people(data):
    return data.histories(sorted(data.user_ids, key=lambda one: len(data.histories([one])[0]))[:5])


def pad_outside(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    assert tokenizer.pad_token_id == len(tokenizer_with_a_beginning())


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: forget(folder, "pad_token"),
        pad_outside,
        lambda folder: edit(folder / "config.json", pad_token_id=-1),
        lambda folder: edit(folder / "tokenizer_config.json", pad_token="</s>"),
    ],
    ids=["none", "outside", "negative", "the end"],
)
def test_whatever_pads_a_decoder_only_model_says_the_same(tiny_data, folders, copied, change):
    whole = causal_model(tiny_data, folders / "causal", train="frozen")
    changed = copied("causal")
    change(changed)
    again = causal_model(tiny_data, changed, train="frozen")
    questions = ["Why?", "Which genres does this user like and dislike?"] * 2 + ["Why?"]
    windows = people(tiny_data)
    prompts = whole.encode(windows).embeddings
    again.load_state_dict(whole.state_dict())
    assert again.generate_from(prompts, questions) == whole.generate_from(prompts, questions)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: forget(folder, "pad_token"),
        lambda folder: forget(folder, "eos_token"),
        lambda folder: edit(folder / "config.json", decoder_start_token_id=...),
        lambda folder: edit(folder / "config.json", decoder_start_token_id=99_999, eos_token_id=99_999),
        lambda folder: edit(folder / "config.json", decoder_start_token_id=None, pad_token_id=None),
    ],
    ids=["no pad", "no end", "no start", "start and end outside", "neither start nor pad"],
)
def test_a_t5_that_lacks_special_tokens_says_the_same(tiny_data, folders, copied, change):
    whole = pretrained_model(
        tiny_data, PretrainedT5Settings(name=str(folders / "t5"), train="frozen"), STREAMING
    )
    changed = copied("t5")
    (changed / "generation_config.json").unlink()
    change(changed)
    settings = PretrainedT5Settings(name=str(changed), train="frozen")
    again = pretrained_model(tiny_data, settings, STREAMING)
    again.load_state_dict(whole.state_dict())
    assert again.generate(people(tiny_data)) == whole.generate(people(tiny_data))


def without_an_end(folder):
    forget(folder, "eos_token")
    edit(folder / "config.json", eos_token_id=...)


def of_another_model(folder):
    other = AutoTokenizer.from_pretrained(folder)
    other.add_tokens(["a token of another model"])
    other.save_pretrained(folder)


def without_words(folder):
    edit(folder / "tokenizer.json", normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""})


def not_finite(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def an_encoder(folder):
    size = len(AutoTokenizer.from_pretrained(folder))
    config = BertConfig(
        vocab_size=size, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(folder)


def cut(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_an_end, "its tokenizer has no end token, and its config names none"),
        (
            of_another_model,
            "its tokenizer is another model's: 1 tokens, the first 'a token of another model'",
        ),
        (without_words, "its tokenizer knows no words"),
        (not_finite, "its weight model.norm.weight has numbers that are not finite"),
        (an_encoder, "reads what follows a token, too, as an encoder does"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "header too small"),
        (cut("model.safetensors"), "incomplete metadata"),
        (cut("tokenizer.json"), ""),
        (cut("config.json"), ""),
        (lambda folder: edit(folder / "config.json", model_type="zebra"), "zebra"),
        (lambda folder: edit(folder / "config.json", hidden_size="wide"), "expected int, got str"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_is_no_decoder_only_backbone_is_refused_in_one_line(copied, damage, said):
    folder = copied("causal")
    damage(folder)
    with pytest.raises(MismatchError, match="cannot be loaded as a decoder-only model") as caught:
        load_backbone(CausalSettings(name=str(folder)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_special_tokens_behind_the_embedding_that_no_text_holds_are_no_fault(tiny_data, copied):
    """As Gemma 3's, whose tokenizer knows a token for images that its text models have no row for."""
    folder = copied("causal")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    model = causal_model(tiny_data, folder, train="frozen", like_tokens=True, task_prompt=200)
    assert model.vocab_size == len(tokenizer) - 1
    assert model.generate(people(tiny_data)[:1])


def test_a_wrong_backbone_is_refused_before_the_items_are_encoded(tiny_data, copied):
    from palate.config.recipe import Recipe
    from palate.tasks import load_task

    folder = copied("causal")
    without_an_end(folder)
    recipe = Recipe.model_validate({"model": {"backbone": {"kind": "causal", "name": str(folder)}}})
    with pytest.raises(MismatchError, match="no end token"):
        build_backbone(recipe, tiny_data, load_task(recipe.task, tiny_data.info))
