"""A system's answers about all users over one or several trainings, and the scores and tests computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from palate.errors import DataError
from palate.evaluation.evaluate import Evaluation
from palate.evaluation.label_sets import named_sets, predictions_by_predictor, true_sets
from palate.evaluation.metrics import SetScores, label_f1, weighted_f1
from palate.evaluation.significance import mean_scores, randomisation_p_value
from palate.schema import Bools, Doubles, Ints
from palate.system.records import Frozen

GROUPS = 4
"""Number of groups of users by history length."""
Half: TypeAlias = Literal["liked", "disliked", "joint"]


class GroupScores(Frozen):
    """Scores of a group of users: means over trainings, with intervals over trainings and users."""

    users: int
    liked: SetScores
    disliked_f1: float
    joint_f1: float


class HistoryScore(Frozen):
    """Liked F1 of the users whose full histories have ``shortest`` to ``longest`` interactions."""

    shortest: int
    longest: int
    users: int
    liked_f1: float


class ControlScore(Frozen):
    """Liked F1 with a wrong history, compared with that of the user's own history."""

    f1: float
    p_value: float
    """p-value of the paired randomisation test against the user's own history."""


class PairTest(Frozen):
    """Comparison of two rows over the users whose history is longer than both windows."""

    first: str
    second: str
    users: int
    difference: float
    """Mean liked F1 of the first row minus that of the second."""
    p_value: float
    corrected: float
    """The p-value after Holm's correction for all pairs of the table."""


@dataclass(frozen=True, eq=False)
class SystemAnswers:
    """Labels that a system predicts for B users in S trainings, and the true ones."""

    users: tuple[str, ...]
    lengths: Ints
    """Number of interactions in each user's full history, [B]."""
    window: int
    truth: Bools
    """True labels, liked and disliked, [B, L, 2]."""
    named: Bools
    """Predicted labels, [S, B, L, 2]."""
    wrong: Mapping[str, Bools]
    """Labels predicted from a wrong history, by the name of the control, each [S, B, L, 2]."""

    @classmethod
    def of(
        cls, evaluations: Sequence[Evaluation], labels: Sequence[str], lengths: Mapping[str, int]
    ) -> SystemAnswers:
        """Read the answers of one system's evaluations, which differ in the seed.

        Args:
            evaluations: One per training; the first predictor is the system, the others are its controls.
            labels: Names of the L labels.
            lengths: Number of interactions of each user's history, by user id.

        Raises:
            DataError: The evaluations are of different users or labels.
        """
        own, *controls = (one.name for one in evaluations[0].predictors)
        read = [predictions_by_predictor(one) for one in evaluations]
        first = read[0][own]
        users = tuple(one.user_id for one in first)
        truth = true_sets(first, labels)
        for several in read[1:]:
            if tuple(one.user_id for one in several[own]) != users or not np.array_equal(
                true_sets(several[own], labels), truth
            ):
                raise DataError(
                    f"the seeds of {own} were measured on different users; measure all of them again"
                )
        return cls(
            users,
            np.array([lengths[user] for user in users]),
            evaluations[0].setting.window,
            truth,
            np.stack([named_sets(several[own], labels) for several in read]),
            {
                name.removeprefix(f"{own}, "): np.stack(
                    [named_sets(several[name], labels) for several in read]
                )
                for name in controls
            },
        )

    @property
    def partly(self) -> Bools:
        """Mask of the users whose history is longer than the window, [B]."""
        return self.lengths > self.window

    def of_users(self, rows: Bools) -> SystemAnswers:
        """Select users by a mask [B]."""
        return replace(
            self,
            users=tuple(user for user, kept in zip(self.users, rows, strict=True) if kept),
            lengths=self.lengths[rows],
            truth=self.truth[rows],
            named=self.named[:, rows],
            wrong={name: one[:, rows] for name, one in self.wrong.items()},
        )

    def scores(self, rows: Bools) -> GroupScores | None:
        """Score the answers about the users of a mask [B]; None if it selects none."""
        if not rows.any():
            return None
        some = self.of_users(rows)
        return GroupScores(
            users=len(some.users),
            liked=mean_scores(*some.half("liked")),
            disliked_f1=some.mean_f1("disliked"),
            joint_f1=some.mean_f1("joint"),
        )

    def half(self, half: Half) -> tuple[Bools, Bools]:
        """Return the true [B, L] and the predicted labels [S, B, L] of one half, or of both as 2L classes."""
        if half == "joint":
            return self.truth.reshape(len(self.users), -1), self.named.reshape(*self.named.shape[:2], -1)
        at = ("liked", "disliked").index(half)
        return self.truth[..., at], self.named[..., at]

    def mean_f1(self, half: Half = "liked") -> float:
        """Compute the mean of the weighted F1 over the trainings."""
        truth, named = self.half(half)
        return float(np.mean([weighted_f1(truth, one) for one in named]))

    def deviation(self) -> float | None:
        """Compute the sample standard deviation of the liked F1 over the trainings; None with one."""
        truth, named = self.half("liked")
        f1 = [weighted_f1(truth, one) for one in named]
        return float(np.std(f1, ddof=1)) if len(f1) > 1 else None

    def per_label(self) -> Doubles:
        """Compute the mean F1 of each liked label over trainings, [L]."""
        truth, named = self.half("liked")
        return np.asarray(np.mean([label_f1(truth, one) for one in named], axis=0))

    def by_history(self) -> tuple[HistoryScore, ...]:
        """Score groups of about equally many users, from the shortest histories to the longest."""
        groups = np.array_split(np.argsort(self.lengths, kind="stable"), min(GROUPS, len(self.users)))
        found = []
        for rows in groups:
            some = self.of_users(np.isin(np.arange(len(self.users)), rows))
            found.append(
                HistoryScore(
                    shortest=int(some.lengths.min()),
                    longest=int(some.lengths.max()),
                    users=len(rows),
                    liked_f1=some.mean_f1(),
                )
            )
        return tuple(found)

    def controls(self) -> dict[str, ControlScore]:
        """Compare the answers with those from wrong histories, by the name of the control."""
        truth, own = self.half("liked")
        return {
            name: ControlScore(
                f1=replace(self, named=wrong).mean_f1(),
                p_value=randomisation_p_value(truth, own, wrong[..., 0]),
            )
            for name, wrong in self.wrong.items()
        }


def compare_systems(first: SystemAnswers, second: SystemAnswers) -> tuple[int, float, float] | None:
    """Compare the liked F1 of two systems over the users whose history is longer than both windows, or all users.

    Returns:
        The number of users, the F1 difference, and the p-value of the paired randomisation test; None
            if the systems answered about different users.
    """
    if first.users != second.users:
        return None
    rows = first.partly & second.partly
    if not rows.any():
        rows = np.ones_like(rows)
    seeds = min(len(first.named), len(second.named))
    one, other = (replace(some, named=some.named[:seeds]).of_users(rows) for some in (first, second))
    truth, named = one.half("liked")
    p_value = randomisation_p_value(truth, named, other.half("liked")[1])
    return int(rows.sum()), one.mean_f1() - other.mean_f1(), p_value
