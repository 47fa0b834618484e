"""Training batches: windows of real and simulated users with targets, drawn on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from palate.backbones.tokens import padded_tokens
from palate.config.recipe import Recipe
from palate.data.simulate import fit_population, simulate_users
from palate.data.windows import draw_windows, require_training_users, window_size
from palate.encoders.batch import window_tensors
from palate.errors import RecipeError
from palate.evaluation.metrics import label_frequencies
from palate.model.asking import Asked
from palate.model.generation import Round, RoundChoices
from palate.model.tables import vectors_of
from palate.schema import (
    Doubles,
    EventTexts,
    Interactions,
    Ints,
    Preferences,
    QuestionKind,
    Windows,
    membership,
)
from palate.tasks.phrases import random_wording
from palate.tasks.questions import DOUBT_OF_MEANS, YES_NO, Question, Questioner
from palate.tasks.statistics import category_statistics
from palate.tasks.targets import best_answers
from palate.tasks.wordings import NAMING, wordings_of

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.model.model import PersonalizedModel
    from palate.tasks import CategoryPreference
    from palate.training.clock import Clock

WORDINGS_DRAWN = 8
"""Random wordings of a kind per batch, of which each window gets one."""


@dataclass(frozen=True, eq=False)
class WindowSource:
    """Histories to draw windows from, and the targets of their users."""

    users: Ints  # that may be drawn
    preferences: Preferences  # of all users, from their full histories
    questioner: Questioner

    @property
    def interactions(self) -> Interactions:
        """Interactions of all users."""
        return self.questioner.interactions

    @classmethod
    def of(
        cls, dataset: Dataset, task: CategoryPreference, interactions: Interactions, users: Ints
    ) -> WindowSource:
        """Compute targets and questions from the interactions of all users."""
        statistics = category_statistics(interactions, dataset.category_matrix, dataset.rating_values)
        return cls(users, task.labels(statistics), Questioner(task, dataset, interactions, statistics))


def real_source(dataset: Dataset, task: CategoryPreference) -> WindowSource:
    """Create the source of the training users."""
    users = dataset.users("train")
    require_training_users(dataset, users, "training")
    return WindowSource.of(dataset, task, dataset.interactions, users)


def simulated_source(
    dataset: Dataset, task: CategoryPreference, model: PersonalizedModel, recipe: Recipe
) -> WindowSource:
    """Simulate users from the training users' statistics."""
    vectors = vectors_of(model.table)
    if vectors is None:
        kind = model.settings.user_encoder.kind
        raise RecipeError(
            f"simulation.users: users are simulated from item vectors, which a {kind!r} user encoder does not read; "
            "set it to 0"
        )
    if dataset.info.feedback == "implicit":
        raise RecipeError(
            "simulation.users: users are simulated from ratings, which this data does not have; set it to 0"
        )
    rng = np.random.default_rng([recipe.seed, 1])
    population = fit_population(dataset, vectors.vectors, rng)
    interactions = simulate_users(population, recipe.simulation.users, rng)
    return WindowSource.of(dataset, task, interactions, np.arange(recipe.simulation.users))


