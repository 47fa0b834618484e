"""Part 4: a model's results on the GPU against those on the CPU, in float32."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gpu_parts.bench import SEED, Bench, Found
from palate.config.load import Layer, recipe_from
from palate.config.recipe import Recipe
from palate.data.windows import make_examples
from palate.evaluation.evaluate import Setting, score_predictors
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.questions import score_questions
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.model.model import load_model
from palate.schema import Examples
from palate.training.train import train_run

if TYPE_CHECKING:
    from palate.model.model import PersonalizedModel

USERS, SCORED, WINDOW = 24, 64, 20
SAME = 1e-3
"""Maximum difference of user prompts that differ by rounding only."""
ENCODERS: dict[str, dict[str, Any]] = {
    "streaming": {"kind": "streaming", "num_queries": 8, "d_model": 32, "num_layers": 1, "num_heads": 2},
    "uem": {"kind": "uem", "d_model": 64, "num_layers": 2, "num_heads": 2, "d_kv": 32, "d_ff": 128},
    "resampler": {"kind": "resampler", "num_queries": 6, "d_model": 32, "num_layers": 1, "num_heads": 2},
    "text": {"kind": "text", "descriptions": False},
}
QUESTIONS = ("preference", "yes-no", "pair", "rating")


def measure(bench: Bench, found: Found) -> None:
    """Train a small model of each kind by palate.train, and compare its results on both devices."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    encoder = sentence_encoder(bench.work / "encoder")
    found["settings"] = {"users": USERS, "window": WINDOW, "tf32": False, "largest_allowed_difference": SAME}
    rows = found["rows"] = {}
    try:
        for name in ("streaming", "text") if bench.smoke else ENCODERS:
            with bench.row(rows, name, 20.0) as row:
                compare(bench, _recipe(bench, name, encoder), bench.work / f"run-{name}", row)
        with bench.row(found, "command_lines", 60.0) as row:
            run_commands(bench, bench.work / "run-streaming", row)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def compare(bench: Bench, recipe: Recipe, run: Path, row: Found) -> None:
    """Train a model, load it on both devices, and compare the answers."""
    said: list[str] = []
    train_run(recipe, run, said.append)
    row["train_says"] = said
    cpu = load_model(run, device="cpu")
    there = load_model(run, device="auto") if bench.gpu else load_model(run, device="cpu")
    row["device"] = str(there.device)
    data = bench.dataset
    users = [data.user_ids[int(index)] for index in data.users("test")[:USERS]]
    histories = data.histories(users)
    here = cpu.encode(histories).embeddings
    row["encode_difference"] = _apart(here, there.encode(histories).embeddings)
    texts = cpu.generate(histories), there.generate(histories)
    row["generate_same_share"] = sum(map(str.__eq__, *texts)) / len(users)
    row["different_answers_of_all"] = len(set(texts[0]))
    row["evaluate_same"] = _scores(bench, cpu) == _scores(bench, there)
    asked = [_questions(bench, model) for model in (cpu, there)]
    row["questions_difference"] = max(abs(one - other) for one, other in zip(*asked, strict=True))
    export_prompts(run, histories, run / "prompts")
    prompts = read_prompts(run / "prompts")
    own = cpu.encode(histories).split()
    row["export_difference"] = max(
        _apart(one, prompts.user_prompt(user)) for user, one in zip(users, own, strict=True)
    )
    if recipe.model.user_encoder.kind == "streaming":
        states = [model.new_state() for model in (cpu, there)]
        for state in states:
            state.add(histories[0])
        row["state_difference"] = _apart(states[0].prompt(), states[1].prompt())
    differences = [value for name, value in row.items() if name.endswith("_difference")]
    row["as_on_the_cpu"] = (
        max(differences) < SAME and row["generate_same_share"] == 1 and bool(row["evaluate_same"])
    )


def run_commands(bench: Bench, run: Path, row: Found) -> None:
    """Run palate's commands on a run, each in a separate process, and record the device that they report."""
    user = bench.dataset.user_ids[int(bench.dataset.users("test")[0])]
    (bench.work / "users.txt").write_text(f"{user}\n")
    commands = {
        "evaluate": [str(run), "rule", "--window", str(WINDOW), "--out", str(bench.work / "scores")],
        "questions": [str(run), "--users", "16", "--out", str(bench.work / "questions.json")],
        "generate": [str(run), "--user", user],
        "export": [str(run), "--users", str(bench.work / "users.txt"), "--out", str(bench.work / "exported")],
    }
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "palate", name, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, arguments in commands.items()
    }
    for name, process in started.items():
        said, _ = process.communicate()
        lines = said.splitlines()
        row[name] = {
            "exit_code": process.returncode,
            "says_of_its_device": [line.strip() for line in lines if "cuda" in line or "cpu" in line.lower()],
            "last_line": lines[-1] if lines else "",
        }
    for name, place in {"evaluate": "scores", "questions": "questions.json", "export": "exported"}.items():
        path = bench.work / place
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        said = "".join(file.read_text() for file in files if file.is_file())
        row[name]["file_says"] = re.findall(r'"device": *"([^"]*)"', said)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.detach().cpu().float() - other.detach().cpu().float()).abs().max())


def _scores(bench: Bench, model: PersonalizedModel) -> Any:
    setting = Setting(split="test", window=WINDOW, kind="random", seed=SEED)
    examples = make_examples(bench.dataset, bench.task, "test", WINDOW, "random", SEED)
    first = slice(SCORED)
    examples = Examples(examples.user_index[first], examples.windows[first], examples.truth[first])
    predictor = PersonalizedPredictor(model, "model")
    scored = score_predictors([predictor], examples, bench.task, bench.dataset, setting)
    return scored.predictors[0].scores, [one.answer for one in scored.predictions]


def _questions(bench: Bench, model: PersonalizedModel) -> list[float]:
    setting = Setting(split="test", window=WINDOW, kind="random", seed=SEED)
    scored = score_questions(model, bench.dataset, bench.task, setting, QUESTIONS, 4 if bench.smoke else 16)
    return [score for row in scored.rows for score in row.scores.values() if score == score]


def _recipe(bench: Bench, name: str, encoder: Path) -> Recipe:
    settings: dict[str, Any] = {
        "name": name,
        "seed": SEED,
        "data": {"path": str(bench.dataset.path)},
        "items": {"encoder": str(encoder), "max_seq_length": 32, "cache": str(bench.work / "cache")},
        "windows": {"kind": "random", "shortest": WINDOW, "longest": WINDOW},
        "model": {
            "backbone": {"kind": "random-t5", "d_model": 64, "d_ff": 128, "num_heads": 2, "num_layers": 2},
            "user_encoder": ENCODERS[name],
            "task_prompt": 4,
        },
        "train": {
            "max_steps": 3 if bench.smoke else 40,
            "per_device_train_batch_size": 4 if bench.smoke else 16,
            "learning_rate": 2e-3,
            "eval_steps": 40,
            "eval_users": 4 if bench.smoke else 16,
            "questions": dict.fromkeys(QUESTIONS, 1.0),
        },
        "evaluate": {"window": WINDOW},
    }
    return recipe_from([Layer("benchmark", settings)])


def sentence_encoder(folder: Path) -> Path:
    """Save a tiny BERT with mean pooling and random weights, and a tokenizer that spells by letters."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(16), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "encoder"))
    return folder / "encoder"
