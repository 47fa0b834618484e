"""Batches of texts are padded as the tokenizer does it, and threads can share a tokenizer."""

import threading

import pytest
import torch

from palate.backbones.tokens import padded_tokens
from tiny_causal import tokenizer_with_a_beginning

TEXTS = ["The user likes Drama", "Drama", "The user likes Comedy and Drama, and nothing else"]


@pytest.fixture(scope="module")
def tokenizer():
    made = tokenizer_with_a_beginning()
    made.padding_side = "right"
    return made


def test_texts_are_padded_as_by_the_tokenizer(tokenizer):
    expected = tokenizer(TEXTS, padding=True, return_tensors="pt", return_offsets_mapping=True)
    found = padded_tokens(tokenizer, TEXTS, offsets=True)
    assert torch.equal(found.ids, expected["input_ids"])
    assert torch.equal(found.mask, expected["attention_mask"])
    assert torch.equal(found.offsets, expected["offset_mapping"])
    assert padded_tokens(tokenizer, TEXTS).offsets is None


def test_a_text_that_is_counted_meanwhile_is_not_padded(tokenizer):
    alone = [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
    assert len(set(alone)) == len(TEXTS)
    counted, padding = [], threading.Event()

    def pad():
        while not padding.is_set():
            padded_tokens(tokenizer, TEXTS)

    threads = [threading.Thread(target=pad) for _ in range(2)]
    for one in threads:
        one.start()
    try:
        counted = [[len(ids) for ids in tokenizer(TEXTS)["input_ids"]] for _ in range(500)]
    finally:
        padding.set()
        for one in threads:
            one.join()
    assert all(one == alone for one in counted)
