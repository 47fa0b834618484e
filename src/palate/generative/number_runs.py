"""Pretraining on counting: prompts with random runs of numbers, in the format of item ids, without any data of users.

A pretrained T5 knows which number follows another; one from random weights does not, and cannot learn it from
interactions, most of which follow no order of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.generative.corpus import Example
from palate.generative.ids import numbered_items
from palate.generative.prompts import form_of

if TYPE_CHECKING:
    from palate.generative.recommender import GenerativeRecommender
    from palate.generative.wording import Wording

_INTERRUPTED = 0.3
"""Fraction of the numbers of a prompt that are random and do not belong to the run."""
_TESTED = 256
"""Prompts that the accuracy is measured on."""


@dataclass(frozen=True)
class NumberRuns:
    """Samples prompts that list a run of consecutive numbers, between random ones, and ask for the next of the run.

    Args:
        wording: Format of users, who are drawn at random, so that their numbers say nothing.
        items: Number I of items; numbers are below it.
        longest: Maximum number of numbers in a prompt.
    """

    wording: Wording
    items: int
    longest: int

    def batch(self, size: int, rng: np.random.Generator) -> list[Example]:
        """Sample examples, each with one of the training prompts of the family ``sequential``."""
        return [self._drawn(rng) for _ in range(size)]

    def accuracy(self, recommender: GenerativeRecommender, seed: int) -> float:
        """Return the fraction of prompts after which the model generates the next number."""
        examples = self.batch(_TESTED, np.random.default_rng([seed, 5]))
        written = recommender.model.write([one.prompt for one in examples], "sequential")
        return float(np.mean([text == one.answer for text, one in zip(written, examples, strict=True)]))

    def _drawn(self, rng: np.random.Generator) -> Example:
        length = int(rng.integers(1, self.longest + 1))
        in_run = rng.random(length) >= _INTERRUPTED
        in_run[-1] |= not in_run.any()
        start = int(rng.integers(max(self.items - self.longest, 1)))
        numbers = np.where(in_run, start + np.cumsum(in_run) - 1, rng.integers(self.items, size=length))
        names = self.wording.users
        texts = form_of("sequential", "next").trained
        prompt = texts[int(rng.integers(len(texts)))].format(
            who=names[int(rng.integers(len(names)))],
            history=" ".join(numbered_items(numbers.tolist(), self.items)),
            noun=self.wording.noun,
        )
        [answer] = numbered_items([start + int(in_run.sum())], self.items)
        return Example(prompt, answer)
