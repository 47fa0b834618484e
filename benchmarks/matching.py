"""Evaluates the matching of free questions to kinds, on held-out wordings and on out-of-scope questions.

    python benchmarks/matching.py RUN [RUN ...] --seed 0

The held-out wordings of ``palate.tasks.asked`` are filled with names drawn from each recommender's catalogue, and so
are the questions of ``benchmarks/out_of_scope/own.txt``, which were written before any measurement. Those of
``public.txt`` resemble public datasets of intents, trivia, code and prompts for language models. All are matched as
``palate answers`` does, with the sentence encoder and without.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from palate.answers.answerer import Answerer
from palate.answers.load import question_matcher
from palate.errors import PalateError
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.tasks.asked import ASKED
from palate.tasks.matching import QuestionMatcher
from palate.words import plural

SETS = Path(__file__).parent / "out_of_scope"


def main() -> None:
    """Evaluate runs and print a row per matcher."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the errors")
    given = parser.parse_args()
    print("| run | matched by | held-out wordings | right | refused | own: answered | public: answered |")
    print("|---|---|---:|---:|---:|---:|---:|")
    words = QuestionMatcher()
    for run in given.runs:
        for name, matcher in (("encoder", question_matcher()), ("words", words)):
            print("| " + " | ".join(measured(run, name, matcher, given.seed, given.show)) + " |", flush=True)


def measured(run: Path, name: str, matcher: QuestionMatcher, seed: int, show: bool) -> list[str]:
    """Evaluate one matcher on a run's catalogue."""
    recommender, info = load_recommender(run), dataset_of(load_run(run)).info
    answerer = Answerer(recommender, lambda: matcher, field=info.category_field)
    fill = Filling(answerer, info.category_field, recommender.facts.item_noun, seed)
    told: Counter[str] = Counter()
    wordings = [(kind, one) for kind, asked in ASKED.items() for one in asked.held_out]
    for kind, wording in wordings:
        found = matched(answerer, fill(wording))
        told["right" if found == kind else "refused" if found is None else "wrong"] += 1
        if show and found != kind:
            print(f"    {kind} -> {found}: {wording}")
    answered = {}
    for file in ("own", "public"):
        asked = list(questions(SETS / f"{file}.txt"))
        texts = [fill(one) if "{" in one and file == "own" else one for one in asked]
        kinds = [matched(answerer, text) for text in texts]
        wrong = [(text, kind) for text, kind in zip(texts, kinds, strict=True) if kind is not None]
        answered[file] = f"{len(wrong) / len(asked):.1%} of {len(asked)}"
        if show:
            print("\n".join(f"    {file}: {kind}: {text}" for text, kind in wrong))
    number = len(wordings)
    shares = [f"{told[one] / number:.1%}" for one in ("right", "refused")]
    return [run.name, name, str(number), *shares, answered["own"], answered["public"]]


class Filling:
    """Fills templates with names from a catalogue."""

    def __init__(self, answerer: Answerer, field: str, thing: str, seed: int) -> None:
        self._names, self._rng = answerer.names, np.random.default_rng(seed)
        self._words = {"field": field, "fields": plural(field), "thing": thing, "things": plural(thing)}

    def __call__(self, wording: str) -> str:
        """Fill a template."""
        categories = self._rng.choice(len(self._names.categories), 2, replace=False)
        items = self._rng.choice(len(self._names.titles), 2, replace=False)
        named = {
            name: self._names.categories[at]
            for name, at in zip(("category", "other"), categories, strict=True)
        }
        quoted = (f'"{self._names.entity("item", int(at)).name}"' for at in items)
        return wording.format(
            **self._words, **named, **dict(zip(("item", "another"), quoted, strict=True)), low="1", high="5"
        )


def questions(path: Path) -> Iterator[str]:
    """Read the questions of a file, one per line, without comments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def matched(answerer: Answerer, text: str) -> str | None:
    """Match a question; None if it is refused."""
    try:
        return answerer.matched(text).kind
    except PalateError:
        return None


if __name__ == "__main__":
    main()
