"""Texts of the demo's report: facts about the run, method and limitations."""

from __future__ import annotations

from palate.demo.scores import DRAWS, LENGTHS, MAIN, PAPER, DemoResults
from palate.model.model import load_model
from palate.report.build import duration
from palate.report.data import Fact
from palate.runs.run import RunFolder
from palate.tasks import load_task
from palate.words import counted


def demo_facts(results: DemoResults, seconds: dict[str, float], peak_memory_gib: float) -> tuple[Fact, ...]:
    """List the facts of the run; ``seconds`` is the wall time by stage."""
    info, run = results.comparison.dataset.info, results.runs[MAIN]
    manifest = run.manifest
    machine = manifest.machine
    memory = f", {machine.memory_gib:g} GiB" if machine.memory_gib else ""
    stages = ", ".join(f"{name} {duration(spent)}" for name, spent in seconds.items())
    facts = {
        "Dataset": f"{info.name}: {info.interactions:,} ratings of {info.items:,} items, "
        f"{counted(len(info.categories), info.category_field)}",
        "Users": ", ".join(f"{size:,} {split}" for split, size in info.split_sizes.items()),
        "Licence": info.licence,
        "Machine": f"{machine.processor}, {machine.cores} cores{memory}, {machine.gpu or 'no GPU'}",
        "Device": f"training on {manifest.device}, scoring on {results.comparison.device}",
        "Wall time": f"{duration(sum(seconds.values()))}: {stages}",
        "Peak memory": f"{peak_memory_gib:.1f} GiB",
        "Parameters, palate": _parameters(run),
        "Parameters, the paper's UEM": _parameters(results.runs[PAPER]),
        "Seed": str(manifest.seed),
        "Commit": manifest.commit or "unknown (an installed package)",
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    return tuple(Fact(label=label, value=value) for label, value in facts.items())


def demo_notes(results: DemoResults) -> tuple[str, ...]:
    """Describe the method and its limitations."""
    main, paper = (results.runs[name].recipe for name in (MAIN, PAPER))
    task = load_task(main.task, results.comparison.dataset.info)
    width = getattr(paper.model.user_encoder, "d_model", None)
    window, examples = results.evaluation.setting.window, results.comparison.examples
    lengths = results.comparison.dataset.interactions.lengths[examples.user_index]
    whole = int((lengths <= window).sum())
    return (
        "palate's user encoder reads the number and the sum of a window's ratings by category, and a summary of the "
        "training users. It corrects empirical-Bayes estimates of the full history by a network whose weights are "
        "shared by all categories and were pretrained on random populations only. The names of the selected "
        "categories form the user prompt, and the backbone, pretrained on random names, generates the answer from "
        "them. The decisions are calibrated on the training users. Here the network was fine-tuned on random windows "
        f"of {main.windows.shortest} to {main.windows.longest} of their interactions; if no step improves the score "
        "on dev users beyond chance, the pretrained weights are kept.",
        "The paper's User Embedding Module has one user-prompt vector per item. Here its size is reduced to train on "
        f"a CPU: its input is projected to {width} channels, initialised from a linear probe for an item's "
        f"categories and from its rating. It is trained on windows of {paper.windows.longest} of real training users "
        "only, with the answer's loss only, on labels computed from the window for the first "
        f"{paper.train.window_labels:.0%} of the steps, and with a backbone of the same size. The paper trains one "
        "model per window length; this one is evaluated at all lengths.",
        "The true labels are computed from the full history by the label rule: up to "
        f"{main.task.max_labels} categories with a mean rating above {task.like_above:g} are liked, and below "
        f"{task.dislike_below:g} disliked, with at least {main.task.min_count} ratings. The baseline is the same "
        f"rule on the visible window. {whole} of the {len(lengths)} test users have at most {window} ratings: their "
        "window is the full history, and the rule is right by definition. Only counting reads the full history.",
        f"There is one run and one split: the intervals over {len(lengths)} test users do not cover other seeds or "
        "splits, and smaller differences are not significant. Windows are drawn at random. The scores by length "
        f"({LENGTHS[0]} to {LENGTHS[-1]}) are means over {DRAWS} windows per user.",
        "The paper has two inconsistencies: its table of history lengths repeats the text method's row at 5 items, "
        "and the gains in its abstract are relative to counting. No score here is compared with the paper's.",
    )


def _parameters(run: RunFolder) -> str:
    model = load_model(run.path)
    encoder = sum(weight.numel() for weight in model.user_encoder.parameters())
    return (
        f"user encoder {encoder:,}, task prompt {model.task_prompt.numel():,}, "
        f"backbone {model.backbone.num_parameters():,}"
    )
