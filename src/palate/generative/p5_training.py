"""Trains P5 or POD by a recipe, into a run's folder; an interrupted training goes on with the same result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load, save_file
from transformers import get_scheduler

from palate.backbones.load import load_backbone
from palate.backbones.t5 import random_t5
from palate.config.recipe import RandomT5Settings, Recipe
from palate.data.dataset import load_dataset
from palate.data.protocols import RankingCases, make_split
from palate.errors import RecipeError, TrainingError
from palate.generative.corpus import Corpus, Example
from palate.generative.files import save_generative
from palate.generative.ids import NUMBER_PIECES, ItemIds, known_users, make_item_ids, user_names
from palate.generative.p5 import IdLanguageModel
from palate.generative.pod import family_at
from palate.generative.recommender import GenerativeFacts, GenerativeRecommender, known_flags
from palate.generative.staged_training import refusing_damage
from palate.recommend.tuning import mean_ndcg
from palate.runs.run import train_once
from palate.system.files import read_bytes, replacing
from palate.system.machine import reproducible
from palate.system.places import rooted
from palate.system.records import Frozen, tensor_metadata

if TYPE_CHECKING:
    from palate.backbones.base import Backbone
    from palate.config.generative import AnyGenerativeSettings, Family
    from palate.data.dataset import Dataset
    from palate.runs.run import RunFolder

CHECKPOINT = "training.safetensors"
_SAMPLED = 2_000
"""Examples of each family that a tokenizer is trained on."""
_NUMBERS = re.compile(r"\d+|<[a-z]\d+>")
_TOLD = 100
"""Steps between lines about the loss."""


class _Progress(Frozen):
    """How far a training has come, in the metadata of its checkpoint."""

    step: int
    best: float | None
    losses: tuple[float, ...]


def train_generative(
    recipe: Recipe,
    out: Path | str,
    report: Callable[[str], None] | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train the generative recommender of a recipe and return the run's folder.

    It learns from what ``data.protocol`` lets be learned from, or from the training users. Where the families rank
    items, the weights of the highest dev NDCG@10 are kept; otherwise the last. A batch is a function of the seed and
    its number, so that a training that was interrupted goes on from its checkpoint with the same result.

    Args:
        recipe: A recipe with a section ``generative``.
        out: The run's folder, new or of the same recipe.
        report: Called with progress messages, one line each.
        dataset: What lies at the recipe's ``data.path``, where that is loaded already.

    Returns:
        The run's folder.

    Raises:
        RecipeError: The recipe has no section ``generative``.
        DataError: The data cannot be read, or lacks what a family needs.
        MismatchError: The backbone cannot be loaded, or the run was trained on other data.
        OutputError: The folder holds something else, or cannot be written.
        TrainingError: A loss is not finite.
    """
    recipe, out = rooted(recipe), Path(out).expanduser()
    settings = recipe.generative
    if settings is None:
        raise RecipeError("the recipe has no section 'generative'; add one, such as {kind: p5}")
    tell = report or (lambda line: None)
    with reproducible(recipe.train.threads, torch.device("cpu")):
        dataset = dataset or load_dataset(recipe.data.path)
        split = make_split(dataset, recipe.data.protocol or "new-users", seed=recipe.seed)
        training = split.training
        ids = make_item_ids(training, settings, recipe.seed)
        facts = _facts(training, ids)
        corpus = Corpus(training, facts.wording, settings)
        corpus.check()

        def train(run: RunFolder) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                backbone = _backbone(recipe, corpus, ids)
                model = IdLanguageModel(backbone, settings, facts.item_names)
                recommender = GenerativeRecommender(model, facts)
                tell(
                    f"{sum(weight.numel() for weight in model.parameters()):,} weights, {len(model.trie):,} prefixes "
                    f"of {len(facts.item_names):,} ids"
                )
                _Training(recipe, settings, recommender, corpus, split.dev, run, tell).run_all()
            save_generative(recommender, run.model)

        return train_once(out, recipe, dataset.info, "cpu", tell, train)


def _facts(training: Dataset, ids: ItemIds) -> GenerativeFacts:
    info = training.info
    return GenerativeFacts(
        item_names=ids.names,
        user_names=tuple(user_names(len(training.user_ids))),
        known=known_flags(known_users(training)),
        noun=info.item_noun,
        rating_values=info.rating_values,
        event_weights=training.event_weights,
        like_above=info.like_above,
    )


def _backbone(recipe: Recipe, corpus: Corpus, ids: ItemIds) -> Backbone:
    """Load or make the T5, whose tokenizer has the pieces of ids as tokens."""
    settings = recipe.model.backbone
    pieces = ids.pieces
    if isinstance(settings, RandomT5Settings):
        rng = np.random.default_rng([recipe.seed, 0])
        texts = [
            _NUMBERS.sub(" ", text)
            for family in corpus.settings.families
            for one in corpus.batch(family, _SAMPLED, rng)
            for text in (one.prompt, one.answer)
        ]
        backbone = random_t5(settings, texts)
        pieces = (*pieces, *NUMBER_PIECES)
    else:
        backbone, _ = load_backbone(settings)
    if pieces:
        backbone.tokenizer.add_tokens(list(pieces))
        rows = max(len(backbone.tokenizer), int(backbone.model.get_input_embeddings().weight.shape[0]))
        backbone.model.resize_token_embeddings(rows, mean_resizing=False)
    return backbone


