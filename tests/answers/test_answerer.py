"""Free questions: matched to the right kind and answered with the recommender's own scores, or refused."""

import numpy as np
import pytest

from palate.answers.answerer import Answerer, rating_chances
from palate.answers.tastes import TasteView, ViewedTaste
from palate.config.recipe import ItemSettings
from palate.errors import DataError, QuestionError
from palate.recommend.fit import fit_recommender
from palate.schema import History
from palate.tasks.matching import QuestionMatcher
from sequence_data import sequence_dataset
from small_dataset import CATEGORIES

VIEW = TasteView(
    (ViewedTaste("War", 0.8), ViewedTaste("Drama", 0.6)),
    (ViewedTaste("Action", 0.7),),
    {name: (float(at) - 3, 3 - float(at)) for at, name in enumerate(CATEGORIES)},
)


@pytest.fixture(scope="module")
def matcher():
    return QuestionMatcher()


@pytest.fixture(scope="module")
def answerer(recommender, matcher):
    return Answerer(recommender, lambda: matcher, field="genre", views=lambda some: [VIEW] * len(some))


@pytest.fixture(scope="module")
def history(films):
    return films.histories([films.user_ids[films.users("test")[0]]])[0].latest(15)


@pytest.fixture(scope="module")
def unseen(films, history):
    return [one for one in films.item_ids if one not in history.item_ids]


def said(answerer, history, question, **entities):
    (answer,) = answerer.answer([history], question, **entities)
    assert answer.source == "template"
    assert all(0 <= one.chance <= 1 for one in answer.chances)
    return answer


def number(item_id):
    return item_id.removeprefix("i")


def test_a_recommendation_is_the_recommenders_list_with_its_reasons(answerer, recommender, history):
    answer = said(answerer, history, "What should I recommend to this user and why?")
    wanted = recommender.recommend([history], 3)[0].items
    assert answer.kind == "recommendation"
    assert [one.item_id for one in answer.chances] == [one.item_id for one in wanted]
    assert [one.chance for one in answer.chances] == pytest.approx([one.share for one in wanted])
    assert answer.text.startswith(f"Recommended is {wanted[0].title}, then ")
    named = {one.title for one in answer.reasons[0].items}
    assert named
    assert all(title in answer.text for title in named)
    assert {one.item_id for one in answer.reasons[0].items} <= set(history.item_ids)


def test_a_category_limits_the_recommendation(answerer, recommender, history):
    answer = said(answerer, history, "Recommend a war film for this user", k=2)
    wanted = recommender.recommend([history], 2, categories=["War"])[0].items
    assert [one.item_id for one in answer.chances] == [one.item_id for one in wanted]


def test_stars_and_yes_or_no_are_the_rating_models(answerer, recommender, history, unseen):
    item = unseen[0]
    expected = recommender.rate([history], [item])[0].items[0]
    stars = said(answerer, history, f"How many stars would this user give Film {number(item)}?")
    assert stars.kind == "rating"
    assert f"about {expected.rating:.1f} of 5" in stars.text
    assert sum(one.chance for one in stars.chances) == pytest.approx(1)
    likes = said(answerer, history, f"Would they like Film {number(item)}?")
    assert likes.kind == "item-yes-no"
    assert likes.chances[0].chance == pytest.approx(expected.chance)
    assert likes.text.startswith("Yes" if expected.chance >= 0.5 else "No")
    (reasons,) = likes.reasons
    assert reasons.against == (expected.chance < 0.5)
    assert ("speaks against" in likes.text) == reasons.against


def test_an_item_of_the_history_is_told_as_it_was_rated(answerer, history):
    item, rating = history.item_ids[-1], history.ratings[-1]
    answer = said(answerer, history, f"Would this user enjoy Film {number(item)}?")
    assert answer.by == "history"
    assert answer.text == f"The user has rated Film {number(item)} already: {rating:g}."


def test_pairs_and_next_items_are_choices(answerer, recommender, history, unseen):
    a, b, c = unseen[:3]
    pair = said(answerer, history, f"Which would this user prefer, Film {number(a)} or Film {number(b)}?")
    chosen = recommender.choose([history], [a, b])[0]
    assert pair.kind == "item-pair"
    assert {one.item_id: one.chance for one in pair.chances} == pytest.approx(dict(chosen.probabilities))
    following = said(answerer, history, "Which of these comes next?", item_ids=[a, b, c])
    assert following.kind == "next-item"
    scores = recommender.scores([history])[0][recommender.index_of([a, b, c])]
    assert following.chances[0].item_id == [a, b, c][int(np.argmax(scores))]
    assert sum(one.chance for one in following.chances) == pytest.approx(1)


def test_categories_are_rated_and_compared(answerer, history):
    one = said(answerer, history, "Does this user like drama?")
    other = said(answerer, history, "Is War or Drama better for this user?")
    assert (one.kind, other.kind) == ("yes-no", "pair")
    rating = {taste.name: taste for taste in answerer.tastes.ratings(answerer.known([history])[0].state)}
    assert one.chances[0].chance == pytest.approx(rating["Drama"].chance)
    better = max(("War", "Drama"), key=lambda name: rating[name].mean)
    assert other.text.startswith(f"The user prefers {better} to ")


def test_the_mean_of_a_category_that_was_rated_often_is_the_users_own(answerer, films):
    """Of a hundred ratings the expectation of others counts a twentieth."""
    items = [row for row, names in enumerate(films.items["categories"].to_list()) if "War" in names]
    many = History("me", [f"i{row}" for row in items], [5.0] * len(items), [*range(len(items))])
    found = {one.name: one for one in answerer.tastes.ratings(answerer.known([many])[0].state)}["War"]
    assert found.count == len(items)
    assert found.mean > 4.5
    assert found.chance > 0.9


