"""Measures written answers: how many pass the check, what they cost, and how they read.

    python benchmarks/written_answers.py RUN [RUN ...] --writer packaged:gemma3-270m --users 10 [--out written.jsonl]

Each test user is asked a question of every kind whose sentence may be written, about random items and categories;
answers without a choice, such as "Nothing stands out …", are not counted. The tokens of the sentence and the processor
time of writing it, without the answer's computation, are medians. --out gets the answers with both texts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.answers.answerer import WordedAnswer
from palate.answers.facts import Draft
from palate.answers.load import load_answerer
from palate.answers.writer import SentenceWriter, load_writer
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.tasks.asked import AskedKind

QUESTIONS: dict[AskedKind, tuple[str, int, int]] = {
    "profile": ("Describe this user's taste in two sentences.", 0, 0),
    "yes-no": ("Does this user like {category}?", 0, 1),
    "pair": ("Does this user prefer {category} or {category}?", 0, 2),
    "rating": ("How many stars would this user give {item}?", 1, 0),
    "item-yes-no": ("Would this user like {item}?", 1, 0),
    "item-pair": ("Would this user prefer {item} or {item}?", 2, 0),
    "next-item": ("Which of these comes next?", 3, 0),
    "recommendation": ("What should I recommend to this user and why?", 0, 0),
    "avoid": ("What should this user not be shown?", 0, 0),
}
"""A question of each kind, and the numbers of items and of categories that are given with it."""


class Timed:
    """A writer that keeps each draft and the processor time of writing it."""

    def __init__(self, writer: SentenceWriter) -> None:
        self.writer, self.identity = writer, writer.identity
        self.draft, self.seconds = Draft("", ()), 0.0

    def write(self, draft: Draft, kind: AskedKind) -> str | None:
        """Write like the writer."""
        start = time.process_time()
        text = self.writer.write(draft, kind)
        self.draft, self.seconds = draft, time.process_time() - start
        return text


def main() -> None:
    """Evaluate runs and print a row per run and kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--writer", default="packaged:gemma3-270m")
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    writer = Timed(load_writer(given.writer, "cpu"))
    lines: list[dict[str, Any]] = []
    print("| run | kind | answers | written | tokens | processor seconds |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for run in given.runs:
        found = measured(run, writer, given.users, given.seed)
        for kind, answers in found.items():
            written = sum(one.source == "written" for one, _, _ in answers)
            seconds = float(np.median([spent for _, _, spent in answers]))
            tokens = np.median([len(writer.writer.tokens(one.text)) for one, _, _ in answers])
            shown = (
                run.name,
                kind,
                len(answers),
                f"{written / len(answers):.1%}",
                f"{tokens:.0f}",
                f"{seconds:.2f}",
            )
            print("| " + " | ".join(map(str, shown)) + " |", flush=True)
            lines += [
                {"run": run.name, "kind": kind, "source": one.source, "text": one.text, "template": draft}
                for one, draft, _ in answers
            ]
    if given.out:
        given.out.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines))


def measured(
    run: Path, writer: Timed, users: int, seed: int
) -> dict[AskedKind, list[tuple[WordedAnswer, str, float]]]:
    """Ask about the first test users of a run; returns answers, templates and seconds by kind."""
    dataset, answerer = dataset_of(load_run(run)), load_answerer(run, device="cpu")
    answerer.writer = writer  # type: ignore[assignment]
    assert answerer.recommender is not None
    rng, ids = np.random.default_rng(seed), answerer.recommender.item_ids
    found: dict[AskedKind, list[tuple[WordedAnswer, str, float]]] = defaultdict(list)
    for history in dataset.histories([dataset.user_ids[at] for at in dataset.users("test")[:users]]):
        for kind, (question, items, categories) in QUESTIONS.items():
            item_ids = [ids[at] for at in rng.choice(len(ids), items, replace=False)]
            named = [dataset.categories[at] for at in rng.choice(len(dataset.categories), categories, False)]
            if kind not in answerer.kinds or set(item_ids) & set(history.item_ids):
                continue
            (answer,) = answerer.answer([history], question, item_ids=item_ids, categories=named)
            if writer.draft.facts:
                found[answer.kind].append((answer, writer.draft.text, writer.seconds))
    return found


if __name__ == "__main__":
    main()
