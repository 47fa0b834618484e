"""Registers the run kinds of generative recommenders, so that other commands can load them by their folders."""

from __future__ import annotations

from palate.config.registry import RunKind, run_kinds
from palate.generative.categories import category_answers
from palate.generative.files import load_generative
from palate.generative.parts import GenerativeQuestion
from palate.generative.ranker import TrainedGenerative

run_kinds.register(
    "generative",
    RunKind(
        GenerativeQuestion,
        lambda run, asked: TrainedGenerative(load_generative(run, asked)),
        category_answers,
    ),
)
