"""Training batches: windows of real and simulated training users with their targets, drawn when they are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset as TorchDataset

from palate.config import Recipe
from palate.data.histories import category_statistics, draw_windows, require_training_users
from palate.data.simulate import fit_population, simulate_users
from palate.decisions import best_answers
from palate.errors import RecipeError
from palate.items.table import ItemTable
from palate.metrics import membership
from palate.model.events import window_tensors
from palate.schema import Doubles, Interactions, Ints, Preferences, Windows
from palate.tasks.questions import Questioner
from palate.tasks.wordings import NAMING, WORDINGS

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.personalized import PersonalizedModel
    from palate.tasks import CategoryPreference
    from palate.training.clock import Clock


@dataclass(frozen=True, eq=False)
class Source:
    """Histories that windows are drawn from, and the targets of their users."""

    users: Ints  # that may be drawn
    preferences: Preferences  # of all users, from their full histories
    questioner: Questioner

    @property
    def interactions(self) -> Interactions:
        """Those of all users."""
        return self.questioner.interactions

    @classmethod
    def of(
        cls, dataset: Dataset, task: CategoryPreference, interactions: Interactions, users: Ints
    ) -> Source:
        """The targets and questions that the interactions of all users give."""
        statistics = category_statistics(interactions, dataset.category_matrix, dataset.rating_values)
        return cls(users, task.labels(statistics), Questioner(task, dataset, interactions, statistics))


def real_source(dataset: Dataset, task: CategoryPreference) -> Source:
    """The training users."""
    users = dataset.users("train")
    require_training_users(dataset, users, "training")
    return Source.of(dataset, task, dataset.interactions, users)


def simulated_source(
    dataset: Dataset, task: CategoryPreference, model: PersonalizedModel, recipe: Recipe
) -> Source:
    """Users simulated from the training users' statistics."""
    if not isinstance(model.table, ItemTable):
        raise RecipeError("users are simulated from item vectors, and text has none; set simulation.users=0")
    if dataset.info.feedback == "implicit":
        raise RecipeError(
            "users are simulated by their ratings, and this data has none; set simulation.users=0"
        )
    rng = np.random.default_rng([recipe.seed, 1])
    population = fit_population(dataset, model.table.vectors, rng)
    interactions = simulate_users(population, recipe.simulation.users, rng)
    return Source.of(dataset, task, interactions, np.arange(recipe.simulation.users))


