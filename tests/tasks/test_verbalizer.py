"""Labels to text and back, and parsing of a language model's output."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from palate.errors import DataError
from palate.schema import Preferences
from palate.tasks.verbalizer import NO_ANSWER, Verbalizer

MOVIELENS = (
    "Action", "Adventure", "Children's", "Comedy", "Drama", "Film-Noir", "Noir", "Romance", "Romantic Comedy",
    "Sci-Fi", "War", "(no genres listed)",
)  # fmt: skip
WORDS = st.sampled_from(
    ["Rock", "rock", "Pop", "R&B", "C++", "C", "(none)", "A.*", "[x]", "Hip-Hop", "Hop", "Children's", "a|b", "Über",
     "and", "User", "no", "any", "100%", "\\d1", "'n'", "^2", "日本"]
)  # fmt: skip
PHRASES = st.lists(WORDS, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", ", ", " and ", "/"]).map(lambda joint: joint.join(words))
)
VOCABULARIES = st.lists(PHRASES | st.text(min_size=1, max_size=6), min_size=1, max_size=7, unique=True)


def verbalizer(names=MOVIELENS, most=3):
    return Verbalizer(names, "genre", most)


def sensible(names, most=3):
    try:
        return verbalizer(tuple(names), most)
    except DataError:
        assume(False)


def read(text, names=MOVIELENS):
    found = verbalizer(names).read([text])
    return tuple([names[index] for index in half[0] if index >= 0] for half in (found.liked, found.disliked))


@st.composite
def preferences(draw, labels, most=3):
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        order = draw(st.permutations(range(labels)))
        liked = draw(st.integers(0, min(most, labels)))
        disliked = draw(st.integers(0, min(most, labels - liked)))
        halves = order[:liked], order[liked : liked + disliked]
        rows.append([[*half, *[-1] * (most - len(half))] for half in halves])
    array = np.array(rows, dtype=np.int64).reshape(-1, 2, most)
    return Preferences(array[:, 0], array[:, 1])


@settings(suppress_health_check=[HealthCheck.filter_too_much], max_examples=150)
@given(st.data(), VOCABULARIES, st.integers(1, 4))
def test_what_is_written_is_read_back(data, names, most):
    both_ways = sensible(names, most)
    wanted = data.draw(preferences(len(names), most))
    found = both_ways.read(both_ways.write(wanted))
    np.testing.assert_array_equal(found.liked, wanted.liked)
    np.testing.assert_array_equal(found.disliked, wanted.disliked)


NOISE = st.lists(
    st.sampled_from(["The user likes", "doesn't like", " and ", ", ", "-", ".", "'s", " ", "dislikes", "no genre"])
    | st.sampled_from(MOVIELENS)
    | st.sampled_from(MOVIELENS).map(str.lower)
    | st.sampled_from(MOVIELENS).map(lambda name: name[:-1])
    | st.text(max_size=4),
    max_size=20,
)  # fmt: skip


@given(NOISE.map("".join) | NOISE.map(" ".join) | st.text())
def test_no_label_is_invented_and_none_is_given_twice(text):
    liked, disliked = read(text)
    said = " ".join(text.replace("’", "'").casefold().split())
    assert all(name.casefold() in said for name in liked + disliked)
    assert len({*liked, *disliked}) == len(liked) + len(disliked)


@pytest.mark.parametrize(
    ("text", "liked", "disliked"),
    [
        ("The user likes Action, War and doesn't like Drama, Sci-Fi", ["Action", "War"], ["Drama", "Sci-Fi"]),
        ("the user LIKES war,  action AND DOESN’T LIKE DRAMA", ["War", "Action"], ["Drama"]),
        ("The user likes War and does not like Drama.", ["War"], ["Drama"]),
        ("The user likes War and doesnt like Drama.", ["War"], ["Drama"]),
        ("The user likes War; dislikes Drama!", ["War"], ["Drama"]),
        ("The user likes War Action Drama", ["War", "Action", "Drama"], []),
        ("The user likes War, and doesn't", ["War"], []),
        ("doesn't like War", [], ["War"]),
        ("The user doesn't like War and likes Drama", ["Drama"], ["War"]),
        ("War, Drama", ["War", "Drama"], []),
        ("The user likes War, War, Cooking, Drama, War and doesn't like Drama, War", ["War", "Drama"], []),
        ("The user likes War, Drama, Action, Comedy and doesn't like Comedy", ["War", "Drama", "Action"], []),
        ("The user likes Film-Noir, Romantic Comedy", ["Film-Noir", "Romantic Comedy"], []),
        ("The user likes Comedy, Film Noir, Romantic", ["Comedy", "Noir"], []),
        ("The user likes Warfare, Post-War, War-like, Wars", [], []),
        ("The user likes Children’s and doesn't like (no genres listed)", ["Children's"], ["(no genres listed)"]),
        ("", [], []),
    ],
)  # fmt: skip
def test_noise_is_survived(text, liked, disliked):
    assert read(text) == (liked, disliked)


def test_nothing_to_name_is_said_in_words():
    nobody = Preferences(np.full((1, 3), -1), np.full((1, 3), -1))
    assert verbalizer().write(nobody) == ["The user likes no genre and doesn't like any genre"]


def test_a_name_inside_a_longer_unknown_word_is_not_named():
    assert read("The user likes Film-Noir and doesn't like Children's", ("Noir", "Children")) == ([], [])


def test_the_sentence_itself_names_nothing():
    names = ("User", "Any", "No", "Genre", "Like")
    nobody = Preferences(np.full((1, 3), -1), np.full((1, 3), -1))
    (text,) = verbalizer(names).write(nobody)
    assert read(text, names) == ([], [])


def test_names_that_differ_in_case_alone_are_told_apart():
    assert read("The user likes pop and doesn't like POP", ("POP", "pop")) == (["pop"], ["POP"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("War", "doesn't like"), r'"doesn.t like" cannot be parsed'),
        (("War", "..."), r"'...' has no letters"),
        (("War", " War"), r"' War' has no letters, or a comma or space at an end"),
        (("War", "War"), r"'War' cannot be parsed .* twice in the list; rename it"),
        (("A", "B", "A, B"), r"'A, B' cannot be distinguished from a list that starts with 'A'; rename"),
        (("A", "B, C", "A, B"), r"'A, B' cannot be distinguished"),
        (("A", "B", "a and doesn't like b"), r"cannot be distinguished"),
    ],
)
def test_names_that_could_not_be_read_back_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        verbalizer(names)


def test_no_answer_is_told_from_one_that_names_nothing():
    verbalizer = Verbalizer(("Drama", "Not enough", "War"), "genre", 3)
    nothing = verbalizer.write(Preferences(np.full((1, 3), -1), np.full((1, 3), -1)))[0]
    texts = [
        NO_ANSWER,
        f" {NO_ANSWER.lower()}.\n",
        nothing,
        "The user likes War",
        f"{NO_ANSWER}, but likes War",
    ]
    assert verbalizer.declines(texts).tolist() == [True, True, False, False, False]
    assert verbalizer.read(texts).liked.tolist()[:3] == [[-1, -1, -1]] * 3
    assert verbalizer.read(texts).liked[4].tolist() == [1, 2, -1]
