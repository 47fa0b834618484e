"""Tiny fixtures for tests of model and training: a dataset, its item vectors, a sentence encoder and a recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.backbones.base import Backbone
from palate.backbones.load import load_backbone
from palate.backbones.t5 import random_t5
from palate.config import registry
from palate.config.recipe import RandomT5Settings, Recipe, TaskSettings, TextSettings, UniversalSettings
from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.errors import MismatchError
from palate.items.blocks import build_block_table
from palate.items.categories import CategoryTable
from palate.items.encoder import EncoderIdentity
from palate.items.table import ItemTable
from palate.model.config import PersonalizedSettings
from palate.model.generation import Round
from palate.model.model import PersonalizedModel, load_model
from palate.schema import History
from palate.tasks import load_task

GENRES = ("Action", "Comedy", "Drama", "Film-Noir", "Sci-Fi")
ENCODER = EncoderIdentity("made-up", None, "0" * 64, 64)
WORDS = ["the", "movie", "film", "is", "listed", "with", "no", "genres", "rated", "stars"]


def with_own_registries(patch: pytest.MonkeyPatch) -> None:
    """Undo a test's registrations afterwards."""
    for one in (
        registry.user_encoders,
        registry.tasks,
        registry.predictors,
        registry.rankers,
        registry.rating_predictors,
    ):
        assert one.kinds  # palate's own are there
        patch.setattr(one, "_entries", dict(one._entries))


def write_movielens(folder: Path, users: int = 50, movies: int = 60, seed: int = 0) -> Path:
    """Write users with a taste for some genres, in the layout of MovieLens 100K; 20 to 40 ratings each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    has = rng.random((movies, len(GENRES))) < 0.3
    has[np.arange(movies), rng.integers(len(GENRES), size=movies)] = True
    lines = []
    for user in range(users):
        taste = rng.choice([-1.5, 0.0, 1.5], size=len(GENRES))
        for movie in rng.permutation(movies)[: rng.integers(20, 41)]:
            liking = 3.2 + has[movie] @ taste / has[movie].sum() + rng.normal(0, 0.4)
            rating = int(np.clip(round(liking), 1, 5))
            lines.append(f"{user + 1}\t{movie + 1}\t{rating}\t{880_000_000 + int(rng.integers(10**6))}")
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    names = ("unknown", *GENRES)
    (folder / "u.genre").write_text("".join(f"{name}|{number}\n" for number, name in enumerate(names)))
    rows = [
        f"{movie + 1}|Film {movie} ({1980 + movie % 20})|01-Jan-1990||http://example.org|0|"
        + "|".join(str(int(flag)) for flag in has[movie])
        for movie in range(movies)
    ]
    (folder / "u.item").write_text("\n".join(rows) + "\n")
    return folder


def prepare_tiny(folder: Path, **sizes: int) -> Dataset:
    """Prepare a dataset in ``folder/data``; most users are for training, a few each for dev and test."""
    raw = write_movielens(folder / "raw", **sizes)
    return prepare(raw, folder / "data", dev_share=0.2, test_share=0.2)


def made_up_table(dataset: Dataset, size: int = 16, seed: int = 0) -> ItemTable:
    """Build item vectors from which the categories can be decoded, without a sentence encoder."""
    rng = np.random.default_rng(seed)
    items, values = len(dataset.items), len(dataset.rating_values)
    directions = rng.normal(size=(len(dataset.categories), 2 * size))
    vectors = dataset.category_matrix @ directions + 0.3 * rng.normal(size=(items, 2 * size))
    vectors = (vectors / 4).reshape(items, 2, size).astype(np.float32)
    present = np.ones((items, 2), dtype=np.bool_)
    rating_vectors = rng.normal(size=(values, size)).astype(np.float32) / 4
    return ItemTable(dataset.item_ids, vectors, present, dataset.rating_values, rating_vectors, ENCODER)


TINY_T5 = RandomT5Settings(d_model=32, d_ff=64, num_heads=2, num_layers=1, vocab_size=400)
TEXTS = [f"The user likes {a}, {b} and doesn't like {c}" for a in GENRES for b in GENRES for c in GENRES] + [
    "Which genres does this user like and dislike?",
    "The user likes no genre and doesn't like any genre",
]


def asked(instruction: Any, target: Any) -> Round:
    """Build a round of questions from tokenized instructions and targets."""
    return {
        "instruction": instruction["input_ids"],
        "instruction_mask": instruction["attention_mask"],
        "target": target["input_ids"],
        "target_mask": target["attention_mask"],
    }


def tiny_backbone(seed: int = 0, layers: int = 1) -> Backbone:
    import torch

    torch.manual_seed(seed)
    backbone = random_t5(TINY_T5.model_copy(update={"num_layers": layers}), TEXTS)
    # sharper than fresh weights, so that different inputs have different greedy answers
    with torch.no_grad():
        for weight in backbone.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return backbone


def tiny_settings(dataset: Dataset, user_encoder: Any, **changes: Any) -> PersonalizedSettings:
    """Return the settings of the tests' models, for any backbone."""
    content: dict[str, Any] = {
        "user_encoder": user_encoder,
        "task_prompt": 4,
        "window": 10,
        "max_new_tokens": 12,
        "instruction": load_task(TaskSettings(), dataset.info).instruction,
        "task": TaskSettings(),
        "category_field": "genre",
        "categories": dataset.categories,
        "data_name": dataset.info.name,
        "data_fingerprint": dataset.info.fingerprint,
    }
    return PersonalizedSettings(**{**content, **changes})


