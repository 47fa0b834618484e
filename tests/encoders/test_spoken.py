"""User prompts that spell the decided names: their vectors, for any catalogue, and their training."""

import pytest
import torch
from torch import nn

from palate.backbones.spelling import spelled
from palate.encoders.base import UserPrompt
from palate.encoders.spoken import BETWEEN, RATING_BUMPS, NamesPrompt
from palate.pretraining.language import LanguagePretraining, language_backbone

WIDTH, SIZE = 6, 8
NAMES = [[5, 6], [7], [8, 9, 10, 11], [5], [12, 5, 6]]
NOTHING = [[15, 16], [17]]


@pytest.fixture
def embeddings():
    torch.manual_seed(1)
    return nn.Embedding(20, SIZE)


@pytest.fixture
def prompts(embeddings):
    torch.manual_seed(0)
    module = NamesPrompt(WIDTH, SIZE, lambda: embeddings, most=3, max_tokens=3, pooled=2)
    module.bind(NAMES, NOTHING)
    return module


def said(prompts, named, categories=5, seed=2):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(named), categories, WIDTH, generator=generator)
    logits = torch.randn(len(named), categories, 2, generator=generator)
    return prompts(torch.tensor(named), hidden, logits)


def along(prompts, place):
    """The mark of a place that is counted from "likes" on."""
    return prompts.along(prompts.places[place])


def within(prompts, place):
    """The mark of a place that is counted from "doesn't like" on."""
    return prompts.within(prompts.places[place])


@torch.no_grad()
def test_a_half_is_a_heading_its_names_with_commas_between_and_an_end(prompts, embeddings):
    user = said(prompts, [[[1, 0, -1], [3, -1, -1]]])
    token = embeddings.weight
    liked = [token[7], prompts.comma, token[5], token[6], prompts.end[0]]
    disliked = [token[5], prompts.end[1]]
    expected = [
        prompts.heading[0, 2],
        *(vector + along(prompts, place) for place, vector in enumerate(liked)),
        prompts.heading[1, 1],
        # between the halves an answer says " and", which stands at the end's place, " doesn't" and " like"
        *(
            vector + along(prompts, 7 + place) + within(prompts, place)
            for place, vector in enumerate(disliked)
        ),
    ]
    assert user.mask.all()
    found = user.embeddings[0, 2:]  # after the two pooled ones
    torch.testing.assert_close(found, torch.stack(expected))


@torch.no_grad()
def test_an_empty_half_is_what_an_answer_says_there(prompts, embeddings):
    user = said(prompts, [[[-1, -1, -1], [-1, -1, -1]]])
    token = embeddings.weight
    liked, disliked = [token[15], token[16], prompts.end[0]], [token[17], prompts.end[1]]
    expected = [
        prompts.heading[0, 0],
        *(vector + along(prompts, place) for place, vector in enumerate(liked)),
        prompts.heading[1, 0],
        *(
            vector + along(prompts, 5 + place) + within(prompts, place)
            for place, vector in enumerate(disliked)
        ),
    ]
    torch.testing.assert_close(user.embeddings[0, 2:], torch.stack(expected))


@torch.no_grad()
def test_places_are_those_of_the_answers_tokens():
    """The marks count what a tokenizer makes of the answer, from the word after "likes" on."""
    backbone = language_backbone(LanguagePretraining(catalogues=40))
    names, nothing = ["tag 017", "日本", "tag 01"], ["no tag", "any tag"]
    spelled_names = spelled(backbone.tokenizer, names)
    module = NamesPrompt(WIDTH, SIZE, lambda: nn.Embedding(1500, SIZE), max_tokens=20)
    module.bind(spelled_names, spelled(backbone.tokenizer, nothing))
    counted = []
    module._placed = lambda place, ended: (
        counted.append((place, ended)) or torch.zeros(1, 2, len(place), SIZE)
    )
    module(torch.tensor([[[0, 2, -1], [1, -1, -1]]]), torch.zeros(1, 3, WIDTH), torch.zeros(1, 3, 2))
    answer = backbone.tokenizer("The user likes tag 017, tag 01 and doesn't like 日本")["input_ids"]
    later = answer.index(spelled_names[1][0]) - 3  # "The user likes" are three tokens
    (_, ended) = counted[0]
    assert int(ended[0]) + BETWEEN == later


@torch.no_grad()
def test_a_long_name_is_cut(prompts):
    assert said(prompts, [[[2, -1, -1], [-1, -1, -1]]]).embeddings.shape[1] == 2 + 4 + 3 + 1


