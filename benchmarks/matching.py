"""Evaluates the matching of free questions to kinds, on held-out wordings and on out-of-scope questions.

    python benchmarks/matching.py RUN [RUN ...] --seed 0
    python benchmarks/matching.py --styles

The held-out wordings of ``palate.tasks.asked`` and those of ``benchmarks/new_wordings.txt`` are filled with names
drawn from each recommender's catalogue, and so are the questions of ``benchmarks/out_of_scope/own.txt``, which were
written before any measurement. Those of ``public.txt`` resemble public datasets of intents, trivia, code and prompts
for language models. All are matched as ``palate answers`` does, with the sentence encoder and without. ``--styles``
cross-validates the matcher's settings over the styles of ``palate.tasks.asked_styles`` instead: each style's wordings
are matched by a matcher fitted without them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from palate.answers.answerer import Answerer
from palate.answers.load import question_matcher
from palate.config.recipe import ItemSettings
from palate.errors import PalateError
from palate.items.encoder import ItemEncoder
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.system.extras import missing_modules
from palate.tasks.asked import ASKED
from palate.tasks.asked_styles import STYLED, fitted_wordings
from palate.tasks.matching import CATEGORY, ITEM, QuestionMatcher, bare
from palate.words import plural

SETS = Path(__file__).parent / "out_of_scope"
NEW = Path(__file__).parent / "new_wordings.txt"


def main() -> None:
    """Evaluate runs and print a row per matcher."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the errors")
    parser.add_argument("--styles", action="store_true", help="cross-validate over styles")
    given = parser.parse_args()
    if given.styles:
        cross_validate()
        return
    print(
        "| run | matched by | held-out: right | refused | new: right | refused | own: answered | public: answered |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    words = QuestionMatcher()
    for run in given.runs:
        for name, matcher in (("encoder", question_matcher()), ("words", words)):
            print("| " + " | ".join(measured(run, name, matcher, given.seed, given.show)) + " |", flush=True)


def measured(run: Path, name: str, matcher: QuestionMatcher, seed: int, show: bool) -> list[str]:
    """Evaluate one matcher on a run's catalogue."""
    recommender, info = load_recommender(run), dataset_of(load_run(run)).info
    answerer = Answerer(recommender, lambda: matcher, field=info.category_field)
    fill = Filling(answerer, info.category_field, recommender.facts.item_noun, seed)
    sets = [
        [(str(kind), one) for kind, asked in ASKED.items() for one in asked.held_out],
        [(kind, one) for kind, one in (line.split("\t") for line in questions(NEW))],
    ]
    shares = []
    for wordings in sets:
        told: Counter[str] = Counter()
        for kind, wording in wordings:
            found = matched(answerer, fill(wording))
            told["right" if found == kind else "refused" if found is None else "wrong"] += 1
            if show and found != kind:
                print(f"    {kind} -> {found}: {wording}")
        shares += [
            f"{told['right'] / len(wordings):.1%} of {len(wordings)}",
            f"{told['refused'] / len(wordings):.1%}",
        ]
    answered = {}
    for file in ("own", "public"):
        asked = list(questions(SETS / f"{file}.txt"))
        texts = [fill(one) if "{" in one and file == "own" else one for one in asked]
        kinds = [matched(answerer, text) for text in texts]
        wrong = [(text, kind) for text, kind in zip(texts, kinds, strict=True) if kind is not None]
        answered[file] = f"{len(wrong) / len(asked):.1%} of {len(asked)}"
        if show:
            print("\n".join(f"    {file}: {kind}: {text}" for text, kind in wrong))
    return [run.name, name, *shares, answered["own"], answered["public"]]


def cross_validate() -> None:
    """Print how wordings of each style are matched without that style, for several thresholds."""
    examples = fitted_wordings()
    print("| matched by | minimum probability | right | refused | of no kind: answered |")
    print("|---|---:|---:|---:|---:|")
    encoder = None if missing_modules("minilm") else ItemEncoder(ItemSettings(), "cpu").encode
    for name, encode in (("encoder", encoder), ("words", None)):
        found: list[tuple[str | None, str | None, float]] = []
        for style in STYLED:
            held = [one for one in examples if one.style == style]
            matcher = QuestionMatcher(encode, without={one.wording for one in held})
            for one in held:
                text = bare(one.wording)
                numbers = (text.split().count(CATEGORY), text.split().count(ITEM))
                kind, chance = matcher.likeliest(text, *numbers)
                found.append((one.kind, kind, chance))
        for least in (0.3, 0.4, 0.5, 0.6, 0.7):
            own = [(kind == true, chance >= least) for true, kind, chance in found if true is not None]
            others = [chance >= least for true, _, chance in found if true is None]
            right, kept = (float(np.mean([row])) for row in ([a and b for a, b in own], [b for _, b in own]))
            print(f"| {name} | {least} | {right:.1%} | {1 - kept:.1%} | {np.mean(others):.1%} |", flush=True)


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