def tiny_model(dataset: Dataset, user_encoder: Any, seed: int = 0, **settings: Any) -> PersonalizedModel:
    """Build a model with random weights over synthetic item vectors, in evaluation mode."""
    import torch

    backbone = tiny_backbone(seed)
    torch.manual_seed(seed + 1)
    config = tiny_settings(dataset, user_encoder, **settings)
    return PersonalizedModel(config, backbone, made_up_table(dataset)).eval()


def unbound_model(seed: int = 0, **changes: Any) -> PersonalizedModel:
    """Build a model without a dataset, with random weights, in evaluation mode."""
    import torch

    backbone = tiny_backbone(seed)
    torch.manual_seed(seed)
    content: dict[str, Any] = {
        "user_encoder": UniversalSettings(d_model=16, num_layers=1, num_heads=2),
        "task_prompt": 0,
        "window": 10,
        "max_new_tokens": 12,
        "instruction": "",
        "task": TaskSettings(),
        "category_field": "category",
        "categories": (),
        "data_name": "none",
        "data_fingerprint": "",
    }
    settings = PersonalizedSettings(**{**content, **changes})
    nothing = CategoryTable([], [], np.zeros((0, 0), np.int16), (), np.zeros(0, np.float32), "category")
    model = PersonalizedModel(settings, backbone, nothing).eval()
    with torch.no_grad():  # at first the network adds nothing to what it is given
        for weight in model.user_encoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def pretrained_model(
    dataset: Dataset, backbone: Any, user_encoder: Any, **settings: Any
) -> PersonalizedModel:
    """Build a model around the backbone that the settings name, in evaluation mode."""
    import torch

    made, source = load_backbone(backbone)
    torch.manual_seed(1)
    config = tiny_settings(dataset, user_encoder, backbone=source, **settings)
    table = build_block_table(dataset) if isinstance(user_encoder, TextSettings) else made_up_table(dataset)
    return PersonalizedModel(config, made, table).eval()


def assert_only_its_backbone_is_taken(
    model: PersonalizedModel, histories: list[History], backbone: Path, other: Path, refusal: str
) -> Path:
    """Check that a saved model loads only with its own ``backbone``, from any path; return where it was saved."""
    saved, moved = (backbone.with_name(f"{backbone.name}-{name}") for name in ("saved", "moved"))
    answers = model.generate(histories)
    model.save_pretrained(saved)
    assert not (saved / "backbone").exists()
    assert load_model(saved).generate(histories) == answers
    backbone.rename(moved)
    with pytest.raises(MismatchError, match=refusal):
        load_model(saved)
    assert load_model(saved, backbone=str(moved)).generate(histories) == answers
    with pytest.raises(MismatchError, match=r"was trained with the backbone .* load it with the backbone"):
        load_model(saved, backbone=str(other))
    return saved


def save_tiny_encoder(folder: Path) -> Path:
    """Save a BERT of hidden size 16 with mean pooling and normalisation, by sentence-transformers."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    digits = [*"0123456789", *(f"##{digit}" for digit in "0123456789")]
    genres = [part for name in GENRES for part in name.lower().split("-")]
    words = [*special, *WORDS, *digits, *genres]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(16), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "encoder"))
    return folder / "encoder"


def tiny_recipe(data: Path, encoder: Path, cache: Path, /, **sections: dict[str, Any]) -> Recipe:
    """Return a recipe that trains in a second or two; ``sections`` are merged into its sections."""
    content: dict[str, dict[str, Any]] = {
        "data": {"path": data},
        "items": {"encoder": str(encoder), "max_seq_length": 32, "cache": cache},
        "windows": {"kind": "random", "shortest": 5, "longest": 10},
        "model": {
            "backbone": TINY_T5.model_dump(),
            "user_encoder": {
                "kind": "streaming",
                "num_queries": 8,
                "d_model": 16,
                "num_layers": 1,
                "num_heads": 2,
            },
            "task_prompt": 2,
        },
        "simulation": {"users": 0},
        "train": {
            "max_steps": 12,
            "per_device_train_batch_size": 8,
            "learning_rate": 3e-3,
            "eval_steps": 4,
            "eval_users": 6,
        },
        "evaluate": {"window": 10, "batch_size": 8, "max_new_tokens": 24},
    }
    for name, changes in sections.items():
        content[name] = {**content[name], **changes}
    return Recipe.model_validate({"name": "tiny", **content})