@torch.no_grad()
def test_a_user_is_written_alone_as_among_others(prompts):
    many = [[[0, 1, 2], [3, 4, -1]], [[-1, -1, -1], [4, -1, -1]], [[3, -1, -1], [-1, -1, -1]]]
    together = said(prompts, many)
    assert not together.mask.all()
    for row, named in enumerate(many):
        hidden = torch.randn(3, len(NAMES), WIDTH, generator=torch.Generator().manual_seed(2))
        logits = torch.zeros(1, len(NAMES), 2)
        alone = prompts(torch.tensor([named]), hidden[row : row + 1], logits)
        torch.testing.assert_close(together.split()[row], alone.embeddings[0])
        assert not together.embeddings[row][~together.mask[row]].any()


@torch.no_grad()
def test_swapped_names_swap_their_tokens_and_nothing_else(prompts):
    one, other = (said(prompts, [[[a, b, -1], [-1, -1, -1]]]).embeddings[0] for a, b in ((1, 3), (3, 1)))
    changed = (one != other).any(dim=-1)
    # two pooled ones and a heading stay, then name, comma, name and the end; the other half stays
    assert changed.tolist() == [False, False, False, True, False, True, False, False, False, False]


@pytest.mark.parametrize("categories", [2, 500])
@torch.no_grad()
def test_the_same_weights_write_for_any_catalogue(prompts, categories):
    prompts.bind([[one % 20, (one * 7) % 20] for one in range(categories)], NOTHING)
    user = said(prompts, [[[1, 0, -1], [-1, -1, -1]]], categories)
    assert user.embeddings.shape == (1, 2 + 4 + 5 + 1, SIZE)
    assert user.entities.shape == (1, categories, SIZE)


def test_no_weight_and_nothing_that_is_saved_depends_on_the_catalogue(prompts):
    before = {name: value.shape for name, value in prompts.state_dict().items()}
    prompts.bind([[1]] * 500, NOTHING)
    assert {name: value.shape for name, value in prompts.state_dict().items()} == before
    assert not any("tokens" in name or "embedding" in name for name in before)


@torch.no_grad()
def test_the_user_prompt_keeps_the_decision_and_the_view(prompts):
    named = [[[1, 0, -1], [3, -1, -1]]]
    user = said(prompts, named)
    assert isinstance(user, UserPrompt)
    assert user.named.tolist() == named
    assert user.category_logits.shape == (1, len(NAMES), 2)


def test_all_its_weights_learn_and_the_embeddings_with_them(prompts, embeddings):
    user = said(prompts, [[[0, 1, 2], [3, 4, -1]]])
    (
        user.embeddings.square().sum() + user.entities.square().sum() + prompts.name_places.square().sum()
    ).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in prompts.parameters())
    assert embeddings.weight.grad.any()


@torch.no_grad()
def test_plain_names_are_the_tokens_alone_and_what_stands_around_them_is_scaled(embeddings):
    prompts = NamesPrompt(WIDTH, SIZE, lambda: embeddings, most=3, max_tokens=3, pooled=2, plain=True)
    prompts.bind(NAMES, NOTHING, scaled=lambda vectors: 2 * vectors)
    user = said(prompts, [[[1, 0, -1], [-1, -1, -1]]])
    token, comma, end = embeddings.weight, 2 * prompts.comma, 2 * prompts.end
    liked = [2 * prompts.heading[0, 2], token[7], comma, token[5], token[6], end[0]]
    disliked = [2 * prompts.heading[1, 0], token[17], end[1]]
    torch.testing.assert_close(user.embeddings[0, 2:], torch.stack([*liked, *disliked]))
    prompts.bind(NAMES, NOTHING, scaled=lambda vectors: vectors)
    unscaled = said(prompts, [[[1, 0, -1], [-1, -1, -1]]])
    torch.testing.assert_close(user.embeddings[0, :2], 2 * unscaled.embeddings[0, :2])
    torch.testing.assert_close(user.entities, 2 * unscaled.entities)
    assert {name.split(".")[0] for name, _ in prompts.named_parameters()} == {
        "heading", "end", "comma", "query", "state", "entity", "compared", "repeated",
    }  # fmt: skip


def test_user_prompts_come_apart_and_together_with_what_stands_beside_them(prompts):
    user = said(prompts, [[[0, 1, 2], [3, 4, -1]], [[-1, -1, -1], [4, -1, -1]]])
    apart = user.each()
    assert [one.mask.all().item() for one in apart] == [True, True]
    again = UserPrompt.joined(apart)
    for name in ("embeddings", "mask", "named", "entities"):
        torch.testing.assert_close(getattr(again, name), getattr(user, name))


def test_vectors_of_categories_may_be_missing_for_some_users_and_names_for_all(prompts):
    with_all, other = said(prompts, [[[0, -1, -1], [3, -1, -1]]] * 2).each()
    bare = UserPrompt(other.embeddings, other.mask, named=other.named)
    joined = UserPrompt.joined([bare, with_all])
    torch.testing.assert_close(joined.entities[1], with_all.entities[0])
    assert not joined.entities[0].any()
    assert UserPrompt.joined([bare, bare]).entities is None
    assert UserPrompt.joined([with_all, UserPrompt(other.embeddings, other.mask)]).named is None


