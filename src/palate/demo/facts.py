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
        "Commit": manifest.commit or "an installed package",
        "Versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    return tuple(Fact(label=label, value=value) for label, value in facts.items())


def demo_notes(results: DemoResults) -> tuple[str, ...]:
    """Describe the method and its limitations."""
    main, paper = (results.runs[name].recipe for name in (MAIN, PAPER))
    task = load_task(main.task, results.comparison.dataset.info)
    width = getattr(paper.model.user_encoder, "width", None) or "as many"
    window, examples = results.evaluation.setting.window, results.comparison.examples
    lengths = results.comparison.dataset.interactions.lengths[examples.user_index]
    whole = int((lengths <= window).sum())
    return (
        "palate's user encoder reads the number and the sum of a window's ratings by category, and a summary of the "
        "training users. Empirical-Bayes estimates of what the full history will say are corrected by a network whose "
        "weights all categories share, and which had been pretrained on random populations alone; the names that it "
        "decides on stand in the user prompt, and the backbone, pretrained on random names, says them. Its decisions "
        "are calibrated on the training users. Here the network was trained further on random windows of "
        f"{main.windows.shortest} to {main.windows.longest} of their interactions; where no step is better on the "
        "dev users, the pretrained weights stay.",
        "The paper's User Embedding Module gives one user-prompt vector an item. Here it has a size that trains on "
        f"a CPU: its input is narrowed to {width} channels, at first to what a linear probe reads of an item's "
        f"categories and rating. It learns from windows of {paper.windows.longest} of real training users only, by "
        f"the answer's loss only, for the first {paper.train.window_labels:.0%} of its training with labels from the "
        "window itself, with a backbone as small. The paper trains one for each length; this one answers for all.",
        f"The truth comes from the full history, by a rule: up to {main.task.max_labels} categories with a mean "
        f"rating above {task.like_above:g} are liked, below {task.dislike_below:g} disliked, if rated "
        f"{main.task.min_count} times. The same rule on the visible window is the yardstick. {whole} of the "
        f"{len(lengths)} test users have no more than {window} ratings: for them the window is the whole "
        f"history, and the rule is right by definition. Counting alone is shown the full history.",
        f"One run and one split: the intervals over {len(lengths)} test users say nothing of another seed or split, "
        f"and differences smaller than they are wide should not be trusted. Windows are drawn at random. The scores "
        f"by length ({LENGTHS[0]} to {LENGTHS[-1]}) are means over {DRAWS} windows a user.",
        "The paper has two oddities: its table of history lengths repeats the text method's row at 5 items, and the "
        "gains in its abstract are over counting. Neither matters here, where nothing is compared with its figures.",
    )


def _parameters(run: RunFolder) -> str:
    model = load_model(run.path)
    encoder = sum(weight.numel() for weight in model.user_encoder.parameters())
    return (
        f"user encoder {encoder:,}, task prompt {model.task_prompt.numel():,}, "
        f"backbone {model.backbone.num_parameters():,}"
    )
