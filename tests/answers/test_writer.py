"""Written answers: whatever the language model prefers, a sentence states the facts and nothing else."""

import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.answers import sentences, writer
from palate.answers.answerer import Answerer
from palate.answers.examples import EXAMPLES
from palate.answers.facts import drafted, fact, reworded
from palate.answers.tastes import CategoryRating
from palate.answers.writer import SentenceWriter, check_writer, load_writer, states_only
from palate.backbones.load import load_backbone
from palate.config.recipe import CausalSettings
from palate.errors import MismatchError
from palate.tasks.matching import QuestionMatcher
from tiny_causal import causal_model, save_causal

SHOWN = [(kind, marked, fluent) for kind, shown in EXAMPLES.items() for marked, fluent in shown]
SOME = (
    reworded("Yes, they like A (1)", "they like A (1)")
    + ": "
    + fact("chance 7%")
    + ". "
    + reworded("B speaks", "because of B")
    + "."
)
LIKES = drafted(sentences.likes_item("Heat (1995)", 0.71, 3.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_causal(tmp_path_factory.mktemp("writer") / "llama")


@pytest.fixture(scope="module")
def author(folder):
    return load_writer(str(folder), "cpu")


@pytest.fixture(scope="module")
def matcher():
    return QuestionMatcher()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_random_weights_write_the_facts_only(family, tmp_path):
    texts = set()
    for seed in range(2):
        backbone, _ = load_backbone(
            CausalSettings(name=str(save_causal(tmp_path / str(seed), family, seed)), train="frozen")
        )
        author = SentenceWriter(backbone, "random")
        for kind, marked, _ in SHOWN:
            text = author.write(drafted(marked), kind)
            assert text is not None
            assert re.fullmatch(r"[A-Z].*[^,:;.]\.", text)
            at = 0
            for one in drafted(marked).facts:
                found = [text.lower().find(form.lower(), at) for form in one.forms]
                at = min(place for place in found if place >= 0)
            texts.add(text)
    assert len(texts) > len(SHOWN)  # seeds differ, so the model has a choice


def test_it_writes_the_same_again(author, folder):
    again = load_writer(str(folder), "cpu")
    assert again.identity == author.identity
    for kind, marked, _ in SHOWN[:6]:
        assert author.write(drafted(marked), kind) == again.write(drafted(marked), kind)


@pytest.mark.parametrize(("kind", "marked", "fluent"), SHOWN)
def test_the_examples_state_their_facts_only(kind, marked, fluent):
    assert states_only(fluent, drafted(marked))


@pytest.mark.parametrize(("kind", "marked", "fluent"), SHOWN)
def test_nothing_that_a_template_says_is_left_out(kind, marked, fluent):
    """What stands outside of the marks is not in a written sentence."""
    outside = re.sub("\ufdd0[^\ufdd2]*\ufdd2", "", marked)
    assert set(re.findall(r"\w+", outside)) <= {"and"}


def test_marks_are_not_in_the_text():
    assert drafted(SOME).text == "Yes, they like A (1): chance 7%. B speaks."
    assert [one.forms for one in drafted(SOME).facts] == [
        ("they like A (1)",),
        ("chance 7%",),
        ("because of B",),
    ]
    assert [one.opens for one in drafted(SOME).facts] == [True, False, True]
    odd = drafted(fact("a\ufdd1b\ufdd2c") + ".")
    assert (odd.text, len(odd.facts)) == ("abc.", 1)


@pytest.mark.parametrize(
    "text",
    [
        "They like A (1), chance 7%, because of B.",
        "They like A (1): chance 7%. This is because of B.",
        "They like A (1) and chance 7%; also because of B.",
    ],
)
def test_the_check_accepts_other_links(text):
    assert states_only(text, drafted(SOME))


@pytest.mark.parametrize(
    "text",
    [
        "They like A (1), chance 7%.",  # a fact is missing
        "They like A (1), because of B, chance 7%.",  # in another order
        "They like A (1) and A (1), chance 7%, because of B.",  # twice
        "They like A (2), chance 7%, because of B.",  # another number
        "They like A (1), chance 7%, 8, because of B.",
        "They like A (1), chance 7%, because of B and C.",  # another name
        "They like A (1), chance 7%, not because of B.",
        "They don't like A (1), chance 7%, because of B.",
        "They like A (1), a thrilling film, chance 7%, because of B.",
        "They like A (1), chance 7%, and and because of B.",
        "They like A (1), chance 7%, because of B",  # without an end
        "they like a (1), chance 7%, because of b.",
        "",
    ],
)
def test_the_check_refuses_what_is_not_a_fact(text):
    assert not states_only(text, drafted(SOME))


@pytest.mark.parametrize("chance", [0.02, 0.49, 0.5, 0.98])
def test_every_form_agrees_with_the_sign_of_the_score(chance):
    for marked in (
        sentences.likes_item("Heat (1995)", chance, 3.5),
        sentences.likes_category(CategoryRating("War", 3, 3.0, 1.0, chance), 3.5),
        sentences.viewed_likes("War", chance),
        sentences.takes_item("Heat (1995)", 3, 9, chance, "film"),
    ):
        draft = drafted(marked)
        for text in (draft.text, *draft.facts[0].forms):
            assert (" not " in text) == (chance < 0.5), text
            assert not text.lower().startswith("no, " if chance >= 0.5 else "yes, ")


def test_a_flipped_sentence_is_refused():
    assert states_only(
        "The user would probably like Heat (1995), with a 71% chance of a rating above 3.5.", LIKES
    )
    flipped = "The user would probably not like Heat (1995), with a 71% chance of a rating above 3.5."
    assert not states_only(flipped, LIKES)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=30))