@torch.no_grad()
def test_an_expected_rating_changes_what_a_category_is_in_a_question(prompts):
    named, hidden, logits = torch.full((1, 2, 3), -1), torch.zeros(1, 5, WIDTH), torch.zeros(1, 5, 2)
    some = [
        prompts(named, hidden, logits, torch.full((1, 5), place)).entities for place in (0.6, 0.66, 0.7, 0.2)
    ]
    torch.testing.assert_close(some[1], 0.4 * some[0] + 0.6 * some[2])  # between two of the scale's places
    assert (some[0] != some[3]).any(dim=-1).all()


def test_plain_names_have_no_marks():
    assert NamesPrompt(WIDTH, SIZE, nn.Identity, plain=True).name_places is None


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return NamesPrompt(WIDTH, SIZE, nn.Identity, plain=True)


@torch.no_grad()
def test_an_item_is_what_its_expected_rating_is(plain):
    entities, none, names = torch.randn(2, 5, SIZE), torch.tensor([[-1], [-1]]), torch.randn(2, 1, SIZE)
    several = [
        plain.mentioned(entities, None, none, torch.tensor([[place], [0.5]]), names)[0]
        for place in (0.6, 0.66, 0.7)
    ]
    torch.testing.assert_close(several[1][0], 0.4 * several[0][0] + 0.6 * several[2][0])
    torch.testing.assert_close(several[0][1], several[2][1])
    assert (several[0][0] != several[2][0]).any()


@torch.no_grad()
def test_what_a_question_compares_depends_on_the_difference_of_the_scores(plain):
    entities, scores = torch.randn(3, 5, SIZE), torch.tensor([[0.1, 0.2, 0.0, 0.0, 0.2]]).expand(3, -1)
    category = torch.tensor([[0, 1], [1, 0], [1, -1]])
    unknown, names = torch.full((3, 2), -1.0), torch.randn(3, 2, SIZE)
    names[1] = names[0].flip(0)
    vectors, mask = plain.mentioned(entities, scores, category, unknown, names)
    assert mask.tolist() == [[True, True], [True, True], [True, False]]
    torch.testing.assert_close(vectors[2, 0], entities[2, 1])  # nothing to compare with
    entities[1] = entities[0]
    vectors, _ = plain.mentioned(entities, scores, category, unknown, names)
    torch.testing.assert_close(vectors[0], vectors[1].flip(0))
    raised, _ = plain.mentioned(entities, scores + 0.25, category, unknown, names)
    torch.testing.assert_close(raised, vectors)  # only the difference counts


@torch.no_grad()
def test_the_name_of_the_better_one_is_repeated_as_far_as_the_weights_say(plain):
    plain.compared.weight.zero_()
    plain.repeated.weight.copy_(torch.linspace(0, 1, RATING_BUMPS))
    entities, names, none = torch.randn(1, 5, SIZE), torch.randn(1, 2, SIZE), torch.full((1, 2), -1)
    far, some, same = (
        plain.mentioned(entities, torch.zeros(1, 5), none, torch.tensor([pair]), names)[0][0]
        for pair in ([0.9, 0.1], [0.55, 0.5], [0.5, 0.5])
    )
    own = [
        plain.mentioned(entities, None, none[:, :1], torch.tensor([[place]]), names)[0][0, 0]
        for place in (0.1, 0.5)
    ]
    torch.testing.assert_close(far[0], names[0, 0])
    torch.testing.assert_close(far[1], own[0])
    torch.testing.assert_close(some[1], 0.3 * names[0, 1] + 0.7 * own[1])  # 0.5 + COMPARED * -0.05
    torch.testing.assert_close(same[0], (names[0, 0] + own[1]) / 2)


@torch.no_grad()
def test_items_are_compared_by_their_expected_ratings(plain):
    entities, none = torch.randn(1, 5, SIZE), torch.tensor([[-1, -1]])
    scores, names = torch.zeros(1, 5), torch.randn(1, 2, SIZE)
    both, mask = plain.mentioned(entities, scores, none, torch.tensor([[0.2, 0.6]]), names)
    swapped, _ = plain.mentioned(entities, scores, none, torch.tensor([[0.6, 0.2]]), names.flip(1))
    assert mask.all()
    torch.testing.assert_close(both.flip(1), swapped)
    same, _ = plain.mentioned(entities, scores, none, torch.tensor([[0.6, 0.6]]), names.flip(1))
    assert (same[0, 0] != swapped[0, 0]).any()
