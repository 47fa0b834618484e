"""Benchmarks palate on a GPU: the paper's training step, the UEM against text, frozen decoders, parity with the CPU.

    python benchmarks/gpu.py --data data/ml-1m [--vectors FOLDER] [--parts 4,1,3,2] [--out docs/results-gpu.json]
    python benchmarks/gpu.py --smoke --device cpu --out smoke.json      # smoke test with tiny sizes

1. A training step of the paper's UEM (65.5M parameters) on a T5 with Flan-T5 base's sizes, 128 windows of 50,
   bfloat16: throughput, memory and share of the GPU's peak, a profile, and the effect of changes to it.
2. The UEM and the history as text (title, genres, rating) on the same randomly initialised T5 of 60M parameters,
   trained for the same time and evaluated on the same users, with references and another user's history as control.
3. The streaming user encoder, trained through frozen decoders with Gemma 3's sizes.
4. Training, encoding, generation, evaluation, questions and export: the GPU's results against the CPU's.

All backbone weights are random: no hub is needed, and scores say nothing about pretrained backbones.
Each part has a time limit, and its results are written when it ends; a failure is recorded as "error".
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
import transformers

from gpu_parts import decoders, paper, rivals, same
from gpu_parts.bench import SEED, Bench, Found, limit
from make_ratings import make_ratings
from palate.data.dataset import Dataset, load_dataset
from palate.data.prepare import prepare
from palate.system.machine import describe_machine, package_versions

PARTS: dict[str, tuple[str, Callable[[Bench, Found], None], float]] = {
    "1": ("paper_step", paper.measure, 180.0),
    "2": ("uem_against_text", rivals.measure, 170.0),
    "3": ("frozen_decoders", decoders.measure, 110.0),
    "4": ("as_on_the_cpu", same.measure, 80.0),
}
"""Each part's name in the file, its function, and its time limit in seconds."""


def main(given: Sequence[str] | None = None) -> None:
    arguments = parsed(given)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bench = Bench(
            dataset=made_up(work) if arguments.data is None else load_dataset(arguments.data),
            out=arguments.out,
            work=work,
            device=device_of(arguments.device),
            smoke=arguments.smoke,
            vectors=arguments.vectors,
            tokenizer=arguments.tokenizer,
            train_seconds=arguments.train_seconds,
            steps={
                name: steps
                for name, steps in (("uem-50", arguments.uem_steps), ("text-50", arguments.text_steps))
                if steps
            },
        )
        bench.results |= described(bench, arguments)
        bench.save()
        end = time.monotonic() + arguments.seconds
        for number in arguments.parts:
            run_part(bench, number, end - time.monotonic())
    print(markdown(bench.results))


def run_part(bench: Bench, number: str, left: float) -> None:
    """Run one part within its own and the remaining time limit; an error does not stop the other parts."""
    name, measure, seconds = PARTS[number]
    print(f"part {number}, {name}", flush=True)
    found = bench.results["parts"][name] = {}
    start = time.monotonic()
    try:
        with limit(max(1.0, left if bench.smoke else min(seconds, left))):
            measure(bench, found)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    found["spent_s"] = round(time.monotonic() - start, 2)
    bench.save()


def described(bench: Bench, arguments: argparse.Namespace) -> Found:
    """Describe the setup of the measurements."""
    return {
        "format": 1,
        "commit": arguments.commit,
        "smoke": bench.smoke,
        "seed": SEED,
        "machine": describe_machine().model_dump(mode="json"),
        "device": str(bench.device),
        "gpu": torch.cuda.get_device_name() if bench.gpu else None,
        "gpu_memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if bench.gpu else None,
        "gpu_driver": driver() if bench.gpu else None,
        "cuda": torch.version.cuda if bench.gpu else None,
        "python": platform.python_version(),
        "versions": package_versions()
        | {"torch": torch.__version__, "transformers": transformers.__version__},
        "float32_matrix_products": torch.get_float32_matmul_precision(),
        "data": bench.dataset.info.name,
        "data_fingerprint": bench.dataset.info.fingerprint,
        "item_vectors": "of the packaged MiniLM, titles and genres" if bench.vectors else "random",
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "parts": {},
    }


