"""Descriptions are joined to the right movies only."""

import pytest

from palate.data.movielens.descriptions import Description, describe, read_descriptions, title_keys
from palate.errors import DataError
from palate.schema import Item


def item(item_id, title, year=None):
    return Item(str(item_id), title, year=year)


def texts(items, *rows):
    """The descriptions that the items get from rows (title, year, text)."""
    described, left_over = describe(items, [Description(None, *row) for row in rows])
    return [one.description for one in described], left_over


@pytest.mark.parametrize(
    ("in_movielens", "elsewhere"),
    [
        ("Matrix, The", "The Matrix"),
        ("Matrix, The", "THE MATRIX"),
        ("Misérables, Les", "Les Miserables"),
        ("Avventura, L'", "L'Avventura"),
        ("Truth About Cats & Dogs, The", "The Truth About Cats and Dogs"),
        ("Star Trek: First Contact", "Star Trek - First Contact"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "La cité des enfants perdus"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "The City of Lost Children"),
        ("Seven (a.k.a. Se7en)", "Se7en"),
        ("Ocean's Eleven", "Oceans Eleven"),
        ("Seven", "Seven (Se7en)"),
    ],
)
def test_titles_match_across_spellings(in_movielens, elsewhere):
    assert set(title_keys(in_movielens)) & set(title_keys(elsewhere))
    assert texts([item(1, in_movielens, 1999)], (elsewhere, 1999, "plot")) == (["plot"], 0)


def test_the_year_tells_remakes_apart():
    items = [item(1, "Godzilla", 1954), item(2, "Godzilla", 1998)]
    assert texts(items, ("Godzilla", 1998, "new"), ("Godzilla", 1954, "old")) == (["old", "new"], 0)
    assert texts(items, ("Godzilla", 2014, "newest")) == ([None, None], 1)


def test_a_year_may_be_off_by_one_but_an_equal_one_comes_first():
    items = [item(1, "Emma", 1995), item(2, "Emma", 1996)]
    assert texts(items, ("Emma", 1996, "plot")) == ([None, "plot"], 0)
    assert texts(items[:1], ("Emma", 1996, "plot")) == (["plot"], 0)


def test_without_a_year_only_a_clear_title_matches():
    items = [item(1, "Hamlet", 1948), item(2, "Hamlet", 1996), item(3, "Heat", 1995)]
    assert texts(items, ("Hamlet", None, "which?"), ("Heat", None, "plot")) == ([None, None, "plot"], 1)


def test_a_main_title_wins_over_an_alternative_one():
    items = [item(1, "Guardian Angel (Léon)", 1994), item(2, "Léon", 1994)]
    assert texts(items, ("Leon", 1994, "plot")) == ([None, "plot"], 0)


def test_of_two_descriptions_the_first_counts():
    assert texts([item(1, "Heat", 1995)], ("Heat", 1995, "first"), ("Heat", 1995, "second")) == (["first"], 1)


def test_an_id_decides_whatever_the_title_says(tmp_path):
    path = tmp_path / "descriptions.csv"
    path.write_text(
        'movieId,title,description\n2,Heat,"a ""plot"",\nin two lines"\n9,Heat,left over\n1,Heat,\n'
    )
    described, left_over = describe([item(1, "Heat"), item(2, "Casino")], read_descriptions(path))
    assert [one.description for one in described] == [None, 'a "plot",\nin two lines']
    assert left_over == 1


def test_rotten_tomatoes_columns_are_understood(tmp_path):
    (tmp_path / "rotten_tomatoes_movies.csv").write_text(
        "rotten_tomatoes_link,movie_title,movie_info,critics_consensus,original_release_date\n"
        "m/heat,Heat,Cops and robbers.,Good.,1995-12-15\n"
    )
    (tmp_path / "rotten_tomatoes_critic_reviews.csv").write_text(
        "rotten_tomatoes_link,review_content\nm/heat,Good.\n"
    )
    assert read_descriptions(tmp_path) == [Description(None, "Heat", 1995, "Cops and robbers.")]


def test_a_folder_must_hold_one_file_of_descriptions(tmp_path):
    with pytest.raises(DataError, match="expected one CSV file with a description column, found none"):
        read_descriptions(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("title,description\n")
    with pytest.raises(DataError, match=r"found a.csv, b.csv; name the file"):
        read_descriptions(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r":1: the header '' needs a column description or plot"),
        (b"name,text\n", r":1: the header 'name,text' needs a column description or plot"),
        (b"title;description\nHeat;plot\n", r":1: the header 'title;description' needs"),
        (b"title,description\nHeat\n", r":2: found 1 fields, expected 2 as in the header"),
        (b'title,description\nHeat,"plot\n', r":2: not well-formed CSV"),
        (b"title,description\nHeat,pl\xe9t\n", r": some bytes are not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, complaint):
    path = tmp_path / "descriptions.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="descriptions.csv" + complaint):
        read_descriptions(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: cannot be read: No such file"):
        read_descriptions(tmp_path / "absent.csv")
