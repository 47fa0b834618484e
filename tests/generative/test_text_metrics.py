"""Text metrics against manual calculations and sacrebleu's corpus score."""

import math

import pytest
from sacrebleu.metrics import BLEU

from palate.errors import DataError
from palate.generative.text_metrics import (
    bleu_of,
    rouge_of,
    score_texts,
    text_difference,
    unique_sentence_ratio,
)

WRITTEN = ["the strings are good", "the strings are good", "it works"]
TRUE = ["The strings are very good", "this tuner is small and works well", "It works"]


def test_bleu_by_hand():
    # unigrams: 4 + 0 + 2 of 10; 10 written words, 14 of users
    assert bleu_of(WRITTEN, TRUE, 1) == pytest.approx(100 * math.exp(1 - 14 / 10) * 6 / 10)


def test_a_perfect_text_has_all_scores():
    found = score_texts(TRUE, TRUE, seed=None)
    assert [found.bleu4.value, found.rouge_l.value] == pytest.approx([100, 100])
    assert (found.usr, found.texts, found.bleu4.low) == (1, 3, None)


def test_rouge_by_hand():
    first, second, third = rouge_of(WRITTEN, TRUE)
    # 4 of 4 words and of 5: F = 8/9; pairs "the strings", "strings are" of 3 and 4: F = 4/7
    assert first == pytest.approx([800 / 9, 400 / 7, 800 / 9])
    assert second == pytest.approx([0, 0, 0])
    assert third == pytest.approx([100, 100, 100])


def test_corpus_scores_are_those_of_sacrebleu_and_lie_in_their_intervals():
    found = score_texts(WRITTEN, TRUE)
    whole = BLEU(lowercase=True).corpus_score(WRITTEN, [TRUE]).score
    assert found.bleu4.value == pytest.approx(whole)
    assert found.bleu1.value == pytest.approx(bleu_of(WRITTEN, TRUE, 1))
    assert found.rouge_l.low <= found.rouge_l.value <= found.rouge_l.high
    assert str(found.rouge_l).startswith("62.96 (")


def test_unique_sentences_are_told_apart_by_their_words():
    assert unique_sentence_ratio(WRITTEN) == pytest.approx(2 / 3)
    assert unique_sentence_ratio(["Good  one", "good one"]) == 0.5
    assert unique_sentence_ratio([]) == 0


def test_two_systems_are_compared_on_the_same_texts():
    better = text_difference((WRITTEN, TRUE), TRUE)
    assert better["rouge_l"].value == pytest.approx(100 - (800 / 9 + 0 + 100) / 3)
    same = text_difference((WRITTEN, TRUE), WRITTEN)
    assert all(one.value == one.low == one.high == 0 for one in same.values())


def test_texts_without_a_counterpart_are_refused():
    with pytest.raises(DataError, match="3 generated and 2 true texts; expected equal numbers"):
        score_texts(WRITTEN, TRUE[:2])