def test_views_are_told_with_their_chances(answerer, history):
    assert (
        said(answerer, history, "Which genres does this user like?").text == "The user likes War and Drama."
    )
    assert said(answerer, history, "Which genres can she not stand?").text == "The user doesn't like Action."
    both = said(answerer, history, "Which genres does this user like and dislike?")
    assert both.text == "The user likes War and Drama and doesn't like Action."
    assert [one.chance for one in both.chances] == [0.8, 0.6, 0.7]
    profile = said(answerer, history, "Describe this user.")
    assert profile.text.startswith("By 15 ratings the user likes War (")
    assert "80% sure" in profile.text
    assert "too few ratings to say what changed" in profile.text


def test_what_changed_lately_is_told(answerer, films):
    names = films.items["categories"].to_list()
    war = [f"i{row}" for row, one in enumerate(names) if "War" in one]
    rest = [f"i{row}" for row, one in enumerate(names) if "War" not in one]
    items = [*rest[:40], *war[:12]]
    text = said(answerer, History("me", items, [4.0] * 52, [*range(52)]), "Describe this user.").text
    assert "Lately there is more War (92% of the newest 13, 0% before)" in text


def test_what_to_avoid_is_disliked_and_unlikely(answerer, recommender, history):
    answer = said(answerer, history, "What should this user avoid?")
    assert "the genre Action" in answer.text
    items = [one.item_id for one in answer.chances if one.item_id]
    assert items
    assert all(one.chance < 0.5 for one in recommender.rate([history], items)[0].items)
    assert all(one.against for one in answer.reasons)


def test_someone_without_a_history_gets_the_populations(answerer):
    answer = said(answerer, History("new", [], [], []), "What should I recommend to this user?")
    assert not answer.personal
    assert "as to everyone: nothing is known of the user yet" in answer.text
    assert answer.reasons == ()


def test_the_user_may_be_named_by_id_and_another_may_not(answerer, history):
    name = history.user_id
    mine = History("u7", history.item_ids, history.ratings, history.timestamps)
    assert said(answerer, mine, "What should I recommend to user u7?").kind == "recommendation"
    with pytest.raises(QuestionError, match="the question is about 'user u8'"):
        answerer.answer([mine], "What should I recommend to user u8?")
    assert name != "u7"


def test_given_entities_are_those_that_are_asked_about(answerer, history, unseen):
    answer = said(answerer, history, "Would this user like {item}?", item_ids=[unseen[0]])
    assert [one.name for one in answer.entities] == [f"Film {number(unseen[0])}"]
    with pytest.raises(DataError, match="unknown category 'Wars'; did you mean 'War'"):
        answerer.ask("Does this user like it?", categories=["Wars"])
    with pytest.raises(DataError, match="is not known"):
        answerer.ask("Does this user like {item}?", item_ids=["nothing"])
    with pytest.raises(QuestionError, match="needs 2 items of the catalogue; found 0 categories and 1 item"):
        answerer.answer([history], "Which is better, {item} or {item}?", item_ids=[unseen[0]])


def test_what_is_not_there_is_said_with_what_to_train(recommender, matcher, films):
    alone = Answerer(recommender, lambda: matcher, field="genre")
    assert set(alone.missing) == {"preference", "liked", "disliked", "profile"}
    with pytest.raises(QuestionError, match="needs a user encoder that predicts categories; use  packaged"):
        alone.ask("Which genres does this user like?")
    words = Answerer(None, lambda: matcher, CATEGORIES, "genre", lambda some: [VIEW] * len(some), films.items)
    assert {"recommendation", "rating", "item-pair", "next-item"} <= set(words.missing)
    with pytest.raises(QuestionError, match="needs a recommender; train one with  palate train"):
        words.ask("What should I recommend to this user?")
    (yes,) = words.answer([History("me", [], [], [])], "Does this user like War?")
    assert (yes.by, yes.text[:3]) == ("view", "Yes")


def test_a_question_has_an_end(answerer):
    with pytest.raises(QuestionError, match="found 1,001 characters, expected a question of at most 1,000"):
        answerer.ask("x" * 1_001)


def test_without_ratings_items_are_placed_and_not_rated(matcher, settings):
    rng = np.random.default_rng(0)
    walks = [[(start + step) % 20 for step in range(6)] for start in rng.integers(0, 20, 200)]
    data = sequence_dataset(walks)
    unrated = settings.model_copy(update={"rating_models": 0})
    shop = Answerer(fit_recommender(data, data.users("train"), unrated, ItemSettings()), lambda: matcher)
    history = data.histories([data.user_ids[0]])[0]
    following = data.item_ids[(walks[0][-1] + 1) % 20]
    answer = said(shop, history, "Would this user like {item}?", item_ids=[following])
    assert answer.by == "next item"
    assert answer.text.startswith("Yes, ")
    assert "it ranks 1 of 20" in answer.text
    with pytest.raises(QuestionError, match="needs data with ratings"):
        shop.ask("How many stars would this user give {item}?", item_ids=[following])


def test_chances_of_ratings_follow_the_normal_distribution():
    chances = rating_chances(np.array([1.0, 2.0, 3.0]), 2.0, 0.5)
    assert chances == pytest.approx([0.158655, 0.682689, 0.158655], abs=1e-5)
