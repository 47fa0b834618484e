"""Categories in questions: the name, followed by a vector of the user's relation to the category."""

import pytest
import torch
from torch import nn

from palate.backbones.t5 import build_tokenizer
from palate.model.asking import Asked
from palate.tasks.questions import Entity, Question, about_categories, about_item, recognised

NAMES = ("Comedy", "愛情", "Film-Noir", "Drama")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(["Which does this user prefer, Comedy or Drama?"] * 20, 320)


@pytest.fixture
def embed():
    torch.manual_seed(0)
    return nn.Embedding(400, 6)


def named_until(question):
    """What stands in the question up to each entity's end."""
    return [question.text[: entity.end] for entity in question.entities]


def test_a_question_knows_where_the_names_of_its_categories_stand():
    pair = about_categories("Which does this user prefer, {category} or {other}?", [1, 2], NAMES)
    assert pair.text == "Which does this user prefer, 愛情 or Film-Noir?"
    assert [entity.category for entity in pair.entities] == [1, 2]
    assert named_until(pair) == [pair.text.split(" or")[0], pair.text[:-1]]
    assert [pair.text[one.start : one.end] for one in pair.entities] == ["愛情", "Film-Noir"]


def test_names_in_other_order_and_twice():
    twice = about_categories("{other}, {category}, {other}: {fields}", [0, 3], NAMES, fields="genres")
    assert twice.text == "Drama, Comedy, Drama: genres"
    assert [(one.category, one.start, one.end) for one in twice.entities] == [
        (3, 0, 5),
        (0, 7, 13),
        (3, 15, 20),
    ]


@pytest.mark.parametrize(("title", "year"), [("Heat", 1995), ("Heat (1995)", 1995), ("Drama, Comedy", None)])
def test_an_items_categories_stand_in_its_description(title, year):
    asked = about_item("Rate {item}, from {low} to {high}!", title, year, [3, 1], NAMES, low="1", high="5")
    assert asked.text.endswith("Drama, 愛情), from 1 to 5!")
    assert [entity.category for entity in asked.entities] == [3, 1]
    assert [asked.text[one.start : one.end] for one in asked.entities] == ["Drama", "愛情"]


def test_an_item_without_categories_asks_about_none():
    assert about_item("Rate {item}!", "Heat", None, [], NAMES) == Question("Rate Heat!")


@torch.no_grad()
def test_each_name_is_followed_by_its_categorys_vector(tokenizer, embed):
    questions = [
        about_categories("Does this user like {category}?", [1], NAMES),
        Question("Which genres does this user like and dislike?"),
        about_categories("{category} or {other}?", [0, 2], NAMES),
    ]
    asked = Asked.of(questions, tokenizer)
    entities = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    vectors, mask = asked.embedded(embed, 3, entities)
    for row, question in enumerate(questions):
        expected, at = [], 0
        for entity in question.entities:  # tokens before each end, its vector, and what is left
            ids = tokenizer(question.text[: entity.end], add_special_tokens=False)["input_ids"]
            expected += [*embed(torch.tensor(ids[at:])), entities[row, entity.category]]
            at = len(ids)
        whole = tokenizer(question.text)["input_ids"]
        expected += [*embed(torch.tensor(whole[at:]))]
        torch.testing.assert_close(vectors[row][mask[row].bool()], torch.stack(expected))


@torch.no_grad()
def test_marked_names_have_their_places_and_their_categorys_vector(tokenizer, embed):
    question = about_categories("{category} or {other}?", [1, 2], NAMES)
    asked = Asked.of([question], tokenizer)
    generator = torch.Generator().manual_seed(1)
    entities, places = torch.randn(1, 4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    plain, mask = asked.embedded(embed, 1, entities)
    marked, same = asked.embedded(embed, 1, entities, places)
    assert torch.equal(mask, same)
    expected = torch.zeros_like(plain)
    for at, entity in enumerate(question.entities):
        before, until = (
            len(tokenizer(question.text[:end], add_special_tokens=False)["input_ids"])
            for end in (entity.start, entity.end)
        )
        for place, token in enumerate(range(before, until)):  # a long name has no places beyond the last one
            expected[0, at + token] = entities[0, entity.category] + (places[place] if place < 3 else 0)
    torch.testing.assert_close(marked - plain, expected)


@torch.no_grad()
def test_a_user_encoder_without_such_vectors_leaves_names_alone(tokenizer, embed):
    question = about_categories("Does this user like {category}?", [1], NAMES)
    vectors, mask = Asked.of([question], tokenizer).embedded(embed, 2, None)
    ids = torch.tensor(tokenizer(question.text)["input_ids"])
    torch.testing.assert_close(vectors, embed(ids).expand(2, -1, -1))
    assert mask.shape == (2, len(ids))


@torch.no_grad()
def test_one_question_is_asked_of_all_users(tokenizer, embed):
    question = about_categories("Does this user like {category}?", [2], NAMES)
    entities = torch.randn(3, 4, 6)
    together, mask = Asked.of([question], tokenizer).embedded(embed, 3, entities)
    for user in range(3):
        alone, _ = Asked.of([question], tokenizer).embedded(embed, 1, entities[user : user + 1])
        torch.testing.assert_close(together[user], alone[0])
    assert mask.all()


def test_a_training_round_holds_the_same(tokenizer, embed):
    question = about_categories("Does this user like {category}?", [2], NAMES)
    asked, target = Asked.of([question, "Which genres?"], tokenizer), torch.ones(2, 3, dtype=torch.long)
    entities = torch.randn(2, 4, 6)
    again = Asked.of_round(asked.as_round(target, target))
    for one, other in zip(
        asked.embedded(embed, 2, entities), again.embedded(embed, 2, entities), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("text", "kind", "entities"),
    [
        ("Does this user like Film-Noir?", "yes-no", [(2, 20, 29)]),
        ("Would this person enjoy 愛情?", "yes-no", [(1, 24, 26)]),
        ("Which does this user prefer, Drama or Comedy?", "pair", [(3, 29, 34), (0, 38, 44)]),
        ("Which kinds of film does this user like?", "liked", []),
        ("How does this user rate Heat (Drama), from 1 to 5?", "rating", []),
        ("Does this user like Western?", None, []),
        ("Which tags does this user like?", None, []),
        ("Does this user like Drama", None, []),
        ("What about Drama?", None, []),
    ],
)
def test_a_question_in_a_known_wording_is_recognised(text, kind, entities):
    found = recognised(text, NAMES, "kind of film")
    assert found == Question(text, tuple(Entity(*one) for one in entities), kind)
