"""Record of a model's training: its length, the reason for its end, dev scores, and warnings."""

from __future__ import annotations

from typing import Literal

from palate.system.records import Frozen

Ending = Literal["steps", "patience", "minutes"]


class DevScores(Frozen):
    """Liked F1 of the saved weights on dev users, and of baselines that ignore the user's history."""

    users: int
    f1: float
    """F1 of the model, averaged over ``train.eval_windows``, like the others."""
    another_user: float | None
    """F1 of the model with another user's history; None if there is only one dev user."""
    population: float
    """F1 of the training users' most common labels."""
    unreadable: float
    """Fraction of the model's answers that cannot be parsed: without a label, and without the phrase for none."""


class TrainingRecord(Frozen):
    """Training record of a saved model."""

    steps: int
    """Number of completed optimizer steps."""
    max_steps: int
    """The recipe's ``train.max_steps``."""
    ended_by: Ending
    max_minutes: float | None
    """The recipe's ``train.max_minutes``."""
    best_step: int
    """Step with the best dev score, whose weights are saved."""
    threads: int
    """Number of CPU threads."""
    train_users: int
    learning_rate: float
    longest_window: int
    dev: DevScores

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about the training, as shown by all commands."""
        return tuple(filter(None, (self._cut_short(), self._learned_nothing())))

    def _cut_short(self) -> str | None:
        if self.ended_by != "minutes":
            return None
        return (
            f"train.max_minutes={self.max_minutes:g} ended the training after {self.steps:,} of {self.max_steps:,} "
            "steps, so that the model depends on the speed of the machine; set train.max_minutes=null for the same "
            "model on any machine"
        )

    def _learned_nothing(self) -> str | None:
        """Return the warning for a model that is not better than the baselines."""
        dev = self.dev
        beaten_by = {"the answer that suits most users": dev.population}
        if dev.another_user is not None:
            beaten_by["its own answers to another user's history"] = dev.another_user
        stronger = [f"{name} ({f1:.3f})" for name, f1 in beaten_by.items() if dev.f1 <= f1]
        if not stronger and dev.unreadable < 1:
            return None
        if dev.unreadable == 1:
            found = f"none of its answers about {dev.users:,} dev users contains a label"
        else:
            found = f"its liked F1 on {dev.users:,} dev users is {dev.f1:.3f}, no better than {' and '.join(stronger)}"
        return (
            f"the model has not learned to read a history: {found}; try more train.max_steps (it had {self.steps:,}), "
            f"a higher train.learning_rate ({self.learning_rate:g}), longer histories by windows.longest "
            f"({self.longest_window:,}), or more users ({self.train_users:,} trained it)"
        )
