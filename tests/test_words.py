"""English words in generated sentences."""

import subprocess
import sys

import pytest

from palate.words import counted, plural, singular


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("genre", "genres"),
        ("category", "categories"),
        ("class", "classes"),
        ("series", "series"),
        ("news", "news"),
        ("shelf", "shelves"),
        ("dish", "dishes"),
        ("hero", "heroes"),
        ("person", "people"),
        ("business", "businesses"),
        ("status", "statuses"),
        ("movie", "movies"),
        ("species", "species"),
        ("anime", "anime"),
        ("bus", "buses"),
        ("epoch", "epochs"),
        ("branch", "branches"),
        ("tag_list", "tag_lists"),
        ("ジャンル", "ジャンル"),
    ],
)
def test_nouns_have_a_singular_and_a_plural(one, many):
    assert (plural(one), singular(many)) == (many, one)
    assert singular(one) == one


def test_a_phrase_is_about_its_first_things():
    assert plural("genre of music") == "genres of music"
    assert plural("sci-fi genre") == "sci-fi genres"
    assert plural("kind of shop in town") == "kinds of shop in town"


def test_one_thing_is_counted_in_the_singular():
    assert [counted(count, "category") for count in (0, 1, 1200)] == [
        "0 categories",
        "1 category",
        "1,200 categories",
    ]


def test_the_dictionary_is_loaded_when_a_word_is_asked_for():
    code = "import sys, palate.words, palate.cli; print('pluralizer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
