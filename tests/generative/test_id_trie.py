"""The trie accepts exactly the catalogue's ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import DataError
from palate.generative.trie import Trie
from palate.generative.whole_words import whole_word_indices


@settings(max_examples=50, deadline=None)
@given(st.sets(st.tuples(*[st.integers(2, 5)] * 3), min_size=1, max_size=20), st.data())
def test_every_walk_ends_at_an_item_and_every_item_is_reached(sequences, data):
    listed = sorted(sequences)
    trie = Trie.of(listed)
    assert trie.sequences() == {one: item for item, one in enumerate(listed)}
    tokens, targets = trie.children
    node, written = 0, []
    while node < len(trie):
        choice = data.draw(st.integers(0, int((tokens[node] >= 0).sum()) - 1))
        written.append(int(tokens[node, choice]))
        node = int(targets[node, choice])
    assert listed[node - len(trie)] == tuple(written)


def test_ids_of_different_lengths():
    trie = Trie.of([(5, 6), (5, 7, 8), (4,)])
    assert trie.sequences() == {(5, 6): 0, (5, 7, 8): 1, (4,): 2}
    assert [trie.prefix(node) for node in range(len(trie))] == [[], [5], [5, 7]]
    assert trie.paths.tolist() == [[0, -1, -1], [0, 1, -1], [0, 1, 2]]


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        ([(5, 6), (5,)], "the id of item 1 is a prefix of another"),
        ([(5, 6), (5, 6)], "the id of item 1 has no tokens, or those of another id"),
        ([()], "the id of item 0 has no tokens"),
    ],
)
def test_ids_that_cannot_be_told_apart_are_refused(sequences, said):
    with pytest.raises(DataError, match=said):
        Trie.of(sequences)


def test_all_tokens_of_a_word_share_its_place():
    text = "user_07 chose item_12"
    #        user_|  07 | chose | " item_" with its blank | 12 | end
    spans = [(0, 5), (5, 7), (7, 13), (13, 19), (19, 21), (0, 0)]
    assert whole_word_indices(text, spans) == [1, 1, 2, 3, 3, 0]
    assert whole_word_indices("a  b ", [(0, 1), (1, 2), (2, 4), (4, 5)]) == [1, 0, 2, 0]
