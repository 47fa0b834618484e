"""Measures how well the packaged model says names it has never seen, and the cost of an answer from a stored state.

    python benchmarks/spoken.py [--model packaged] [--catalogues 20] [--categories 30] [--repeats 30] [--lists 20]

Speech: random catalogues with names in many scripts, none of them from training, each with synthetic users. The
categories to name are random, so that no state explains them; the model decodes freely and constrained by the grammar.
Read back: the answer can be parsed and says nothing else; exact: it names what was decided, in order; swapped: if two
names change places in the prompt, they do in the answer. --lists instead asks the three kinds of questions about
confusable lists of names, that many times each, with free decoding.

Costs: an answer from the state of 10 to 1,000 events, relative to the same backbone that reads the instruction alone
and writes the same tokens under the same grammar. Both take turns. Targets: 1.05 times for a single user, 1.15 times
for 32 at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from palate.backbones.base import generation_settings
from palate.backbones.spelling import spelled
from palate.data.dataset import Dataset, DatasetInfo
from palate.encoders.base import UserPrompt
from palate.encoders.catalogue_free import UniversalEncoder
from palate.model.grammar import GrammarProcessor
from palate.model.model import PersonalizedModel, load_model
from palate.pretraining.names import random_catalogue, random_field
from palate.schema import Interactions, Preferences
from palate.system.machine import describe_machine
from palate.tasks import load_task
from palate.tasks.base import Task
from palate.tasks.wordings import NAMING, WORDINGS
from palate.words import plural
from streaming import milliseconds

USERS, ITEMS, EVENTS = 60, 120, 40
ASKED = 32
LENGTHS = (10, 100, 1_000)
SEED = 20_000
"""Seed far from those of the training."""
TARGETS = {1: 1.05, 32: 1.15}


def lists_of_one_kind(rng: np.random.Generator) -> dict[str, list[str]]:
    """Return lists of names that are hard to say or to tell apart."""
    long = [" ".join(random_catalogue(rng, int(size))) for size in rng.integers(5, 9, 60)]
    letters = [chr(one) for one in rng.integers(0x4E00, 0x9FA5, 400)]
    return {
        "numbered": [f"tag {number:03}" for number in range(30)],
        "numbers": [*(f"Series {number}" for number in range(1, 31)), "1987s rock", "1978s rock"],
        "codes": [
            *(f"{one:04x}-{one * 7919 % 65536:04x}-aa" for one in rng.integers(65536, size=15).tolist()),
            *(f"KXV-{one}-B" for one in rng.integers(10_000, 99_999, 15).tolist()),
        ],
        "Chinese": ["".join(rng.choice(letters, int(size))) for size in rng.integers(1, 9, 30)],
        "accents": [
            "Música", "Música ao vivo", "Músico", "Ação", "Ação e aventura", "Čeština", "Češka", "Übersetzung", "Über",
            "naïve", "naïf", "Éire", "Ñandú", "Ñandú azul", "Ångström", "Ångstrom", "Łódź", "Łódka", "smörgås", "smör",
        ],
        "few words": [
            "Home", "Garden", "Lamp", "Home and Garden", "Garden and Home", "Lamp and Home", "Home Lamp", "Lamp Home",
            "Garden Lamp", "Lamp Garden", "Home Garden Lamp", "Lamp Garden Home", "Home and Garden Lamp",
            "Home and Home", "Lamp and Lamp and Lamp",
        ],
        "like": [
            "la", "la la", "la la la", "like this", "The likes of us", "we like like that", "she likes it",
            "users like it", "like la", "la like", "likes and hates", "what one likes",
        ],
        "long": long,
    }  # fmt: skip


def made_up_data(
    rng: np.random.Generator, categories: int, events: int = EVENTS, called: Sequence[str] = ()
) -> Dataset:
    """Build a dataset with random or given names, and users with tastes."""
    names = tuple(called) or tuple(random_catalogue(rng, categories))
    has = np.zeros((ITEMS, categories), dtype=bool)
    for row in has:
        row[rng.choice(categories, min(2, categories), replace=False)] = True
    taste = rng.normal(0, 0.6, (USERS, categories))
    items = np.concatenate([rng.permutation(ITEMS)[:events] for _ in range(USERS)])
    felt = 3.3 + (taste.repeat(events, axis=0) * has[items]).mean(axis=1) + rng.normal(0, 0.7, len(items))
    interactions = Interactions(
        offsets=np.arange(USERS + 1) * events,
        item_index=items.astype(np.int32),
        rating_index=np.clip(np.round(felt) - 1, 0, 4).astype(np.uint8),
        timestamp=np.arange(len(items)),
    )
    table = pl.DataFrame(
        {
            "item_id": [str(item) for item in range(ITEMS)],
            "title": [f"Thing {item}" for item in range(ITEMS)],
            "year": [None] * ITEMS,
            "categories": [[names[index] for index in np.flatnonzero(row)] for row in has],
            "description": [None] * ITEMS,
        }
    )
    info = DatasetInfo(
        name="made up",
        source="made up",
        checksums={},
        licence="none",
        users=USERS,
        items=ITEMS,
        interactions=len(items),
        rating_values=(1.0, 2.0, 3.0, 4.0, 5.0),
        category_field=random_field(rng),
        categories=names,
        min_ratings=1,
        split_seed=0,
        split_sizes={"train": USERS - 20, "dev": 10, "test": 10},
        described_items=0,
        report={},
        fingerprint=f"sha256:{rng.integers(2**40):x}",
    )
    split = np.repeat(np.arange(3), [USERS - 20, 10, 10]).astype(np.uint8)
    return Dataset(info, interactions, [str(user) for user in range(USERS)], table, split)


def random_decisions(rng: np.random.Generator, users: int, labels: int, most: int) -> np.ndarray:
    """Draw any names in any order, [B, 2, most]."""
    named = np.full((users, 2, most), -1)
    for row in named:
        order = rng.permutation(labels)
        liked, disliked = (min(int(number), labels // 2) for number in rng.integers(0, most + 1, 2))
        row[0, :liked], row[1, :disliked] = order[:liked], order[liked : liked + disliked]
    return named


def swapped(named: np.ndarray) -> np.ndarray:
    """Swap the first two liked names; if there are none, the two halves."""
    other = named.copy()
    for row in other:
        if row[0, 1] >= 0:
            row[0, :2] = row[0, 1::-1]
        else:
            row[:] = row[::-1].copy()
    return other


@torch.inference_mode()
def said_exactly(model: PersonalizedModel, answers: int) -> dict[str, tuple[int, int]]:
    """Ask about confusable lists of names; count the answers that say what was decided, and all answers."""
    found = {}
    for number, (called, names) in enumerate(lists_of_one_kind(np.random.default_rng(SEED)).items()):
        rng = np.random.default_rng([SEED, 1, number])
        limit = model.settings.user_encoder.max_name_tokens
        ids = spelled(model.tokenizer, names)
        names = [name for name, tokens in zip(names, ids, strict=True) if len(tokens) <= limit]
        data = made_up_data(rng, len(names), called=names)
        bound, task = model.bind(data), load_task(model.settings.task, data.info)
        encoder = bound.user_encoder
        assert isinstance(encoder, UniversalEncoder)
        named = random_decisions(rng, min(answers, USERS), len(names), encoder.prompt.most)
        logits, hidden = read(
            encoder, bound.events(data.histories([str(user) for user in range(len(named))]))
        )
        user = encoder.prompt(torch.from_numpy(named), hidden, logits)
        user = UserPrompt(user.embeddings, user.mask)  # no draft
        bound.constrained = False
        right = 0
        for kind in NAMING:
            question = WORDINGS[kind].trained[0].format(fields=plural(data.info.category_field))
            texts = bound.generate_from(user, question)
            wanted = task.texts(kind, Preferences(named[:, 0], named[:, 1]))
            right += sum(text == want for text, want in zip(texts, wanted, strict=True))
        found[called] = right, len(named) * len(NAMING)
    return found


@dataclass
class Speech:
    """Counts of answers by correctness."""

    answers: int = 0
    read_back: int = 0
    exact: int = 0
    repeated: int = 0
    swapped: int = 0

    def add(self, texts: list[str], named: np.ndarray, task: Task) -> None:
        """Count answers that should say these names."""
        wanted = task.target_texts(Preferences(named[:, 0], named[:, 1]))
        again = task.target_texts(task.parse(texts))
        for text, target, back in zip(texts, wanted, again, strict=True):
            self.answers += 1
            self.read_back += text == back
            self.exact += text == target
            parts = text.removeprefix("The user likes ").replace(" and doesn't like ", ", ").split(", ")
            self.repeated += len(set(parts)) < len(parts)


@torch.inference_mode()
def speech(model: PersonalizedModel, catalogues: int, categories: int) -> dict[str, dict[str, float]]:
    """Ask about random decisions over random catalogues, with free and constrained decoding."""
    counts = {"free": Speech(), "constrained": Speech()}
    for number in range(catalogues):
        rng = np.random.default_rng([SEED, number])
        data = made_up_data(rng, categories)
        bound, task = model.bind(data), load_task(model.settings.task, data.info)
        encoder = bound.user_encoder
        assert isinstance(encoder, UniversalEncoder)
        named = random_decisions(rng, ASKED, categories, encoder.prompt.most)
        events = bound.events(data.histories([str(user) for user in range(ASKED)]))
        logits, hidden = read(encoder, events)
        for name, speaker in counts.items():
            bound.constrained = name == "constrained"
            texts = {}
            for which, decided in (("as decided", named), ("swapped", swapped(named))):
                user = encoder.prompt(torch.from_numpy(decided), hidden, logits)
                user = UserPrompt(user.embeddings, user.mask)  # no draft
                texts[which] = bound.generate_from(user)
                speaker.add(texts[which], decided, task)
            wanted = task.target_texts(Preferences(swapped(named)[:, 0], swapped(named)[:, 1]))
            speaker.swapped += sum(one == want for one, want in zip(texts["swapped"], wanted, strict=True))
    return {
        name: {
            "answers": one.answers,
            "read back": one.read_back / one.answers,
            "exact": one.exact / one.answers,
            "repeated": one.repeated / one.answers,
            "swapped": one.swapped / (one.answers / 2),
        }
        for name, one in counts.items()
    }


def read(encoder: UniversalEncoder, events: object) -> tuple[Tensor, Tensor]:
    """Compute the network's log-odds and hidden states of events."""
    found: list[tuple[Tensor, Tensor]] = []
    hook = encoder.network.register_forward_hook(lambda module, given, result: found.append(result))
    encoder(events)
    hook.remove()
    return found[0]


