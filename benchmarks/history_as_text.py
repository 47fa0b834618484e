"""Compares a frozen language model with user prompts and with the history as text, in quality and cost.

    python benchmarks/history_as_text.py RUN TEXT_RUN... [--users 64] [--window 50] [--out FILE.json]

All runs answer the task's instruction for the same test users and windows, and with another user's history as control,
with references beside them. Cost is measured for single users, one after the other, with the runs taking turns.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from palate.cli.console import show_table
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.tables import evaluation_sheet
from palate.reproduce.cost import answer_cost
from palate.schema import Examples
from palate.system.machine import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    whole = prepare_comparison(arguments.runs, Options(window=arguments.window, seed=arguments.seed))
    some, every = slice(arguments.users), whole.examples
    examples = Examples(every.user_index[some], every.windows[some], every.truth[some])
    evaluation = replace(whole, examples=examples).evaluate()
    show_table(evaluation_sheet(evaluation))
    models = {one.name: one.model for one in whole.predictors if isinstance(one, PersonalizedPredictor)}
    costs = {name: answer_cost(model, examples.windows.trimmed()) for name, model in models.items()}
    for name, cost in costs.items():
        print(f"{name}: {cost.input_vectors:,.0f} input vectors, {cost.milliseconds:,.0f} ms an answer")
    if arguments.out:
        found = {
            "machine": describe_machine().model_dump(mode="json"),
            "evaluation": evaluation.model_dump(mode="json"),
            "costs": {name: cost.model_dump() for name, cost in costs.items()},
        }
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
