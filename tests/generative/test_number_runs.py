"""Pretraining on counting, and that the words of held-out prompts are words of trained ones."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.generative.number_runs import NumberRuns
from palate.generative.prompts import form_of
from palate.generative.wording import Wording

WORDING = Wording(("unread",), ("user_00", "user_01"), "book", ("1",))


@given(items=st.integers(20, 20_000), longest=st.integers(1, 8), seed=st.integers(0, 999))
def test_the_answer_goes_on_with_the_run_and_has_the_width_of_an_id(items, longest, seed):
    example = NumberRuns(WORDING, items, longest).batch(1, np.random.default_rng(seed))[0]
    *read, answer = re.findall(r"item_(\d+)", f"{example.prompt} {example.answer}")
    assert 1 <= len(read) <= longest
    assert {len(one) for one in (*read, answer)} == {2 * -(-len(str(items - 1)) // 2)}
    assert int(answer) < items
    assert f"{int(answer) - 1:0{len(answer)}d}" in read
    assert "user_00" in example.prompt or "user_01" in example.prompt


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("rating", "stars"),
        ("explanation", "text"),
        ("explanation", "text of stars"),
        ("review", "stars"),
    ],
)
def test_a_held_out_prompt_has_no_word_that_its_forms_training_does_not_have(family, form):
    forms = form_of(family, form)
    assert set(forms.held_out.split()) <= set(" ".join(forms.trained).split())
    assert forms.held_out not in forms.trained
