"""Random names: in many scripts, distinct, and usable in a sentence."""

import unicodedata

import numpy as np
import pytest

from palate.pretraining.names import random_catalogue, random_field, random_word, similar_catalogue
from palate.tasks.verbalizer import Verbalizer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("size", [2, 30, 200])
def test_the_names_of_a_catalogue_are_different_whatever_their_case(rng, size):
    names = random_catalogue(rng, size)
    assert len({name.casefold() for name in names}) == len(names) == size


def test_nearly_every_catalogue_can_be_said_and_read_back(rng):
    refused = 0
    for _ in range(40):
        names = random_catalogue(rng, 20)
        try:
            Verbalizer(names, random_field(rng), 3)
        except Exception:
            refused += 1
    assert refused <= 8


def test_they_are_of_many_scripts_with_digits_and_punctuation(rng):
    text = "".join(name for _ in range(60) for name in random_catalogue(rng, 20))
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()}
    assert scripts >= {
        "LATIN",
        "GREEK",
        "CYRILLIC",
        "HEBREW",
        "ARABIC",
        "HIRAGANA",
        "KATAKANA",
        "CJK",
        "HANGUL",
    }
    assert set("0123456789-&'/!?+") <= set(text)
    assert any(unicodedata.decomposition(letter) for letter in text)  # accents


def test_similar_names_are_different_and_share_their_beginnings(rng):
    shared = 0
    for _ in range(20):
        names = similar_catalogue(rng, 12)
        assert len({name.casefold() for name in names}) == len(names) == 12
        shared += len({name[:3] for name in names}) < len(names)
    assert shared > 10


def test_names_share_words(rng):
    names = random_catalogue(rng, 60)
    first = [name.split()[0].casefold() for name in names]
    assert len(set(first)) < len(first)


def test_words_are_letters_and_a_seed_gives_the_same(rng):
    words = [random_word(rng) for _ in range(50)]
    assert all(all(unicodedata.category(one)[0] in "LM" for one in word) for word in words)
    assert random_catalogue(np.random.default_rng(3), 20) == random_catalogue(np.random.default_rng(3), 20)
