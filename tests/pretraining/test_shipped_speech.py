"""The packaged model says unseen names in order, each once."""

import numpy as np
import pytest
import torch

from palate.encoders.base import UserPrompt
from palate.model.model import load_model
from palate.pretraining.names import random_catalogue
from palate.schema import Preferences
from palate.tasks import load_task
from small_dataset import small_dataset
from universal_catalogue import renamed

NAMES = {
    "English": (
        "Science Fiction",
        "Science",
        "Children's",
        "Film-Noir",
        "Rock & Roll",
        "90s",
        "Slice of Life",
        "War",
    ),
    "Japanese": ("アクション", "恋愛", "ロマンス", "日常系", "魔法少女", "スポーツ", "音楽", "学園"),
    "numbered": ("tag 001", "tag 010", "tag 011", "tag 017", "tag 1", "tag 10", "tag 100", "tag"),
    "codes": ("KX-2041", "KX-2014", "0000-1c56-aa", "0000-1c56-ab", "b7", "B7-b7", "7", "77"),
    "accents": ("Música", "Ação", "Čeština", "Übersetzung", "naïve", "Éire", "Ñandú", "Ångström"),
}


@pytest.fixture(scope="module")
def shipped():
    return load_model("packaged", device="cpu")


def decisions(rng, users, labels=8):
    named = np.full((users, 2, 3), -1)
    for row in named:
        order, (liked, disliked) = rng.permutation(labels), rng.integers(0, 4, 2)
        row[0, :liked], row[1, :disliked] = order[:liked], order[liked : liked + disliked]
    return named


def spoken(shipped, names, named, constrained=False):
    """What it says when these categories are decided on, and what it should say."""
    data = renamed(small_dataset(), names)
    bound, task = shipped.bind(data), load_task(shipped.settings.task, data.info)
    bound.constrained = constrained
    events = bound.events(data.histories(data.user_ids[: len(named)]))
    found = []
    encoder = bound.user_encoder
    with torch.inference_mode(), encoder.network.register_forward_hook(lambda *given: found.append(given[2])):
        encoder(events)
        logits, hidden = found[0]
        user = encoder.prompt(torch.from_numpy(named), hidden, logits)
    user = UserPrompt(user.embeddings, user.mask)  # nothing is drafted
    return bound.generate_from(user), task.target_texts(Preferences(named[:, 0], named[:, 1])), task


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_it_says_what_was_decided(shipped, names):
    said, wanted, _ = spoken(shipped, names, decisions(np.random.default_rng(0), 32))
    right = np.mean([text == want for text, want in zip(said, wanted, strict=True)])
    assert right >= 0.96, [pair for pair in zip(said, wanted, strict=True) if pair[0] != pair[1]][:3]


def test_freely_it_says_made_up_names_and_repeats_nothing(shipped):
    right = []
    for seed in range(4):
        rng = np.random.default_rng([98, seed])
        said, wanted, task = spoken(shipped, random_catalogue(rng, 8), decisions(rng, 24))
        right += [text == want for text, want in zip(said, wanted, strict=True)]
        read = task.parse(said)
        halves = np.concatenate([read.liked, read.disliked], axis=1)
        assert all(len({*row[row >= 0]}) == (row >= 0).sum() for row in halves)
    assert np.mean(right) >= 0.97


def test_under_the_grammar_answers_about_random_catalogues_can_be_read_back_and_repeat_nothing(shipped):
    for seed in range(2):
        rng = np.random.default_rng([99, seed])
        names, named = random_catalogue(rng, 8), decisions(rng, 16)
        said, _, task = spoken(shipped, names, named, constrained=True)
        assert task.target_texts(task.parse(said)) == said


def test_swapped_names_swap_in_the_answer(shipped):
    rng = np.random.default_rng(1)
    named = np.stack([rng.permutation(8)[:6].reshape(2, 3) for _ in range(24)])
    swapped = named[:, :, [1, 0, 2]]
    said, _, _ = spoken(shipped, NAMES["accents"], named)
    other, wanted, _ = spoken(shipped, NAMES["accents"], swapped)
    assert np.mean([text == want for text, want in zip(other, wanted, strict=True)]) >= 0.9
    assert all(one != two for one, two in zip(said, other, strict=True))
