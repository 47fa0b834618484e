"""Fixture: a tiny sentence encoder with random weights, in the real folder format."""

import os
from pathlib import Path

import pytest

WORDS = ["the", "movie", "is", "listed", "with", "no", "genres", "rated", "stars", "comedy", *"abcdefg"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A BERT of hidden size 32 with mean pooling and normalisation, saved by sentence-transformers."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    digits = [*"0123456789", *(f"##{digit}" for digit in "0123456789")]
    vocabulary = root / "vocab.txt"
    vocabulary.write_text("\n".join([*special, *WORDS, *digits]))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS) + len(digits),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(root / "bert")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(root / "bert")
    modules = [Transformer(str(root / "bert")), Pooling(32), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(root / "tiny"))
    return root / "tiny"
