"""Metrics of generated texts: BLEU, ROUGE, and the unique sentence ratio.

Texts are compared without case. There are no feature words, so that the feature matching ratio, the feature coverage
ratio and the feature diversity of the explanation literature are not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from palate.errors import DataError
from palate.schema import Doubles
from palate.system.extras import missing_extra
from palate.system.records import Frozen

_ROUGE = ("rouge1", "rouge2", "rougeL")
RESAMPLES_OF_TEXTS = 1000
"""Resamples of an interval."""


class TextScore(Frozen):
    """A value, with a 95% interval where one was computed."""

    value: float
    low: float | None = None
    high: float | None = None

    def __format__(self, digits: str) -> str:
        """Format value and interval with a format such as ``.3f``; ``.2f`` by default."""
        digits = digits or ".2f"
        if self.low is None or self.high is None:
            return f"{self.value:{digits}}"
        return f"{self.value:{digits}} ({self.low:{digits}}–{self.high:{digits}})"

    def __str__(self) -> str:
        return format(self)


class TextScores(Frozen):
    """Scores of N generated texts against users' texts; all but ``usr`` in percent."""

    bleu1: TextScore
    bleu4: TextScore
    rouge1: TextScore
    rouge2: TextScore
    rouge_l: TextScore
    usr: float
    """Unique sentence ratio: number of distinct texts divided by the number of texts."""
    texts: int


def score_texts(written: Sequence[str], true: Sequence[str], seed: int | None = 0) -> TextScores:
    """Score generated texts against users' texts.

    BLEU is of the whole corpus, by sacrebleu with its tokeniser ``13a``; ROUGE is the mean F measure of the texts, by
    rouge-score without stemming.

    Args:
        written: N generated texts.
        true: The users' texts, [N].
        seed: Seed of the bootstrap intervals over texts; None for no intervals.

    Returns:
        The scores.

    Raises:
        DataError: There is no text, or the numbers differ.
        MissingExtraError: sacrebleu or rouge-score is not installed.
    """
    _check(written, true)
    each = rouge_of(written, true)
    sums = _bleu_sums(written, true)
    draws = None if seed is None else _draws(len(written), seed)
    bleu1, bleu4 = (_estimate(sums, partial(_bleu, order=order), draws) for order in (1, 4))
    rouge = [_estimate(each[:, column : column + 1], _mean, draws) for column in range(len(_ROUGE))]
    return TextScores(
        bleu1=bleu1,
        bleu4=bleu4,
        rouge1=rouge[0],
        rouge2=rouge[1],
        rouge_l=rouge[2],
        usr=unique_sentence_ratio(written),
        texts=len(written),
    )


def unique_sentence_ratio(written: Sequence[str]) -> float:
    """Compute the number of distinct texts, ignoring case and spaces, divided by the number of texts."""
    return len({" ".join(text.lower().split()) for text in written}) / max(len(written), 1)


def bleu_of(written: Sequence[str], true: Sequence[str], order: int = 4) -> float:
    """Compute the corpus BLEU of N texts by n-grams of up to ``order`` words, in percent."""
    _check(written, true)
    return float(_metric(order).corpus_score(list(written), [list(true)]).score)


def rouge_of(written: Sequence[str], true: Sequence[str]) -> Doubles:
    """Compute the F measures of ROUGE-1, ROUGE-2 and ROUGE-L of each of N texts, in percent, [N, 3]."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise missing_extra("ROUGE needs rouge-score", "texts") from None
    scorer = RougeScorer(list(_ROUGE))
    found = [scorer.score(said, text) for said, text in zip(true, written, strict=True)]
    return 100 * np.array([[one[name].fmeasure for name in _ROUGE] for one in found], dtype=np.float64)


def text_difference(
    first: tuple[Sequence[str], Sequence[str]], second: Sequence[str], seed: int = 0
) -> dict[str, TextScore]:
    """Compare two systems' texts by paired bootstrap: the second's scores less the first's, with intervals.

    Args:
        first: The first system's N texts, and the users' texts, [N].
        second: The second system's texts about the same users and items, [N].
        seed: Seed of the bootstrap.

    Returns:
        Differences of ``bleu1``, ``bleu4`` and ``rouge_l``.
    """
    written, true = first
    draws = _draws(len(written), seed)
    sums = [_bleu_sums(texts, true) for texts in (written, second)]
    rouge = [rouge_of(texts, true)[:, 2:] for texts in (written, second)]
    found = {}
    for name, columns, measure in (
        ("bleu1", sums, partial(_bleu, order=1)),
        ("bleu4", sums, partial(_bleu, order=4)),
        ("rouge_l", rouge, _mean),
    ):
        value = measure(columns[1].sum(axis=0), len(true)) - measure(columns[0].sum(axis=0), len(true))
        drawn = [
            measure(columns[1][rows].sum(axis=0), len(rows))
            - measure(columns[0][rows].sum(axis=0), len(rows))
            for rows in draws
        ]
        low, high = np.percentile(drawn, [2.5, 97.5])
        found[name] = TextScore(value=value, low=float(low), high=float(high))
    return found


def _check(written: Sequence[str], true: Sequence[str]) -> None:
    if len(written) != len(true) or not len(true):
        raise DataError(
            f"{len(written)} generated and {len(true)} true texts; expected equal numbers, and at least one"
        )


def _metric(order: int) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise missing_extra("BLEU needs sacrebleu", "texts") from None
    return BLEU(lowercase=True, max_ngram_order=order, force=True)


def _bleu_sums(written: Sequence[str], true: Sequence[str]) -> Doubles:
    """Compute each text's sufficient statistics: both lengths, then matches and n-grams by order, [N, 10]."""
    metric = _metric(4)
    rows = []
    for text, said in zip(written, true, strict=True):
        found = metric.corpus_score([text], [[said]])
        rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
    return np.array(rows, dtype=np.float64)


def _bleu(sums: Doubles, texts: int, order: int) -> float:
    """Compute the corpus BLEU of summed statistics, smoothed as in sacrebleu (``exp``)."""
    from sacrebleu.metrics.bleu import BLEU

    counts, totals = sums[2 : 2 + order], sums[6 : 6 + order]
    found = BLEU.compute_bleu(
        counts.astype(int).tolist(),
        totals.astype(int).tolist(),
        int(sums[0]),
        int(sums[1]),
        smooth_method="exp",
        max_ngram_order=order,
    )
    return float(found.score)


def _mean(sums: Doubles, texts: int) -> float:
    return float(sums[0]) / texts


def _draws(texts: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.integers(texts, size=texts) for _ in range(RESAMPLES_OF_TEXTS)]


def _estimate(columns: Doubles, measure: Any, draws: list[Any] | None) -> TextScore:
    value = measure(columns.sum(axis=0), len(columns))
    if draws is None:
        return TextScore(value=value)
    low, high = np.percentile([measure(columns[rows].sum(axis=0), len(rows)) for rows in draws], [2.5, 97.5])
    return TextScore(value=value, low=float(low), high=float(high))