@dataclass
class _Training:
    """The loop, and its checkpoint."""

    recipe: Recipe
    settings: AnyGenerativeSettings
    recommender: GenerativeRecommender
    corpus: Corpus
    dev: RankingCases
    run: RunFolder
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        train, self.model = self.recipe.train, self.recommender.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay
        )
        schedule: Any = get_scheduler(
            "constant_with_warmup" if train.lr_scheduler_type == "constant" else train.lr_scheduler_type,
            self.optimizer,
            num_warmup_steps=round(train.warmup_ratio * train.max_steps),
            num_training_steps=train.max_steps,
        )
        self.rate: Callable[[int], float] = schedule.lr_lambdas[0]
        self.best: dict[str, torch.Tensor] = {}
        self.progress = _Progress(step=0, best=None, losses=())

    def run_all(self) -> None:
        """Train all steps that are left, and take the best weights."""
        train = self.recipe.train
        self._resume()
        for step in range(self.progress.step, train.max_steps):
            self._step(step)
            if (step + 1) % train.eval_steps == 0 or step + 1 == train.max_steps:
                self._look(step + 1)
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()

    def _step(self, step: int) -> None:
        train = self.recipe.train
        rng = np.random.default_rng([self.recipe.seed, 1, step])
        torch.manual_seed(int(rng.integers(2**62)))  # for dropout
        family = family_at(self.settings, step, rng)
        examples = self._examples(family, step)
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = train.learning_rate * max(self.rate(step), 1e-3)
        self.optimizer.zero_grad()
        loss = self.model.loss([one.prompt for one in examples], [one.answer for one in examples], family)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss of step {step + 1} is {loss.item()}; lower train.learning_rate, and train into a new folder"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.max_grad_norm)
        self.optimizer.step()
        losses = (*self.progress.losses, round(loss.item(), 6))
        if (step + 1) % _TOLD == 0:
            self.tell(f"step {step + 1:,} of {train.max_steps:,}: loss {np.mean(losses[-_TOLD:]):.4f}")
        self.progress = self.progress.model_copy(update={"step": step + 1, "losses": losses[-_TOLD:]})

    def _examples(self, family: Family, step: int) -> list[Example]:
        """Draw the examples of several batches, and take those of similar lengths, which reduces padding."""
        size, groups = self.recipe.train.per_device_train_batch_size, self.recipe.train.length_groups
        rng = np.random.default_rng([self.recipe.seed, 3, step // groups, *family.encode()])
        drawn = sorted(self.corpus.batch(family, size * groups, rng), key=lambda one: len(one.prompt))
        at = int(rng.permutation(groups)[step % groups]) * size
        return drawn[at : at + size]

    def _look(self, step: int) -> None:
        """Score on dev users, keep the best weights, and write the checkpoint."""
        if ranks_items(self.settings):
            found = self._dev_ndcg()
            self.tell(f"step {step:,}: dev NDCG@10 {found:.4f}")
            if self.progress.best is None or found > self.progress.best:
                self.best = {name: one.detach().clone() for name, one in self.model.state_dict().items()}
                self.progress = self.progress.model_copy(update={"best": found})
        self._keep()

    def _dev_ndcg(self) -> float:
        self.model.eval()
        number = min(self.recipe.train.eval_users, len(self.dev))
        rows = np.random.default_rng([self.recipe.seed, 2]).permutation(len(self.dev))[:number]
        cases = self.dev[np.sort(rows)]
        windows = cases.windows.trimmed()
        scores = self.recommender.item_scores(windows, cases.user_index)
        target = cases.targets[:, 0]
        own = scores[np.arange(len(scores)), target]
        row, column = np.nonzero(windows.mask)
        scores[row, windows.item_index[row, column]] = -np.inf
        scores[np.arange(len(scores)), target] = own
        return mean_ndcg(scores, target)

    @property
    def _checkpoint(self) -> Path:
        return self.run.checkpoints / CHECKPOINT

    def _keep(self) -> None:
        tensors = {f"model.{name}": one for name, one in self.model.state_dict().items()}
        tensors |= {f"best.{name}": one for name, one in self.best.items()}
        names = [name for name, _ in self.model.named_parameters()]
        for name, state in zip(names, self._moments(), strict=True):
            tensors |= {f"{key}.{name}": one for key, one in state.items()}
        metadata = {"progress": self.progress.model_dump_json()}
        with replacing(self._checkpoint) as partial:
            save_file({name: one.clone().contiguous() for name, one in tensors.items()}, partial, metadata)

    def _moments(self) -> list[dict[str, torch.Tensor]]:
        """State of the optimizer for each weight; empty for one without a gradient so far."""
        return [dict(self.optimizer.state.get(weight, {})) for weight in self.model.parameters()]

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        content = read_bytes(self._checkpoint, "the checkpoint is missing")
        with refusing_damage(self._checkpoint):
            tensors = load(content)
            self.progress = _Progress.model_validate_json(tensor_metadata(content)["progress"])
            self.model.load_state_dict(_under(tensors, "model."))
        self.best = _under(tensors, "best.")
        moments = {key: _under(tensors, f"{key}.") for key in ("step", "exp_avg", "exp_avg_sq")}
        for name, weight in self.model.named_parameters():
            state = {key: of[name] for key, of in moments.items() if name in of}
            if state:
                self.optimizer.state[weight] = state
        self.tell(f"going on from step {self.progress.step:,}")


def ranks_items(settings: AnyGenerativeSettings) -> bool:
    """Tell whether a family is trained by which items are ranked."""
    return bool({"sequential", "direct"} & set(settings.families))


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
