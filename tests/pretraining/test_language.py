"""Pretraining of the packaged backbone: questions, answers, and exact resumption."""

import numpy as np
import pytest
import torch

from palate.model.asking import Asked
from palate.pretraining.language import (
    CATEGORIES_ASKED,
    NAMES_ASKED,
    LanguagePretraining,
    Lessons,
    NobodyRead,
    Readers,
    language_backbone,
    pretrain_entities,
    pretrain_names,
    user_prompts,
)

SMALL = LanguagePretraining(
    d_model=32,
    catalogues=10,
    d_ff=32,
    num_layers=1,
    vocab_size=400,
    name_tokens=(4, 6),
    steps=3,
    entity_steps=2,
    groups=2,
    users=3,
)


class Known:
    """Users with known scores, and an item of the first two categories."""

    width = 5

    def draw(self, rng, users):
        labels = 6
        scores = rng.permuted(np.tile(np.arange(labels, dtype=float), (users, 1)), axis=1)
        return Readers(
            torch.randn(users, labels, self.width, generator=torch.Generator().manual_seed(1)),
            torch.from_numpy(scores).float()[..., None].expand(-1, -1, 2),
            torch.full((users, labels), 0.5),
            scores,
            np.ones((users, labels), dtype=bool),
            2.5,
            np.arange(1, 6, dtype=np.float32),
            [[0, 1]] * users,
        )


@pytest.fixture(scope="module")
def backbone():
    return language_backbone(SMALL)


def test_the_tokenizer_spells_every_name(backbone):
    for name in ("Sci-Fi", "愛情", "naïve café", "🎬 film", "اب", "\u0301x"):
        ids = backbone.tokenizer(name, add_special_tokens=False)["input_ids"]
        assert backbone.tokenizer.decode(ids) == name


def test_questions_for_names_are_answered_with_those_in_the_user_prompt(backbone):
    lessons = Lessons(backbone.tokenizer, NobodyRead(5), NAMES_ASKED)
    lesson = lessons.draw(np.random.default_rng(0), 40, 6)
    empty = 0
    for named, target in zip(lesson.named, lesson.targets, strict=True):
        liked, disliked = ([lesson.names[index] for index in half if index >= 0] for half in named)
        said = {
            f"The user likes {', '.join(liked) or f'no {lesson.field}'}",
            f"The user doesn't like {', '.join(disliked) or f'any {lesson.field}'}",
            f"The user likes {', '.join(liked) or f'no {lesson.field}'} "
            f"and doesn't like {', '.join(disliked) or f'any {lesson.field}'}",
        }
        assert target in said
        assert not {*liked} & {*disliked}
        empty += not liked or not disliked
    assert empty
    assert all(not question.entities for question in lesson.asked)


def test_there_are_as_many_names_as_categories_however_short_they_must_be(backbone):
    lessons = Lessons(backbone.tokenizer, NobodyRead(5), NAMES_ASKED)
    for seed in range(150):
        lesson = lessons.draw(np.random.default_rng(seed), 1, 3)
        assert len(lesson.names) == lesson.readers.hidden.shape[1]


def test_questions_about_categories_are_answered_by_what_is_true_or_what_the_state_says(backbone):
    lessons = Lessons(backbone.tokenizer, Known(), CATEGORIES_ASKED)
    lesson = lessons.draw(np.random.default_rng(0), 60, 6)
    kinds = {"yes-no": 0, "pair": 0, "rating": 0}
    for row, (question, target) in enumerate(zip(lesson.asked, lesson.targets, strict=True)):
        about = [entity.category for entity in question.entities]
        score = lesson.readers.scores[row]
        assert all(
            question.text[one.start : one.end] == lesson.names[one.category] for one in question.entities
        )
        if target in ("yes", "no"):
            assert target == ("yes" if score[about[0]] > 2.5 else "no")
            kinds["yes-no"] += 1
        elif target in lesson.names:
            liked = lesson.readers.logits[row, :, 0] - lesson.readers.logits[row, :, 1]
            assert target == lesson.names[max(about, key=lambda one: liked[one])]
            kinds["pair"] += 1
        else:
            assert about == [0, 1]
            expected = 1 + 4 * lesson.readers.rated[row, :2].mean()
            assert abs(float(target) - expected) <= 1
            kinds["rating"] += 1
    assert all(kinds.values())


def test_ratings_that_are_said_have_the_mean_that_the_state_expects(backbone):
    lessons = Lessons(backbone.tokenizer, Known(), {"rating": 1.0})
    lesson = lessons.draw(np.random.default_rng(0), 4_000, 6)
    expected = 1 + 4 * lesson.readers.rated[:, :2].mean(dim=1).numpy()
    said = np.array([float(target) for target in lesson.targets])
    assert abs((said - expected).mean()) < 0.03
    assert np.corrcoef(said, expected)[0, 1] > 0.7


def test_the_same_settings_give_the_same_weights():
    one, other = (pretrain_names(SMALL, 5) for _ in range(2))
    pretrain_entities(one, Known())
    pretrain_entities(other, Known())
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_each_step_reports_its_loss():
    told = []
    language = pretrain_names(SMALL, 5, lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [1, 2, 3]
    assert all(np.isfinite(loss) for _, loss in told)
    assert not language.training


def test_prompts_of_several_catalogues_stand_in_one_batch(backbone):
    language = pretrain_names(SMALL, 5)
    lessons = Lessons(language.tokenizer, Known(), NAMES_ASKED)
    both = [lessons.draw(np.random.default_rng(seed), 2, 6) for seed in (1, 2)]
    with torch.no_grad():
        together = user_prompts(language, both)
        for place, lesson in enumerate(both):
            alone = user_prompts(language, [lesson])
            for row in range(2):
                torch.testing.assert_close(together.split()[2 * place + row], alone.split()[row])
        asked = Asked.of(both[0].asked, language.tokenizer)
        assert asked.tokens.shape[0] == 2
