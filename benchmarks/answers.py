"""Measures the time of an answer from a stored user state, relative to the bare backbone without personalisation.

    python benchmarks/answers.py [--backbone base] [--run runs/movielens-1m] [--tokens 20] [--out answers.json]
    python benchmarks/answers.py --recommender runs/recommend --users 20

The bare backbone reads the instruction alone; palate builds the user prompt from a state and answers with it; the
paper's encoder re-encodes its window of 50. All write the same number of tokens and take turns, so that other load on
the machine affects them equally. Weights and histories are random; --run loads a trained model. The target is 1.15
times the bare backbone's time. With --recommender, the processor time of an answer about an item, with its reasons, is
compared with that of a question without an item, both matched to their kinds and answered from stored states of test
users: "Which ... does this user like?", which the packaged model answers in words. The target is 1.1 times its time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from make_ratings import GENRES
from palate.answers.load import answerer_of
from palate.answers.trained import in_trained_words
from palate.backbones.base import Backbone, generation_settings
from palate.backbones.t5 import random_t5
from palate.config.recipe import ModelSettings, RandomT5Settings, StreamingSettings, TaskSettings, UEMSettings
from palate.encoders.state import UserState
from palate.encoders.streaming import StreamingEncoder
from palate.items.encoder import EncoderIdentity
from palate.items.table import ItemTable
from palate.model.config import PersonalizedSettings
from palate.model.model import PersonalizedModel, load_model
from palate.recommend.files import load_recommender
from palate.runs.data import dataset_of
from palate.runs.run import load_run
from palate.schema import History, Preferences
from palate.system.machine import describe_machine
from palate.tasks import CategoryPreference
from palate.words import plural
from streaming import milliseconds

DEMO = ModelSettings(backbone=RandomT5Settings(), user_encoder=StreamingSettings(), task_prompt=8)
"""Layer sizes of a streaming model that trains in minutes."""
BASE = RandomT5Settings(d_model=768, d_ff=2048, num_heads=12, num_layers=12)
BASE_VOCABULARY = 32_128
"""T5 base has more tokens than a tokenizer trained on so few texts would."""
BATCHES = {"demo": (1, 32), "base": (1,)}
REPEATS = {"demo": 20, "base": 5}
LENGTHS = (10, 1_000, 100_000)
WINDOW = 50
ITEMS, FIELDS, VECTOR, RATINGS = 4_000, 2, 384, 5
TARGET = 1.15


def made_up_table(rng: np.random.Generator, items: int = ITEMS) -> ItemTable:
    return ItemTable(
        item_ids=[str(number) for number in range(items)],
        vectors=(rng.normal(size=(items, FIELDS, VECTOR)) / VECTOR**0.5).astype(np.float32),
        present=np.ones((items, FIELDS), dtype=np.bool_),
        rating_values=np.arange(1, RATINGS + 1, dtype=np.float32),
        rating_vectors=(rng.normal(size=(RATINGS, VECTOR)) / VECTOR**0.5).astype(np.float32),
        encoder=EncoderIdentity("made-up", None, "0" * 64, 64),
    )


def made_up_model(backbone_name: str, rng: np.random.Generator, items: int = ITEMS) -> PersonalizedModel:
    """Build a streaming model with random weights, on a small backbone or one with the sizes of T5 base."""
    task = CategoryPreference(GENRES, "genre", TaskSettings())
    each = np.arange(len(GENRES))[:, None]
    texts = [task.instruction, *task.target_texts(Preferences(each, each))]
    sizes = BASE if backbone_name == "base" else DEMO.backbone
    assert isinstance(sizes, RandomT5Settings)
    backbone = random_t5(sizes, texts)
    if backbone_name == "base":
        backbone.model.resize_token_embeddings(BASE_VOCABULARY, mean_resizing=False)
    settings = PersonalizedSettings(
        user_encoder=DEMO.user_encoder,
        task_prompt=DEMO.task_prompt,
        window=WINDOW,
        max_new_tokens=1,
        instruction=task.instruction,
        task=task.settings,
        category_field="genre",
        categories=GENRES,
        data_name="made-up",
        data_fingerprint="sha256:" + "0" * 64,
    )
    return PersonalizedModel(settings, backbone, made_up_table(rng, items)).eval()


def with_uem(model: PersonalizedModel) -> PersonalizedModel:
    """Return the same backbone and items with the paper's user encoder, in its sizes and with random weights."""
    settings = model.settings.model_copy(update={"user_encoder": UEMSettings(), "window": WINDOW})
    return PersonalizedModel(settings, Backbone(model.backbone, model.tokenizer), model.table).eval()


def write_exactly(model: PersonalizedModel, tokens: int) -> None:
    """Fix the length of all answers of this model's backbone to ``tokens``."""
    model.settings = model.settings.model_copy(update={"max_new_tokens": tokens})
    model.backbone.generation_config.min_new_tokens = tokens


def made_up_history(table: ItemTable, length: int, rng: np.random.Generator) -> History:
    return History(
        "someone",
        item_ids=[table.item_ids[index] for index in rng.integers(len(table), size=length)],
        ratings=rng.choice(table.rating_values, length).tolist(),
        timestamps=range(length),
    )