class TrainingBatches(TorchDataset[dict[str, Any]]):
    """Dataset whose item i is training batch i, a function of the seed and i only.

    A batch holds the arguments of :meth:`PersonalizedModel.forward`, ``liked`` and ``disliked`` [B, L], and the
    ``kinds`` of its rounds' questions.
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
        self.batches_a_step: int = recipe.train.gradient_accumulation_steps * PartialState().num_processes
        self.sources = [real_source(dataset, task)]
        self.frequency = _frequency(self.sources[0], len(dataset.categories))
        if recipe.simulation.users:
            self.sources.append(simulated_source(dataset, task, model, recipe))

    def __len__(self) -> int:
        return self.recipe.train.max_steps * self.batches_a_step

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.recipe.seed, 2, index])
        size = window_size(self.recipe.windows, rng)
        early = self.clock.progress(index // self.batches_a_step) < self.recipe.train.window_labels
        drawn = [
            self._draw(source, self._users(number, count, index, rng), size, early, rng)
            for number, (source, count) in enumerate(zip(self.sources, self._counts(), strict=True))
            if count
        ]
        kinds = self._kinds(rng)
        parts = [self._asked(part, kinds, rng) for part in drawn]
        preferences = Preferences(
            np.concatenate([part.preferences.liked for part in parts]),
            np.concatenate([part.preferences.disliked for part in parts]),
        )
        rounds = [self._round([part.asked[at] for part in parts]) for at in range(len(kinds) or 1)]
        labels = len(self.dataset.categories)
        return {
            **window_tensors(_stacked([part.windows for part in parts])),
            "rounds": rounds,
            "kinds": kinds or [NAMING[0]],
            "liked": torch.from_numpy(membership(preferences.liked, labels)),
            "disliked": torch.from_numpy(membership(preferences.disliked, labels)),
        }

    def best(self, category_logits: Tensor) -> Preferences:
        """Return the best answers under the user encoder's logits [B, L, 2]."""
        chances = category_logits.detach().double().sigmoid().cpu().numpy()
        return best_answers(chances, self.frequency, self.recipe.task.max_labels)

    def answering(
        self,
        answers: Preferences,
        rounds: Sequence[Round],
        kinds: Sequence[QuestionKind],
        scores: Tensor | None = None,
    ) -> list[Round]:
        """Replace the targets of questions that are answered with category names, for B users.

        With expected ``scores`` [B, L], relative to the threshold of liked labels, those of questions about
        categories follow them: a yes by its probability, a pair by the higher score.
        """
        answered = []
        for one, kind in zip(rounds, kinds, strict=True):
            if kind in NAMING:
                one = self._answered(one, self.task.texts(kind, answers))
            elif scores is not None and kind in ("yes-no", "pair"):
                category = one["category"]
                over = scores.gather(1, category.clamp(min=0))  # [B, 2] or [B, 1]
                scale = 1.0 if self.dataset.info.feedback == "implicit" else DOUBT_OF_MEANS
                yes = (over[:, 0] / scale).sigmoid()
                first = yes if kind == "yes-no" else (over.argmax(dim=1) == 0).to(yes)  # [B] P(first choice)
                best = (first < 0.5).long().tolist()
                names = [
                    YES_NO if kind == "yes-no" else [self.task.label_names[index] for index in row]
                    for row in category.tolist()
                ]
                one = self._answered(one, [row[at] for row, at in zip(names, best, strict=True)])
                known = one["chance"].sum(dim=1, keepdim=True)
                one["chance"] = torch.stack([first, 1 - first], dim=1) * known
            answered.append(one)
        return answered

    def _answered(self, one: Round, texts: list[str]) -> Round:
        target, mask = (tokens.to(one["instruction"].device) for tokens in self._tokens(texts))
        return {**one, "target": target, "target_mask": mask}

    def _kinds(self, rng: np.random.Generator) -> list[QuestionKind]:
        """Draw a kind of question for each round, in proportions as close to the recipe's as possible."""
        settings = self.recipe.train
        if not settings.questions:
            return []
        ends = np.cumsum([*settings.questions.values()])
        places = (rng.random() + np.arange(settings.rounds)) / settings.rounds
        names = [*settings.questions]
        return [names[at] for at in np.searchsorted(ends / ends[-1], places, side="right")]

    def _counts(self) -> list[int]:
        """Count the windows of a batch from each source."""
        size, simulation = self.recipe.train.per_device_train_batch_size, self.recipe.simulation
        if not simulation.users:
            return [size]
        simulated = round(size * simulation.share)
        return [size - simulated, simulated]

    def _users(self, number: int, count: int, index: int, rng: np.random.Generator) -> Ints:
        """Draw the users of ``count`` windows of a source; the batches of a length group are drawn together."""
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

    def _draw(
        self, source: WindowSource, users: Ints, size: int, early: bool, rng: np.random.Generator
    ) -> _Part:
        windows = draw_windows(source.interactions, users, size, self.recipe.windows.kind, rng)
        preferences = self._labels_of(windows) if early else source.preferences[users]
        return _Part(source, users, windows, preferences)

    def _asked(self, part: _Part, kinds: list[QuestionKind], rng: np.random.Generator) -> _Part:
        """Add one question of each kind to a part, and remove the items asked about from its windows.

        Without kinds, the task's own instruction is used.
        """
        if not kinds:
            only = [Question(self.task.instruction)] * len(part.users)
            return replace(part, asked=[_RoundPart(only, self.task.target_texts(part.preferences))])
        windows, asked = part.windows, []
        decided = self.recipe.train.answers == "decided"
        for kind in kinds:
            drawn = part.source.questioner.draw(
                kind, self._wordings(kind, rng), part.users, windows, part.preferences, rng, decided
            )
            windows = drawn.windows
            asked.append(_RoundPart(drawn.asked, drawn.targets, drawn.choices, drawn.chances))
        return replace(part, windows=windows, asked=asked)

    def _wordings(self, kind: QuestionKind, rng: np.random.Generator) -> Sequence[str]:
        if self.recipe.train.random_wordings:
            return [random_wording(rng, kind) for _ in range(WORDINGS_DRAWN)]
        return wordings_of(kind).trained

    def _round(self, asked: list[_RoundPart]) -> Round:
        questions = Asked.of([one for part in asked for one in part.asked], self.tokenizer)
        target, target_mask = self._tokens([text for part in asked for text in part.targets])
        one = questions.as_round(target, target_mask)
        choices = [row for part in asked for row in part.choices if row]
        if choices and self.recipe.train.answers == "decided":
            one = {**one, **self._decisions(choices, np.concatenate([part.chances for part in asked]))}
        return one

    def _decisions(self, choices: list[tuple[str, ...]], chances: Doubles) -> RoundChoices:
        """Find the token that decides between each question's answers, with their probabilities [B, C]."""
        tokens, mask = self._tokens([text for row in choices for text in row])
        tokens = tokens.where(mask > 0, -1).view(len(choices), len(choices[0]), -1)  # [B, C, N']
        decides = (tokens != tokens[:, :1]).any(dim=1).int().argmax(dim=1)  # [B]
        choice = tokens[torch.arange(len(choices)), :, decides]
        ordered = choice.sort(dim=1).values
        known = (choice >= 0).all(dim=1) & (ordered[:, 1:] != ordered[:, :-1]).all(dim=1)
        return {
            "decides": decides,
            "choice": choice.clamp(min=0),
            "chance": torch.from_numpy(chances).float() * known[:, None],
        }

    def _labels_of(self, windows: Windows) -> Preferences:
        """Compute the labels of the window alone, the first stage of the curriculum."""
        data = self.dataset
        return self.task.labels(
            category_statistics(windows.interactions(), data.category_matrix, data.rating_values)
        )

    def _tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        tokens = padded_tokens(self.tokenizer, texts)
        return tokens.ids, tokens.mask


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of a batch from one source."""

    source: WindowSource
    users: Ints
    windows: Windows
    preferences: Preferences
    asked: Sequence[_RoundPart] = ()


@dataclass(frozen=True, eq=False)
class _RoundPart:
    """The questions and targets of one round about B windows."""

    asked: list[Question]
    targets: list[str]
    choices: Sequence[tuple[str, ...]] = ()  # as in Questions
    chances: Doubles = field(default_factory=lambda: np.zeros((0, 0)))  # [B, C]


def _frequency(source: WindowSource, labels: int) -> Doubles:
    """Compute the share of the source's users who like and who dislike each label, [2, L]."""
    return np.asarray(label_frequencies(source.preferences[source.users], labels).T)


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
    length, complete = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("length", "known_complete")
    )
    return Windows(items, ratings, timestamps, length, complete, texts=_stacked_texts(parts, widest))


def _stacked_texts(parts: list[Windows], widest: int) -> EventTexts | None:
    """Concatenate the texts of parts, which index one table; simulated users have none (row 0)."""
    found = next((part.texts for part in parts if part.texts is not None), None)
    if found is None:
        return None
    rows = [
        np.zeros((len(part), widest), dtype=np.int64)
        if part.texts is None
        else np.pad(part.texts.row, ((0, 0), (0, widest - part.texts.row.shape[1])))
        for part in parts
    ]
    return EventTexts(np.concatenate(rows), found.vectors)