class TrainingBatches(TorchDataset[dict[str, Tensor]]):
    """Item i is batch i of the training: a function of the seed and i, whatever was drawn before.

    A batch holds the arguments of :meth:`PersonalizedModel.forward`, and ``liked`` and ``disliked`` [B, L]. Where
    the recipe mixes kinds of questions each window gets one of them, and ``names`` [B] says which of
    :data:`~palate.tasks.wordings.NAMING` it is, or -1.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        task: CategoryPreference,
        model: PersonalizedModel,
        clock: Clock,
    ) -> None:
        self.recipe, self.dataset, self.task, self.clock = recipe, dataset, task, clock
        self.tokenizer = model.tokenizer
        self.batches_a_step: int = recipe.train.accumulate * PartialState().num_processes
        self.instruction = self._tokens([task.instruction])
        self.sources = [real_source(dataset, task)]
        self.frequency = _frequency(self.sources[0], len(dataset.categories))
        if recipe.simulation.users:
            self.sources.append(simulated_source(dataset, task, model, recipe))

    def __len__(self) -> int:
        return self.recipe.train.steps * self.batches_a_step

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.recipe.seed, 2, index])
        size = self._window_size(rng)
        early = self.clock.progress(index // self.batches_a_step) < self.recipe.train.window_labels
        parts = [
            self._draw(source, self._users(number, count, index, rng), size, early, rng)
            for number, (source, count) in enumerate(zip(self.sources, self._counts(), strict=True))
            if count
        ]
        preferences = Preferences(
            np.concatenate([part.preferences.liked for part in parts]),
            np.concatenate([part.preferences.disliked for part in parts]),
        )
        target, target_mask = self._tokens([text for part in parts for text in part.targets])
        labels = len(self.dataset.categories)
        batch = {
            **window_tensors(_stacked([part.windows for part in parts])),
            "instruction": self.instruction[0],
            "instruction_mask": self.instruction[1],
            "target": target,
            "target_mask": target_mask,
            "liked": torch.from_numpy(membership(preferences.liked, labels)),
            "disliked": torch.from_numpy(membership(preferences.disliked, labels)),
        }
        if self.recipe.train.questions:
            batch["instruction"], batch["instruction_mask"] = self._tokens(
                [text for part in parts for text in part.instructions]
            )
            batch["names"] = torch.from_numpy(np.concatenate([part.names for part in parts]))
        return batch

    def best_targets(
        self, category_logits: Tensor, target: Tensor, target_mask: Tensor, names: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best answers by a user encoder's own view [B, L, 2], as token ids [B, N'] with their mask.

        What does not name categories keeps its target [B, N''].
        """
        chances = category_logits.detach().double().sigmoid().cpu().numpy()
        answers = best_answers(chances, self.frequency, self.recipe.task.most_labels)
        texts = self.task.target_texts(answers)
        if names is None:
            best, mask = self._tokens(texts)
            return best.to(category_logits.device), mask.to(category_logits.device)
        kinds = names.tolist()
        for number, kind in enumerate(NAMING):
            for row, text in enumerate(self.task.texts(kind, answers)):
                if kinds[row] == number:
                    texts[row] = text
        best, mask = (made.to(target.device) for made in self._tokens(texts))
        wider = max(best.shape[1], target.shape[1])
        own = (names < 0)[:, None]
        pad = self.tokenizer.pad_token_id
        return (
            torch.where(own, _widened(target, wider, pad), _widened(best, wider, pad)),
            torch.where(own, _widened(target_mask, wider, 0), _widened(mask, wider, 0)),
        )

    def _window_size(self, rng: np.random.Generator) -> int:
        windows = self.recipe.windows
        return round(math.exp(rng.uniform(math.log(windows.shortest), math.log(windows.longest))))

    def _counts(self) -> list[int]:
        """Windows of a batch from each source."""
        size, simulation = self.recipe.train.batch_size, self.recipe.simulation
        if not simulation.users:
            return [size]
        simulated = round(size * simulation.share)
        return [size - simulated, simulated]

    def _users(self, number: int, count: int, index: int, rng: np.random.Generator) -> Ints:
        """The users of ``count`` windows of a source in a batch; those of a group of batches are drawn as one."""
        settings, source = self.recipe.train, self.sources[number]
        several = -(-count // settings.windows_per_user)
        if settings.length_groups == 1:
            users = rng.choice(source.users, several)
        else:
            group, place = divmod(index, settings.length_groups)
            common = np.random.default_rng([self.recipe.seed, 3, number, group])
            drawn = common.choice(source.users, several * settings.length_groups)
            seen = np.minimum(source.interactions.lengths[drawn], self.recipe.windows.longest)
            shares = np.split(drawn[np.argsort(seen, kind="stable")], settings.length_groups)
            users = shares[common.permutation(settings.length_groups)[place]]
        return users.repeat(settings.windows_per_user)[:count]

    def _draw(self, source: Source, users: Ints, size: int, early: bool, rng: np.random.Generator) -> _Part:
        windows = draw_windows(source.interactions, users, size, self.recipe.windows.kind, rng)
        preferences = self._labels_of(windows) if early else source.preferences[users]
        shares = self.recipe.train.questions
        if not shares:
            return _Part(windows, preferences, [], self.task.target_texts(preferences), np.empty(0, np.int64))
        kinds = rng.choice(len(shares), len(users), p=np.array([*shares.values()]) / sum(shares.values()))
        groups = [
            (kind, np.flatnonzero(kinds == number)) for number, kind in enumerate(shares) if number in kinds
        ]
        asked = [
            source.questioner.draw(
                kind, WORDINGS[kind].trained, users[rows], windows[rows], preferences[rows], rng
            )
            for kind, rows in groups
        ]
        order = np.argsort(np.concatenate([rows for _, rows in groups]))
        return _Part(
            _stacked([one.windows for one in asked])[order],
            preferences,
            _ordered([one.instructions for one in asked], order),
            _ordered([one.targets for one in asked], order),
            np.concatenate(
                [np.full(len(rows), NAMING.index(kind) if kind in NAMING else -1) for kind, rows in groups]
            )[order],
        )

    def _labels_of(self, windows: Windows) -> Preferences:
        """The labels that the window alone would give: the curriculum's first lesson."""
        data = self.dataset
        return self.task.labels(
            category_statistics(windows.interactions(), data.category_matrix, data.rating_values)
        )

    def _tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        return tokens["input_ids"], tokens["attention_mask"]


@dataclass(frozen=True, eq=False)
class _Part:
    """What one source gives to a batch."""

    windows: Windows
    preferences: Preferences
    instructions: list[str]
    targets: list[str]
    names: Ints


def _ordered(groups: list[list[str]], order: Ints) -> list[str]:
    flat = [text for group in groups for text in group]
    return [flat[at] for at in order]


def _widened(tokens: Tensor, width: int, value: int) -> Tensor:
    return functional.pad(tokens, (0, width - tokens.shape[1]), value=value)


def _frequency(source: Source, labels: int) -> Doubles:
    """The share of the source's users who like and who dislike each label, [2, L]."""
    truth = source.preferences[source.users]
    shares: Doubles = np.stack([membership(half, labels) for half in (truth.liked, truth.disliked)]).mean(
        axis=1
    )
    return shares


def _stacked(parts: list[Windows]) -> Windows:
    widest = max(part.item_index.shape[1] for part in parts)
    padded = [
        [
            np.pad(column, ((0, 0), (0, widest - column.shape[1])))
            for column in (part.item_index, part.rating_index, part.timestamp)
        ]
        for part in parts
    ]
    items, ratings, timestamps = (np.concatenate(columns) for columns in zip(*padded, strict=True))
    return Windows(items, ratings, timestamps, np.concatenate([part.length for part in parts]))
