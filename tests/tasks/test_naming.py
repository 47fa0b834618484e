"""Category and item names in questions: exact, shortened or misspelt, and never ambiguous."""

import pytest

from palate.errors import QuestionError
from palate.tasks.naming import CatalogueNames

CATEGORIES = ["Comedy", "Film-Noir", "Children's", "War", "Sci-Fi"]
FILMS = [
    ("Toy Story", 1995), ("Matrix, The", 1999), ("Titanic", 1953), ("Titanic", 1997), ("It", 2017),
    ("Star Wars (1977)", None), ("Terminator, The", 1984), ("Terminator 2: Judgment Day", 1991),
    ("Seven (Se7en)", 1995),
    ("That Thing You Do!", 1996), ("Amélie", 2001),
]  # fmt: skip


@pytest.fixture(scope="module")
def names():
    return CatalogueNames(CATEGORIES, [t for t, _ in FILMS], [y for _, y in FILMS], ("CAT", "ITEM"))


def found(names, text):
    return [one.name for one in names.find(text).entities]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Does this user like Comedy?", ["Comedy"]),
        ("do they like comedies or film noir", ["Comedy", "Film-Noir"]),
        ("Is it for children's films?", ["Children's"]),
        ("would he enjoy toy story", ["Toy Story (1995)"]),
        ("Is The Matrix or Seven better?", ["Matrix, The (1999)", "Seven (Se7en) (1995)"]),
        ("Would she like Star Wars?", ["Star Wars (1977)"]),
        ("Titanic (1997), perhaps?", ["Titanic (1997)"]),
        ('Would they like "It"?', ["It (2017)"]),
        ("Would they like It?", ["It (2017)"]),
        ("Do they like it?", []),
        ("Is that thing you do good?", []),
        ("Is That Thing You Do good?", ["That Thing You Do! (1996)"]),
        ("Would I like amelie?", ["Amélie (2001)"]),
        ("Does this user like Comdey?", ["Comedy"]),
        ("What should I recommend and why?", []),
    ],
)
def test_names_are_found(names, question, expected):
    assert found(names, question) == expected


def test_placeholders_stand_in_the_places_of_names(names):
    told = names.find("Is Comedy better than Toy Story?")
    assert " ".join(told.text.split()) == "Is CAT better than ITEM ?"
    assert [(one.kind, one.index, one.said) for one in told.entities] == [
        ("category", 0, "Comedy"), ("item", 0, "Toy Story"),
    ]  # fmt: skip


def test_a_name_of_several_items_lists_them(names):
    with pytest.raises(
        QuestionError, match=r"'Titanic' may be 2 names: 'Titanic \(1953\)'; 'Titanic \(1997\)'"
    ):
        names.find("Would this user like Titanic?")
    assert found_with(names, "Would this user like Titanic?", [("item", 3)]) == ["Titanic (1997)"]


def found_with(names, text, meant):
    return [one.name for one in names.find(text, meant).entities]


def test_a_name_that_is_nothing_is_refused_with_what_is_near(names):
    with pytest.raises(QuestionError, match="no category or item is called 'Pizza'"):
        names.find("Does this user like Pizza?")
    with pytest.raises(QuestionError, match="no category or item is called 'Matrices'; did you mean"):
        names.find("Would they like 'Matrices'?")


def test_a_number_in_a_name_is_not_passed_over(names):
    """The second part is never taken for the first."""
    with pytest.raises(QuestionError, match="no category or item is called 'Terminater 2'"):
        names.find("Would they like Terminater 2?")


def test_an_empty_catalogue_names_nothing():
    assert CatalogueNames([], [], [], ("CAT", "ITEM")).find("Does this user like it?").entities == ()
