"""Names as a tokenizer spells them inside a text."""

import pytest

from palate.backbones.spelling import spelled
from palate.backbones.t5 import build_tokenizer

NAMES = ["Comedy", "Sci-Fi", "愛情", "Ünïcode 2", "a"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(["The user likes Comedy and doesn't like Drama"] * 20, 300)


def test_names_are_spelled_as_in_a_sentence(tokenizer):
    for name, ids in zip(NAMES, spelled(tokenizer, NAMES), strict=True):
        assert tokenizer.decode(ids) == f" {name}"
        whole = tokenizer(f"The user likes {name}, Drama", add_special_tokens=False)["input_ids"]
        assert ids in [whole[at : at + len(ids)] for at in range(len(whole))]


def test_no_names_are_no_tokens(tokenizer):
    assert spelled(tokenizer, []) == []
