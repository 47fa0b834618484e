"""Drafted answers are kept only if the backbone would write the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.config.recipe import CausalSettings, TaskSettings
from palate.schema import Preferences
from palate.tasks import load_task
from palate.tasks.questions import Question
from tiny import pretrained_model, tiny_model
from tiny_causal import STREAMING, save_causal


@pytest.fixture(params=["t5", "llama"])
def model(request, tiny_data, tmp_path):
    """A constrained model with random weights."""
    if request.param == "t5":
        return tiny_model(tiny_data, STREAMING, grammar=True, max_new_tokens=40)
    folder = save_causal(tmp_path / "backbone", request.param)
    settings = CausalSettings(name=str(folder), train="frozen")
    return pretrained_model(tiny_data, settings, STREAMING, grammar=True, max_new_tokens=40)


@pytest.fixture
def users(model, tiny_data):
    return model.encode(tiny_data.histories(tiny_data.user_ids[:6]))


@pytest.fixture
def generated(model, monkeypatch):
    """How many answers the backbone has written token by token."""
    rows = []
    generate = model.backbone.generate

    def counted(**given):
        rows.append(len(given["inputs_embeds"]))
        return generate(**given)

    monkeypatch.setattr(model.backbone, "generate", counted)
    return rows


def decided(users, preferences):
    named = (
        torch.from_numpy(preferences[: len(users.embeddings)].liked),
        torch.from_numpy(preferences.disliked),
    )
    return replace(users, named=torch.stack(named, dim=1))


def said_by(model, tiny_data, users, **how):
    """The backbone's own answers, and what they say."""
    task = load_task(TaskSettings(), tiny_data.info)
    answers = model.generate_from(users, **how)
    return answers, task.parse(answers)


def test_a_draft_that_the_backbone_would_write_is_kept(model, tiny_data, users, generated):
    answers, said = said_by(model, tiny_data, users)
    generated.clear()
    assert model.generate_from(decided(users, said)) == answers
    assert generated == []


def test_other_drafts_are_dropped_and_only_these_users_answers_written(
    model, tiny_data, users, generated, monkeypatch
):
    _, said = said_by(model, tiny_data, users)
    said.liked[2], said.disliked[4] = said.liked[2, [1, 0, 2]], -1
    generated.clear()
    answers = model.generate_from(decided(users, said))
    few = sum(generated)
    assert few <= 2

    monkeypatch.setattr("palate.model.answering.kept_drafts", lambda *given: [False] * len(given[3]))
    generated.clear()
    assert model.generate_from(decided(users, said)) == answers
    assert sum(generated) == 6


def test_an_answer_names_what_was_decided_in_the_backbones_order(model, tiny_data, users):
    task = load_task(TaskSettings(), tiny_data.info)
    liked, disliked = np.full((6, 3), -1), np.full((6, 3), -1)
    liked[:4], disliked[2:, :2] = [4, 0, 2], [3, 1]
    several = [
        model.generate_from(decided(users, Preferences(liked[:, order], disliked)))
        for order in ([0, 1, 2], [2, 1, 0])
    ]
    assert several[0] == several[1]
    said = task.parse(several[0])
    for half, names in ((said.liked, liked), (said.disliked, disliked)):
        assert [{*row} for row in half.tolist()] == [{*row} for row in names.tolist()]


@pytest.mark.parametrize("kind", ["liked", "disliked"])
def test_one_half_is_drafted_alone(model, tiny_data, users, generated, kind):
    question = Question(f"Which genres are {kind}?", kind=kind)
    answers, said = said_by(model, tiny_data, users, instruction=question)
    generated.clear()
    assert model.generate_from(decided(users, said), question) == answers
    assert generated == []


def test_questions_that_are_not_for_names_have_no_draft(model, tiny_data, users, generated):
    _, said = said_by(model, tiny_data, users)
    generated.clear()
    yes_no = Question("Does this user like Drama?", kind="yes-no")
    assert set(model.generate_from(decided(users, said), yes_no)) <= {"yes", "no"}
    assert generated == [6]


def test_a_draft_is_streamed_as_if_it_were_written(model, tiny_data, users):
    class Kept:
        def __init__(self):
            self.parts, self.ended = [], 0

        def put(self, value):
            self.parts.append(value)

        def end(self):
            self.ended += 1

    one = replace(users, embeddings=users.embeddings[:1], mask=users.mask[:1], category_logits=None)
    written, kept = Kept(), Kept()
    _, said = said_by(model, tiny_data, one, streamer=written)
    model.generate_from(decided(one, said), streamer=kept)
    assert kept.ended == written.ended == 1
    assert [part.tolist() for part in kept.parts] == [part.tolist() for part in written.parts]


def test_a_draft_after_a_prefix(model, tiny_data, users, generated):
    if model.frame is None:
        pytest.skip("an encoder-decoder has no prefix")
    answers, said = said_by(model, tiny_data, users)
    generated.clear()
    with torch.inference_mode():
        prefix = model._prefix(decided(users, said))
    assert model.generate_after(prefix) == answers
    assert generated == []


def test_without_the_grammar_nothing_is_drafted(model, tiny_data, users, generated):
    _, said = said_by(model, tiny_data, users)
    model.constrained = False
    generated.clear()
    model.generate_from(decided(users, said))
    assert generated == [6]
