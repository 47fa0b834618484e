"""Measures several instructions about one user with the prefix [K; U_e] encoded once, against once per instruction.

    python benchmarks/prefix.py RUN [--users 1] [--instructions 5] [--repeats 5] [--out prefix.json]

RUN is the folder of a trained decoder-only model whose dataset is still at the recipe's path. First, the answers of
both ways are checked to be equal. Both take turns, so that other load on the machine affects them equally. The speedup
grows with the length of the user prompt (a history as text) and falls with that of the answers (``--tokens``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from palate.data.dataset import load_dataset
from palate.model.model import PersonalizedModel, load_model
from palate.runs.run import load_run
from palate.schema import History
from palate.system.machine import describe_machine
from streaming import milliseconds

QUESTIONS = (
    "Which genres does this user like and dislike?",
    "Which genres does this user like?",
    "What should this user watch next?",
    "Which genres should be avoided?",
    "Describe this user's taste in one sentence.",
)


def each(model: PersonalizedModel, people: list[History], questions: list[str]) -> list[list[str]]:
    return [model.generate(people, question) for question in questions]


def once(model: PersonalizedModel, people: list[History], questions: list[str]) -> list[list[str]]:
    prefix = model.prefix(people)
    return [model.generate_after(prefix, question) for question in questions]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--instructions", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = load_model(arguments.run)
    model.settings = model.settings.model_copy(update={"max_new_tokens": arguments.tokens})
    dataset = load_dataset(load_run(arguments.run).recipe.data.path)
    people = dataset.histories(dataset.user_ids[: arguments.users])
    questions = [QUESTIONS[at % len(QUESTIONS)] for at in range(arguments.instructions)]
    if each(model, people, questions) != once(model, people, questions):
        raise SystemExit("the answers differ: a prefix that was read once must change nothing")
    ways: dict[str, Callable[[], object]] = {
        "each": lambda: each(model, people, questions),
        "once": lambda: once(model, people, questions),
    }
    found = milliseconds(ways, arguments.repeats)
    length = int(model.prefix(people).prompt.lengths.float().mean())
    print(f"{arguments.users} users, {len(questions)} instructions, {length} vectors before each instruction")
    print(
        f"read for each {found['each']:,.1f} ms, read once {found['once']:,.1f} ms: "
        f"{found['each'] / found['once']:.2f} times as fast"
    )
    if arguments.out:
        result = {"machine": describe_machine().model_dump(mode="json"), "vectors": length, **found}
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
