"""Random wordings of questions: varied, complete, and disjoint from held-out ones."""

import numpy as np
import pytest

from palate.tasks.phrases import random_wording
from palate.tasks.wordings import WORDINGS

FIELDS = {
    "yes-no": {"category"},
    "pair": {"category", "other"},
    "rating": {"item", "low", "high"},
}


@pytest.mark.parametrize("kind", WORDINGS)
def test_wordings_are_varied_and_those_of_the_tasks_are_among_them(kind):
    rng = np.random.default_rng(0)
    drawn = {random_wording(rng, kind) for _ in range(500)}
    assert len(drawn) > 30
    assert drawn > {*WORDINGS[kind].trained}
    assert not drawn & {*WORDINGS[kind].held_out}


@pytest.mark.parametrize("kind", WORDINGS)
def test_a_wording_has_a_place_for_all_that_is_asked(kind):
    rng = np.random.default_rng(1)
    needed = FIELDS.get(kind, {"fields"})
    words = {name: f"<{name}>" for name in ("fields", "category", "other", "item", "low", "high")}
    for _ in range(200):
        asked = random_wording(rng, kind).format(**words)
        assert {name for name in words if f"<{name}>" in asked} == needed
        assert "{" not in asked
