"""Item files: titles, years, genres, encodings, and errors."""

import pytest

from palate.data.movielens.item_files import (
    read_100k_items,
    read_csv_items,
    read_dat_items,
    read_recbole_items,
    split_year,
)
from palate.errors import DataError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story (1995)", ("Toy Story", 1995)),
        ("Matrix, The (1999)", ("Matrix, The", 1999)),
        ("Seven (a.k.a. Se7en) (1995)", ("Seven (a.k.a. Se7en)", 1995)),
        ("1984 (1956)", ("1984", 1956)),
        ("(500) Days of Summer (2009)", ("(500) Days of Summer", 2009)),
        ("96 Minutes (2011) ", ("96 Minutes", 2011)),
        ("Fawlty Towers (1975-1979)", ("Fawlty Towers", 1975)),
        ("Big Bang Theory, The (2007-)", ("Big Bang Theory, The", 2007)),
        ("Land Before Time III, The (1995) (V)", ("Land Before Time III, The", 1995)),
        ("Stranger Things", ("Stranger Things", None)),
        ("(1995)", ("(1995)", None)),
    ],
)
def test_the_year_is_split_off_the_title(text, expected):
    assert split_year(text) == expected


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_accents_are_read_in_the_old_and_the_new_encoding(tmp_path, encoding):
    path = tmp_path / "movies.dat"
    path.write_bytes("1::Misérables, Les (1995)::Drama|Musical\n".encode(encoding))
    (item,) = read_dat_items(path)
    assert (item.title, item.categories) == ("Misérables, Les", ("Drama", "Musical"))


def test_csv_titles_may_be_quoted_and_hold_any_line_end(tmp_path):
    path = tmp_path / "movies.csv"
    path.write_bytes(
        'movieId,title,genres\n1,"A ""B"", The (1995)",Drama\n2,C\u2028D (1996),(no genres listed)\n'.encode()
    )
    items = read_csv_items(path)
    assert [item.title for item in items] == ['A "B", The', "C\u2028D"]
    assert items[1].categories == ()


def test_recboles_unreadable_years_are_taken_from_the_title(tmp_path):
    path = tmp_path / "ml-100k.item"
    rows = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    rows += ["1\tLand Before Time III (1995)\tV\tAnimation Children's", "2\tunkonwn\tunkonwn\tunknown"]
    path.write_text("\n".join(rows))
    assert [(item.title, item.year) for item in read_recbole_items(path)] == [
        ("Land Before Time III", 1995),
        ("unkonwn", None),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"1::A (1990)::Drama\nx::B (1990)::Drama\n", r":2: the movie id 'x' is not a whole number"),
        (b"1::A (1990)::Drama\n1::B (1990)::Drama\n", r":2: movie 1 is listed a second time"),
        (b"1::A (1990)::Drama\n2::::Drama\n", r":2: movie 2 has no title"),
        (b"1::A (1990)::Drama\n2::B (1990)\n", r":2: found 2 fields, expected 3 separated by '::'"),
        (b"1,A (1990),Drama\n", r":1: found 1 fields, expected 3 separated by '::'"),
        (
            b"1::A (1990)::Drama\n2::B\xe9\x00 (1990)::Drama\n",
            r":2: the line contains bytes that are not text",
        ),
        (b"\n\n", r"the file lists no movies"),
    ],
)
def test_a_bad_line_of_movies_dat_is_named(tmp_path, content, complaint):
    path = tmp_path / "movies.dat"
    path.write_bytes(content)
    with pytest.raises(
        DataError,
        match=rf"movies.dat:{complaint.removeprefix(':') if complaint[0] == ':' else ' ' + complaint}",
    ):
        read_dat_items(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b"movieId;title;genres\n",
            r":1: the header is \['movieId;title;genres'\], expected movieId,title,genres",
        ),
        (
            b"movieId,title,genres\n1,A, the (1990),Drama\n",
            r":2: found 4 fields, expected 3 separated by ','",
        ),
        (b'movieId,title,genres\n1,"A"x,Drama\n', r":2: not well-formed CSV"),
        (
            b"movieId,title,genres\n1,A,Drama\n2,\xe9,Drama\n",
            r":3: the line contains bytes that are not text",
        ),
    ],
)
def test_a_bad_line_of_movies_csv_is_named(tmp_path, content, complaint):
    path = tmp_path / "movies.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="movies.csv" + complaint):
        read_csv_items(path)


def test_genre_flags_must_be_flags_for_known_genres(tmp_path):
    genres, items = tmp_path / "u.genre", tmp_path / "u.item"
    genres.write_text("unknown|0\nAction|1\n\n")
    items.write_text("1|A (1990)|||x|0|1\n2|B (1990)|||x|0|2\n")
    with pytest.raises(DataError, match=r"u.item:2: a genre flag is not 0 or 1 in '0\|2'"):
        read_100k_items(items, genres)
    items.write_text("1|A (1990)|||x|0|1|1\n")
    with pytest.raises(DataError, match=r"u.item:1: found 8 fields, expected 7 separated by '\|'"):
        read_100k_items(items, genres)
    genres.write_text("unknown|0\nAction|2\n")
    with pytest.raises(DataError, match=r"u.genre:2: genre 'Action' has number '2', expected 1"):
        read_100k_items(items, genres)