class Forced(LogitsProcessor):
    """Forces given tokens, so that both sides of a comparison write the same number."""

    def __init__(self, tokens: list[list[int]]) -> None:
        self._tokens, self._at = torch.tensor(tokens), 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask all but the next given token."""
        forced = torch.full_like(scores, -torch.inf)
        forced.scatter_(1, self._tokens[:, self._at : self._at + 1], 0.0)
        self._at += 1
        return forced


def bare_answers(model: PersonalizedModel, tokens: list[list[int]]) -> list[str]:
    """Generate these tokens from the instruction alone, under the grammar."""
    users = len(tokens)
    asked = model.tokenizer([model.settings.instruction] * users, return_tensors="pt")
    constraint = GrammarProcessor(model.grammar, [model.grammar.start("preference")] * users)
    written = model.backbone.generate(
        input_ids=asked["input_ids"],
        attention_mask=asked["attention_mask"],
        logits_processor=LogitsProcessorList([constraint, Forced(tokens)]),
        **generation_settings(len(tokens[0])),
    )
    answers: list[str] = model.tokenizer.batch_decode(written, skip_special_tokens=True)
    return answers


def costs(model: PersonalizedModel, categories: int, repeats: int) -> list[dict[str, object]]:
    """Time answers from stored states, relative to the bare backbone."""
    rng = np.random.default_rng(SEED)
    data = made_up_data(rng, categories)
    bound = model.bind(data)
    bound.constrained = True
    keeper, rows = bound.keeper, []
    print(f"{'users':>5} {'':<34} {'time':>12} {'ratio':>7}")
    for users in TARGETS:
        state = bound.read_into(
            keeper.init_state(users), data.histories([str(user) for user in range(users)])
        )
        states = {EVENTS: state}
        for length in LENGTHS:
            states[length] = state
            for _ in range(max(length // EVENTS - 1, 0)):
                states[length] = states[length].merge(state)
        draft = bound.generate_from(keeper.user_prompt(state))
        tokens = bound.tokenizer(draft, padding=True)["input_ids"]
        jobs: dict[str, Callable[[], object]] = {
            "the instruction alone": partial(bare_answers, bound, tokens)
        }
        for length in LENGTHS:
            jobs[f"from the state of {length:,} events"] = partial(from_state, bound, states[length], True)
        jobs["the same, without drafts"] = partial(from_state, bound, states[LENGTHS[0]], False)
        times = milliseconds(jobs, repeats)
        bare = times["the instruction alone"]
        for name, one in times.items():
            rows.append({"users": users, "answer": name, "milliseconds": one, "ratio": one / bare})
            print(f"{users:>5} {name:<34} {one:>9.1f} ms {one / bare:>7.2f}")
    return rows


def from_state(model: PersonalizedModel, state: object, drafts: bool) -> list[str]:
    """Generate answers for the users of a state."""
    with torch.inference_mode():
        user = model.keeper.user_prompt(state)
    return model.generate_from(user if drafts else UserPrompt(user.embeddings, user.mask))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="packaged", help="packaged, or the folder of a model of that kind")
    parser.add_argument("--catalogues", type=int, default=20, help="number of random catalogues")
    parser.add_argument("--categories", type=int, default=30, help="categories per catalogue")
    parser.add_argument("--repeats", type=int, default=30, help="measurements per system")
    parser.add_argument(
        "--lists", type=int, help="test confusable lists only, with this many of each question"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    model = load_model(arguments.model, device="cpu")
    if arguments.lists:
        for called, (right, all_) in said_exactly(model, arguments.lists).items():
            print(f"{called:<12} {right / all_:.3f} of {all_}")
        return
    start = time.perf_counter()
    said = speech(model, arguments.catalogues, arguments.categories)
    for name, one in said.items():
        print(f"{name:<12}", ", ".join(f"{key} {value:.4g}" for key, value in one.items()))
    print(f"{time.perf_counter() - start:.0f} s")
    rows = costs(model, arguments.categories, arguments.repeats)
    if arguments.out:
        found = {"machine": describe_machine().model_dump(mode="json"), "speech": said, "costs": rows}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