def bare_answers(model: PersonalizedModel, users: int) -> list[str]:
    """Generate from the instruction alone, for ``users`` rows at a time."""
    asked = model.tokenizer([model.settings.instruction] * users, return_tensors="pt")
    token_ids = model.backbone.generate(
        input_ids=asked["input_ids"],
        attention_mask=asked["attention_mask"],
        **generation_settings(model.settings.max_new_tokens),
    )
    answers: list[str] = model.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    return answers


def from_state(model: PersonalizedModel, encoder: StreamingEncoder, states: UserState) -> list[str]:
    """Generate answers for the users of these states."""
    return model.generate_from(encoder.prompt(states))


def answering(
    model: PersonalizedModel, users: int, rng: np.random.Generator
) -> dict[str, Callable[[], object]]:
    """Return the systems to time, for ``users`` at a time, the bare backbone first."""
    encoder = model.user_encoder
    if not isinstance(encoder, StreamingEncoder):
        raise SystemExit(f"a user state needs a streaming encoder, this model has {type(encoder).__name__}")
    jobs: dict[str, Callable[[], object]] = {"the instruction alone": partial(bare_answers, model, users)}
    for length in LENGTHS:
        history = made_up_history(model.table, length, rng)
        state = encoder.add(encoder.init_state(1), model.events([history]))
        states = state[
            torch.zeros(users, dtype=torch.int64)
        ]  # states have a constant size, so one is repeated
        jobs[f"from the state of {length:,} events"] = partial(from_state, model, encoder, states)
    windows = [made_up_history(model.table, WINDOW, rng) for _ in range(users)]
    uem = with_uem(model)
    jobs[f"the paper's encoder, {WINDOW} events read again"] = partial(uem.generate, windows)
    return jobs


def price_of_items(run: Path, users: int, rng: np.random.Generator) -> None:
    """Print the processor time of answers about an item, relative to that of a question without an item."""
    dataset = dataset_of(load_run(run))
    model, recommender = load_model("packaged", data=dataset, device="cpu"), load_recommender(run)
    answerer = answerer_of(model, recommender)
    field, index = dataset.info.category_field, dataset.users("test")
    histories = dataset.histories([dataset.user_ids[user] for user in index[:users]])
    states = [(model.new_state(), answerer.known([one], ["item-yes-no"])) for one in histories]
    for (state, _), history in zip(states, histories, strict=True):
        state.add(history)
    titles = [recommender.titles(rng.integers(len(recommender.items), size=1))[0] for _ in histories]
    asked = f"Which {plural(field)} does this user like?"

    def bare(number: int) -> None:
        matched = answerer.matched(asked)
        model.generate_from(states[number][0].prompt(), in_trained_words(matched, dataset.categories, field))

    def about_item(number: int) -> None:
        matched = answerer.matched(f'Would this user like "{titles[number]}"?')
        answerer.answer_each(states[number][1], matched)

    spent: dict[str, list[float]] = {"without an item": [], "about an item": []}
    for number in range(-1, len(histories)):  # the first turn loads what is loaded once
        for name, work in zip(spent, (bare, about_item), strict=True):
            start = time.process_time()
            work(max(number, 0))
            spent[name] += [time.process_time() - start] * (number >= 0)
    first, second = (1000 * float(np.median(times)) for times in spent.values())
    print(f"{len(histories)} users, {torch.get_num_threads()} threads, processor time, medians")
    print(
        f"without an item {first:.1f} ms, about an item {second:.1f} ms: {second / first:.2f} times, target 1.1"
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbone", choices=BATCHES, default="demo", help="sizes of the demo's backbone, or of T5 base"
    )
    parser.add_argument("--run", type=Path, help="trained run or model, instead of random weights")
    parser.add_argument(
        "--recommender", type=Path, help="run of a recommender: price of an answer about an item"
    )
    parser.add_argument("--users", type=int, default=20, help="users with --recommender")
    parser.add_argument("--tokens", type=int, default=20, help="tokens per answer")
    parser.add_argument("--repeats", type=int, help="measurements per system; default 20, or 5 for base")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    if arguments.recommender:
        price_of_items(arguments.recommender, arguments.users, rng)
        return
    model = load_model(arguments.run) if arguments.run else made_up_model(arguments.backbone, rng)
    write_exactly(model, arguments.tokens)
    rows, worst = [], {}
    print(f"{arguments.tokens} tokens an answer, {torch.get_num_threads()} threads")
    print(f"{'users':>5} {'':<43} {'time':>13} {'ratio':>7}")
    for users in BATCHES[arguments.backbone]:
        times = milliseconds(answering(model, users, rng), arguments.repeats or REPEATS[arguments.backbone])
        bare, *personal, _ = times.values()
        worst[users] = round(max(personal) / bare, 3)
        for name, one in times.items():
            rows.append(
                {"users": users, "answer": name, "milliseconds": round(one, 2), "ratio": round(one / bare, 3)}
            )
            print(f"{users:>5} {name:<43} {one:>10.1f} ms {one / bare:>7.2f}")
    for users, ratio in worst.items():
        print(f"{users} at a time from a state: {ratio:.2f} times the bare backbone's, target {TARGET}")
    if arguments.out:
        found = {
            "machine": describe_machine().model_dump(mode="json"),
            "threads": torch.get_num_threads(),
            "backbone": str(arguments.run or arguments.backbone),
            "tokens": arguments.tokens,
            "rows": rows,
            "worst_from_a_state": worst,
        }
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
