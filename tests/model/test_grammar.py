"""The grammar of the task's answers: accepted and rejected tokens, by tokenizer and backbone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grammars import accepts
from palate.backbones.t5 import build_tokenizer
from palate.model.grammar import Grammar, GrammarProcessor
from palate.schema import Preferences
from palate.tasks.verbalizer import Verbalizer

NAMES = (
    "Sci-Fi",
    "Sci-Fi Horror",
    "Comedy",
    "Film-Noir",
    "愛情",
    "Ünï 2",
    "Comedy & Co",
    "Rock, Paper",
    "bobobo bobo",
)
FIELD = "kind of film"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(["The user likes Comedy and doesn't like Drama", "yes", "no"] * 20, 320)


@pytest.fixture(scope="module")
def grammar(tokenizer):
    return Grammar(tokenizer, tokenizer.eos_token_id, NAMES, FIELD, 3, ["1", "1.5", "2"])


def row(indices):
    return np.array([[*indices, *[-1] * (3 - len(indices))]])


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


@st.composite
def decisions(draw):
    order = draw(st.permutations(range(len(NAMES))))
    liked, disliked = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return Preferences(row(order[:liked]), row(order[liked : liked + disliked]))


@given(said=decisions())
def test_every_sentence_of_the_verbalizer_is_accepted(tokenizer, grammar, said):
    verbalizer = Verbalizer(NAMES, FIELD, 3)
    assert accepts(grammar, ids(tokenizer, verbalizer.write(said)[0]), "preference")
    for half in ("liked", "disliked"):
        text = verbalizer.write_half(said, half)[0]
        assert accepts(grammar, ids(tokenizer, text), half)
        assert accepts(grammar, ids(tokenizer, text))


@pytest.mark.parametrize(
    "text",
    [
        "The user likes Comedy, Comedy and doesn't like Sci-Fi",
        "The user likes Comedy and doesn't like Comedy",
        "The user likes Comedy, Sci-Fi, 愛情, Film-Noir and doesn't like any kind of film",
        "The user likes Western and doesn't like any kind of film",
        "The user likes Comedy, no kind of film and doesn't like any kind of film",
        "The user likes no kind of film and doesn't like no kind of film",
        "The user likes and doesn't like any kind of film",
        "The user likes Comedy",
        "The user likes Com and doesn't like any kind of film",
        "yes",
        "",
    ],
)
def test_other_texts_are_not(tokenizer, grammar, text):
    assert not accepts(grammar, ids(tokenizer, text), "preference")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("yes-no", ["yes", "no"], ["1", "Comedy", "yes no"]),
        ("rating", ["1", "1.5", "2"], ["3", "yes", "1.5.5"]),
        ("pair", ["Comedy", "Sci-Fi Horror", "愛情"], ["yes", "Comedy, Sci-Fi", "Sci"]),
        ("liked", ["The user likes no kind of film"], ["The user doesn't like Comedy"]),
    ],
)
def test_other_questions_have_their_own_answers(tokenizer, grammar, kind, right, wrong):
    for text in right:
        assert accepts(grammar, ids(tokenizer, text), kind)
        assert accepts(grammar, ids(tokenizer, text))  # a question of an unknown kind
    for text in wrong:
        assert not accepts(grammar, ids(tokenizer, text), kind)


def test_a_half_can_be_all_there_is(tokenizer):
    two = Grammar(tokenizer, tokenizer.eos_token_id, ("A", "B"), "tag", 3)
    assert accepts(two, ids(tokenizer, "The user likes B, A and doesn't like any tag"))
    assert not accepts(two, ids(tokenizer, "The user likes B, A and doesn't like A"))


@given(names=decisions(), data=st.data())
def test_halves_say_the_decided_names_in_any_order(tokenizer, grammar, names, data):
    halves = [[name for name in half[0].tolist() if name >= 0] for half in (names.liked, names.disliked)]
    decided = tuple(map(tuple, halves))
    parts = [data.draw(st.permutations(half)) for half in halves]
    verbalizer = Verbalizer(NAMES, FIELD, 3)

    def is_allowed(liked, disliked):
        text = verbalizer.write(Preferences(row(liked), row(disliked)))[0]
        return accepts(grammar, ids(tokenizer, text), "preference", decided)

    assert is_allowed(*parts)
    other = next(name for name in range(len(NAMES)) if name not in (*halves[0], *halves[1]))
    assert not is_allowed([other], parts[1])
    assert not is_allowed(parts[0], [other])
    if halves[0]:
        assert not is_allowed(parts[0][1:], parts[1])


def test_a_draft_is_an_answer_of_the_decided_names(tokenizer, grammar):
    decided = (2, 1), ()
    draft = grammar.draft("preference", decided)
    assert (
        tokenizer.decode(draft[:-1])
        == "The user likes Comedy, Sci-Fi Horror and doesn't like any kind of film"
    )
    assert accepts(grammar, draft, "preference", decided)
    assert not accepts(grammar, draft, "preference", ((2, 0), ()))


def test_decided_names_do_not_narrow_a_choice_between_two(tokenizer, grammar):
    assert accepts(grammar, ids(tokenizer, "Film-Noir"), "pair", ((0,), ()))


def written(grammar, tokenizer, kinds, seed, steps=80):
    """Answers by random scores under the grammar, as generation would write them."""
    generator = torch.Generator().manual_seed(seed)
    processor = GrammarProcessor(grammar, [grammar.start(kind) for kind in kinds])
    tokens = torch.zeros(len(kinds), 1, dtype=torch.long)
    for _ in range(steps):
        scores = processor(tokens, torch.randn(len(kinds), len(tokenizer), generator=generator))
        tokens = torch.cat([tokens, scores.argmax(dim=1, keepdim=True)], dim=1)
    texts = []
    for line in tokens[:, 1:].tolist():
        assert tokenizer.eos_token_id in line
        texts.append(tokenizer.decode(line[: line.index(tokenizer.eos_token_id)]))
    return texts


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_model_scores_the_answer_can_be_read_back(tokenizer, grammar, seed):
    verbalizer = Verbalizer(NAMES, FIELD, 3)
    for text in written(grammar, tokenizer, ["preference"] * 8, seed):
        said = verbalizer.read([text])
        assert verbalizer.write(said) == [text]
        named = np.concatenate([said.liked[0], said.disliked[0]])
        assert len({*named[named >= 0]}) == (named >= 0).sum()


def test_a_batch_may_hold_different_questions(tokenizer, grammar):
    texts = written(grammar, tokenizer, ["yes-no", "liked", "rating", "pair"], 3)
    assert texts[0] in ("yes", "no")
    assert texts[1].startswith("The user likes ")
    assert texts[2] in ("1", "1.5", "2")
    assert texts[3] in NAMES


def test_what_is_allowed_keeps_its_scores_and_an_ended_answer_is_left_alone(tokenizer, grammar):
    processor = GrammarProcessor(grammar, [grammar.start("yes-no")])
    scores = torch.randn(1, len(tokenizer), generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    constrained = processor(torch.zeros(1, 1, dtype=torch.long), scores)
    yes, no = (ids(tokenizer, text)[0] for text in ("yes", "no"))
    assert sorted(constrained[0].isfinite().nonzero().flatten().tolist()) == sorted([yes, no])
    assert constrained[0, yes] == scores[0, yes]
    assert torch.equal(scores, before)  # its argument stays as it is
    assert processor(torch.tensor([[0, yes]]), scores).argmax() == tokenizer.eos_token_id
    assert torch.equal(processor(torch.tensor([[0, yes, tokenizer.eos_token_id]]), scores), scores)


def test_states_are_made_once_and_dropped_when_there_are_many(tokenizer, monkeypatch):
    monkeypatch.setattr("palate.model.grammar.KEPT_STATES", 50)
    small = Grammar(tokenizer, tokenizer.eos_token_id, NAMES, FIELD, 3)
    assert small.start("liked") is small.start("liked")
    first = written(small, tokenizer, ["preference"] * 4, 1)
    assert len(small._states) <= 50
    assert written(small, tokenizer, ["preference"] * 4, 1) == first
