import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.recipe import ItemTextSettings
from palate.errors import DataError
from palate.items.texts import ItemTexts, texts_for
from palate.schema import Item
from small_dataset import small_dataset


def test_the_papers_three_texts():
    texts = ItemTexts()
    item = Item("1", "Toy Story", ("Animation", "Comedy"), "A toy meets\nanother toy. ", 1995)
    assert texts.title(item) == "The movie Toy Story is listed with genres Animation, Comedy"
    assert texts.rating(4.0) == "The movie is rated with 4 stars"
    assert texts.description(item) == "A toy meets\nanother toy. "


def test_half_stars_keep_their_half():
    assert ItemTexts().rating(3.5) == "The movie is rated with 3.5 stars"


def test_an_item_without_categories_says_so():
    assert ItemTexts().title(Item("1", "Toy Story")) == "The movie Toy Story is listed with no genres"


@pytest.mark.parametrize("description", [None, "", "  \n\t"])
def test_a_blank_description_is_no_text(description):
    assert ItemTexts().description(Item("1", "Toy Story", description=description)) is None


def test_the_dataset_gives_the_words_and_the_recipe_has_the_last_one():
    info = small_dataset().info.model_copy(
        update={"item_noun": "book", "category_field": "category", "rating_text": "{noun}: {rating} of 10"}
    )
    texts, item = texts_for(info), Item("1", "X", ("A",))
    assert texts.title(item) == "The book X is listed with categories A"
    assert texts.rating(7) == "book: 7 of 10"
    changed = texts_for(info, ItemTextSettings(noun="novel", listed="{title}, a {noun}"))
    assert (changed.title(item), changed.rating(7)) == ("X, a novel", "novel: 7 of 10")
    with pytest.raises(DataError, match=r"the item text 'rated' contains \{title\}"):
        texts_for(info, ItemTextSettings(rated="{title}"))


def test_another_domain_brings_its_own_sentence():
    texts = ItemTexts(noun="book", listed="{title} ({noun} of {categories})")
    assert texts.title(Item("1", "Emma", ("Classics", "Love"))) == "Emma (book of Classics, Love)"


@pytest.mark.parametrize(
    "template",
    ["{title.__class__}", "{titel}", "{title!r}", "{title:{noun}}", "{0}", "{}", "{title", "{rating}"],
)
def test_a_template_may_only_name_an_items_fields(template):
    with pytest.raises(DataError, match="the item text 'listed'"):
        ItemTexts(listed=template)


@given(title=st.text(), categories=st.lists(st.text(min_size=1), max_size=4))
def test_fields_stand_in_the_text_as_they_are(title, categories):
    text = ItemTexts().title(Item("1", title, tuple(categories)))
    end = f"is listed with genres {', '.join(categories)}" if categories else "is listed with no genres"
    assert text == f"The movie {title} {end}"


@given(st.integers(1, 20))
def test_rating_texts_are_as_distinct_as_the_scale(steps):
    values = [step / 2 for step in range(1, steps + 1)]
    assert len({ItemTexts().rating(value) for value in values}) == steps