def driver() -> str | None:
    """Return the version of the GPU driver."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def made_up(work: Path) -> Dataset:
    """Build a small synthetic dataset."""
    make_ratings(work / "raw", users=60, items=120, ratings=2400, seed=SEED)
    return prepare(work / "raw", work / "data", dev_share=0.2, test_share=0.2)


def device_of(name: str) -> torch.device:
    if name == "auto" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use; give --device cpu for a smoke run without one")
    return torch.device("cuda" if name == "auto" else "cpu")


def markdown(results: Found) -> str:
    """Format the main figures as Markdown tables."""
    parts = results["parts"]
    lines = [f"## {results['gpu'] or results['machine']['processor']}, torch {results['versions']['torch']}"]
    lines += _table(
        "A training step of the paper's model",
        ("ms a step", "windows a second", "TFLOP/s", "share of peak", "peak GiB", "drawing ms"),
        {
            name: [
                row.get(key)
                for key in (
                    "step_ms",
                    "windows_a_second",
                    "tflop_a_second",
                    "share_of_peak",
                    "gpu_peak_memory_gib",
                    "drawing_batches_ms_a_step",
                )
            ]
            for name, row in parts.get("paper_step", {}).get("rows", {}).items()
        },
    )
    for name, row in parts.get("paper_step", {}).get("rows", {}).items():
        if profiled := row.get("profile"):
            lines += _table(
                f"Where it goes: {name} (idle {profiled['idle_share_of_an_unprofiled_step']:.0%}, "
                f"{profiled['kernels_a_step']:.0f} kernels a step)",
                ("ms a step", "calls", "share of busy"),
                {
                    f"`{one['name'][:70]}`": [one["ms_a_step"], one["calls_a_step"], one["share_of_busy"]]
                    for one in profiled["top"][:8]
                },
            )
    lines += _table(
        "The UEM against the history as text",
        (
            "steps",
            "steps a second",
            "vectors a prompt",
            "peak GiB",
            "dev liked F1",
            "with another user's history",
            "test liked F1",
            "with another user's history",
        ),
        {name: _rival(name, row) for name, row in parts.get("uem_against_text", {}).get("rows", {}).items()},
    )
    decoders_found = parts.get("frozen_decoders", {}).get("models", {})
    lines += _table(
        "The streaming user encoder through frozen decoders",
        ("ms a step", "questions a second", "peak GiB", "with the exact step GiB"),
        {
            f"{model}, {name}": [
                row.get(key)
                for key in (
                    "step_ms",
                    "questions_a_second",
                    "gpu_peak_memory_gib",
                    "gpu_peak_memory_of_warmup_gib",
                )
            ]
            for model, one in decoders_found.items()
            for name, row in one.get("rows", {}).items()
        },
    )
    lines += _table(
        "The GPU's results against the CPU's, largest differences",
        ("device", "prompts", "same answers", "same scores", "questions", "export", "all as on the CPU"),
        {
            name: [
                row.get(key)
                for key in (
                    "device",
                    "encode_difference",
                    "generate_same_share",
                    "evaluate_same",
                    "questions_difference",
                    "export_difference",
                    "as_on_the_cpu",
                )
            ]
            for name, row in parts.get("as_on_the_cpu", {}).get("rows", {}).items()
        },
    )
    for name, part in parts.items():
        lines.append(f"{name}: {part.get('spent_s', 0):.0f} s" + ("; FAILED" if "error" in part else ""))
    return "\n".join(lines)


def _rival(name: str, row: Found) -> list[object]:
    scores = row.get("scores", {})
    if name == "without training":
        said = [
            f"{who} {one['liked']['f1']['value']:.3f}"
            for split in scores.values()
            for who, one in split.items()
        ]
        return [*[None] * 4, *said]
    keys = "trained_steps", "steps_a_second", "vectors_of_a_prompt", "gpu_peak_memory_gib"
    scored = [one["liked"]["f1"]["value"] for split in scores.values() for one in split.values()]
    return [*(row.get(key) for key in keys), *scored]


def _table(title: str, columns: Sequence[str], rows: dict[str, list[object]]) -> list[str]:
    if not rows:
        return []
    lines = ["", f"### {title}", "", f"| | {' | '.join(columns)} |", f"|---{'|---:' * len(columns)}|"]
    for name, cells in rows.items():
        shown = [_shown(cell) for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown + [''] * (len(columns) - len(shown)))} |")
    return lines


def _shown(cell: object) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder written by palate prepare; synthetic by default")
    parser.add_argument("--vectors", type=Path, help="folder of the data's item table; random by default")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of Gemma 3's tokenizer; trained on the data by default"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results-gpu.json")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["4", "1", "3", "2"])
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--smoke", action="store_true", help="run everything with tiny sizes and few steps")
    parser.add_argument(
        "--seconds", type=float, default=470.0, help="time limit of all parts together, in seconds"
    )
    parser.add_argument("--train-seconds", type=float, default=45.0, help="time of each training in part 2")
    parser.add_argument("--uem-steps", type=int, help="steps of the UEM in part 2, to repeat a run exactly")
    parser.add_argument("--text-steps", type=int, help="steps of the history as text in part 2, likewise")
    parser.add_argument("--commit", help="commit of this code, if git is unavailable")
    arguments = parser.parse_args(given)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))} is no part; expected some of {', '.join(PARTS)}")
    if arguments.data is None and not arguments.smoke:
        parser.error("give --data, or --smoke for a run on made-up data")
    if arguments.device == "cpu" and not arguments.smoke:
        parser.error("--device cpu is for a smoke run; add --smoke")
    return arguments


if __name__ == "__main__":
    main(sys.argv[1:])