def test_any_title_is_kept_word_for_word(author, title):
    draft = drafted(sentences.likes_item(title, 0.71, 3.5))
    text = author.write(draft, "item-yes-no")
    assert text is None or title in text
    if title.isascii():
        assert text is not None


def test_a_long_answer_and_one_without_facts_stay_templates(author, monkeypatch):
    assert author.write(drafted("Nothing stands out."), "avoid") is None
    assert author.write(LIKES, "liked") is None
    monkeypatch.setattr(writer, "LONGEST_TEXT", 8)
    assert author.write(LIKES, "item-yes-no") is None


def test_a_title_that_is_a_token_of_the_model_is_left_to_the_template(author):
    assert author.write(drafted(sentences.likes_item("</s>", 0.71, 3.5)), "item-yes-no") is None


def test_what_fails_the_check_is_not_used(author, monkeypatch):
    monkeypatch.setattr(writer, "states_only", lambda text, draft: False)
    assert author.write(LIKES, "item-yes-no") is None


def test_an_answerer_says_which_answers_are_written(recommender, films, matcher, author):
    history = films.histories([films.user_ids[films.users("test")[0]]])[0].latest(15)
    plain = Answerer(recommender, lambda: matcher, field="genre")
    writing = Answerer(recommender, lambda: matcher, field="genre", writer=author)
    unseen = [one for one in films.item_ids if one not in history.item_ids][:3]
    for question, items in (
        ("What should I recommend to this user and why?", []),
        ("Would they like {item}?", unseen[:1]),
        ("How many stars would this user give {item}?", unseen[:1]),
        ("Which of these comes next?", unseen),
        ("Does this user like drama?", []),
    ):
        (template,) = plain.answer([history], question, item_ids=items)
        (written,) = writing.answer([history], question, item_ids=items)
        assert (template.source, written.source) == ("template", "written")
        assert replace(written, text=template.text, source="template") == template  # only the words differ
        assert not re.search("[\ufdd0-\ufdd2]", template.text + written.text)
    (had,) = writing.answer([history], "Would they like {item}?", item_ids=[history.item_ids[-1]])
    assert had.source == "template"


def test_the_backbone_of_a_model_writes_too(films, folder, author):
    model = causal_model(films, folder, train="frozen")
    assert load_writer("own", "cpu", model).write(LIKES, "item-yes-no") == author.write(LIKES, "item-yes-no")


def test_who_cannot_write_is_refused(films, folder, tmp_path):
    with pytest.raises(MismatchError, match=r"frozen pretrained decoder-only backbone.*packaged:gemma3-270m"):
        check_writer("own", None)
    with pytest.raises(MismatchError, match="frozen pretrained"):
        load_writer("own", "cpu", causal_model(films, folder, train="full"))
    with pytest.raises(MismatchError, match="nowhere"):
        check_writer(str(tmp_path / "nowhere"), None)


def test_a_short_context_is_refused(tmp_path):
    with pytest.raises(MismatchError, match="reads at most 1,024 tokens, and writing answers takes"):
        load_writer(str(save_causal(tmp_path / "gpt2", "gpt2")), "cpu")


def test_chances_have_their_article():
    forms = {
        chance: drafted(sentences.prefers("A", "B", chance)).facts[1].forms[1]
        for chance in (0.08, 0.11, 0.8, 0.71, 1.0)
    }
    assert forms == {
        0.08: "with an 8% chance",
        0.11: "with an 11% chance",
        0.8: "with an 80% chance",
        0.71: "with a 71% chance",
        1.0: "with a 100% chance",
    }
