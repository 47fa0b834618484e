"""How a model's training went: what ended it, what it scored beside what it must beat, and what to say about it."""

from __future__ import annotations

from typing import Literal

from palate.system.records import Frozen

Ending = Literal["steps", "patience", "minutes"]


class DevScores(Frozen):
    """Liked F1 on dev users of the weights that were kept, and of what knows nothing of the user."""

    users: int
    f1: float
    """Of the model; the mean over ``train.eval_windows``, as the others."""
    another_user: float | None
    """Of the model that is shown another user's history; None where there is one dev user."""
    population: float
    """Of the most common labels of the training users, for everybody."""
    unreadable: float
    """Share of the model's answers in which no label was found and which do not say that there is none."""


class TrainingRecord(Frozen):
    """What a saved model keeps of its training."""

    steps: int
    """That were taken."""
    max_steps: int
    """The recipe's ``train.max_steps``."""
    ended_by: Ending
    max_minutes: float | None
    """The recipe's ``train.max_minutes``."""
    best_step: int
    """After which the weights were the best on dev users, and were kept."""
    threads: int
    """Of the CPU."""
    train_users: int
    learning_rate: float
    longest_window: int
    dev: DevScores

    def warnings(self) -> tuple[str, ...]:
        """Sentences about what went wrong with the training, none where nothing did: the same wherever it is told."""
        return tuple(filter(None, (self._cut_short(), self._learned_nothing())))

    def _cut_short(self) -> str | None:
        if self.ended_by != "minutes":
            return None
        return (
            f"train.max_minutes={self.max_minutes:g} ended the training after {self.steps:,} of {self.max_steps:,} "
            "steps, and how far it came depends on how busy the machine was; set train.max_minutes=null, and a slower "
            "machine takes longer and comes to the same model"
        )

    def _learned_nothing(self) -> str | None:
        """A model that is no better than what knows nothing of the user."""
        dev = self.dev
        beaten_by = {"the answer that suits most users": dev.population}
        if dev.another_user is not None:
            beaten_by["its own answers to another user's history"] = dev.another_user
        stronger = [f"{name} ({f1:.3f})" for name, f1 in beaten_by.items() if dev.f1 <= f1]
        if not stronger and dev.unreadable < 1:
            return None
        if dev.unreadable == 1:
            found = f"in no answer about {dev.users:,} dev users could a label be read"
        else:
            found = f"its liked F1 on {dev.users:,} dev users is {dev.f1:.3f}, no better than {' and '.join(stronger)}"
        return (
            f"the model has not learned to read a history: {found}; try more train.max_steps (it had {self.steps:,}), "
            f"a higher train.learning_rate ({self.learning_rate:g}), longer histories by windows.longest "
            f"({self.longest_window:,}), or more users ({self.train_users:,} trained it)"
        )
