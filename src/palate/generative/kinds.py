"""Registers the runs of generative recommenders, so that `palate rank` finds them by their folders."""

from __future__ import annotations

from palate.config.registry import RunKind, run_kinds
from palate.generative.files import load_generative
from palate.generative.ranker import TrainedGenerative
from palate.generative.recommender import GenerativeQuestion

run_kinds.register(
    "generative",
    RunKind(GenerativeQuestion, lambda run, asked: TrainedGenerative(load_generative(run, asked))),
)
