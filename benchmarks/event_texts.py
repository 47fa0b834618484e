"""Measures the value of users' own texts: PEPLER with user vectors encoded with and without review texts.

    python benchmarks/event_texts.py RUN [--seeds 3] [--steps 300] [--encoder pooled]

RUN is a run of a recipe with a section ``pepler`` and continuous prompts. Its weights stay frozen; for each seed, two
user encoders are trained on the same batches for the same number of steps. On the run's held-out test interactions,
they are compared with the trained ids and with the mean id, paired.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from palate.config.recipe import MLPSettings, PooledSettings, ResamplerSettings
from palate.generative.newcomers import newcomer_histories
from palate.generative.pepler_cases import RatedTexts, split_texts
from palate.generative.pepler_files import load_pepler
from palate.generative.pepler_scores import PeplerScores, score_pepler
from palate.generative.pepler_training import train_newcomers
from palate.generative.text_metrics import text_difference
from palate.ranking.explanation_tables import pepler_sheet
from palate.ranking.explanations import history_vectors
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import Doubles

Answers: TypeAlias = tuple[PeplerScores, list[str] | None, Doubles | None]
MEASURES: dict[str, Callable[[Doubles], float]] = {
    "RMSE": lambda error: float(np.sqrt((error**2).mean())),
    "MAE": lambda error: float(np.abs(error).mean()),
}
RESAMPLES = 1000
"""Resamples of the bootstrap over interactions."""
ENCODERS = {
    "pooled": PooledSettings(d_ff=128),
    "mlp": MLPSettings(d_ff=128),
    "resampler": ResamplerSettings(num_queries=4, d_model=64, num_layers=1, num_heads=4),
}


def main() -> None:
    """Train, score and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--encoder", choices=ENCODERS, default="pooled")
    asked = parser.parse_args()
    run = load_run(asked.run)
    trained, recipe, dataset = load_pepler(asked.run), run.recipe, dataset_of(run, asked.data)
    assert recipe.pepler is not None
    split, model, values = (
        split_texts(dataset, recipe.pepler, recipe.seed),
        trained.model,
        dataset.info.rating_values,
    )
    cases = split.test
    found = {
        "trained id": score_pepler(model, cases, values, "trained id"),
        "mean id": score_pepler(model, cases, values, "mean id", model.mean_user.expand(len(cases), -1)),
    }
    for one in found.values():
        _tell(one[0])
    for seed in range(asked.seeds):
        for texts in (False, True):
            name = f"history {'with' if texts else 'without'} texts, seed {seed}"
            pepler = recipe.pepler.model_copy(update={"newcomer_steps": asked.steps})
            given = recipe.model.model_copy(
                update={"user_encoder": ENCODERS[asked.encoder], "event_texts": texts}
            )
            other = recipe.model_copy(update={"seed": seed, "pepler": pepler, "model": given})
            with tempfile.TemporaryDirectory() as folder:
                train_newcomers(
                    model, other, dataset, split, Path(folder), lambda line: print(line, flush=True)
                )
            vectors = history_vectors(model, newcomer_histories(other, dataset, split), cases)
            found[name] = score_pepler(model, cases, values, name, vectors)
            _tell(found[name][0])
    print(
        pepler_sheet(
            [one[0] for one in found.values()], f"{dataset.info.name}, {len(cases):,} tests"
        ).markdown()
    )
    for seed in range(asked.seeds):
        without, told = (found[f"history {word} texts, seed {seed}"] for word in ("without", "with"))
        _compare(f"with less without texts, seed {seed}", without, told, cases, values)
        for name in ("mean id", "trained id"):
            _compare(f"with texts less {name}, seed {seed}", found[name], told, cases, values)


def _tell(scores: PeplerScores) -> None:
    rmse = "" if scores.ratings is None else f", RMSE {scores.ratings.rmse:.3f}, MAE {scores.ratings.mae:.3f}"
    bleu = "" if scores.texts is None else f", BLEU-1 {scores.texts.bleu1}"
    print(f"{scores.name}{bleu}{rmse}", flush=True)


def _compare(name: str, first: Answers, second: Answers, cases: RatedTexts, values: Sequence[float]) -> None:
    parts = []
    if cases.texts is not None and first[1] is not None and second[1] is not None:
        for measure, one in text_difference((first[1], cases.texts), second[1]).items():
            parts.append(f"{measure} {one:+.2f}")
    if first[2] is not None and second[2] is not None:
        errors = [np.clip(one, min(values), max(values)) - cases.rating for one in (first[2], second[2])]
        rng = np.random.default_rng(0)
        draws = [rng.integers(len(cases), size=len(cases)) for _ in range(RESAMPLES)]
        for measure, of in MEASURES.items():
            value = of(errors[1]) - of(errors[0])
            low, high = np.percentile(
                [of(errors[1][rows]) - of(errors[0][rows]) for rows in draws], [2.5, 97.5]
            )
            parts.append(f"{measure} {value:+.4f} ({low:+.4f} to {high:+.4f})")
    print(f"{name}: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
