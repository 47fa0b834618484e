"""Label rules of a dataset: the training users' statistics that rules need, and how many users each rule labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from palate.config.recipe import TaskSettings
from palate.schema import RULES, LabelRule
from palate.tasks import load_task
from palate.tasks.rules import score_statistics
from palate.tasks.statistics import category_shares

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

NEARLY_NOBODY = 0.2
"""Share of users with a liked, or with a disliked, label below which another rule is proposed."""


@dataclass(frozen=True)
class RuleCoverage:
    """Coverage of a label rule: how many labels the training users get."""

    rule: LabelRule
    in_words: str
    liked_users: float
    """Share of users with a liked label."""
    disliked_users: float
    liked: float
    """Mean number of liked labels of a user."""
    disliked: float

    @property
    def smaller_half(self) -> tuple[float, str]:
        """The smaller of ``liked_users`` and ``disliked_users``, and its name, "liked" or "disliked"."""
        return min((self.liked_users, "liked"), (self.disliked_users, "disliked"))


def with_label_statistics(dataset: Dataset) -> Dataset:
    """Add the training users' statistics that label rules need and, with implicit feedback, their category shares."""
    events, info, users = dataset.interactions, dataset.info, dataset.users("train")
    statistics = dataset.statistics[users]
    shares = None if info.feedback == "ratings" else category_shares(statistics)
    of_training = np.repeat(np.isin(np.arange(len(events.lengths)), users), events.lengths)
    ratings = dataset.rating_values.astype(np.float64)[events.rating_index[of_training]]
    update = {
        "category_shares": () if shares is None else tuple(shares.tolist()),
        "score_statistics": score_statistics(statistics, ratings, shares),
    }
    return replace(dataset, info=info.model_copy(update=update))


def rule_coverage(dataset: Dataset) -> list[RuleCoverage]:
    """Compute the coverage of each rule with default settings; ``own-mean`` is left out with implicit feedback."""
    return list(_coverage(dataset))


def _coverage(dataset: Dataset) -> Iterator[RuleCoverage]:
    statistics = dataset.statistics[dataset.users("train")]
    for rule in RULES:
        if rule == "own-mean" and dataset.info.feedback == "implicit":
            continue
        task = load_task(TaskSettings(rule=rule), dataset.info)
        truth = task.labels(statistics)
        liked, disliked = ((half >= 0).sum(axis=1) for half in (truth.liked, truth.disliked))
        yield RuleCoverage(
            rule,
            task.rule_in_words,
            float((liked > 0).mean()),
            float((disliked > 0).mean()),
            float(liked.mean()),
            float(disliked.mean()),
        )


def proposed_rule(dataset: Dataset) -> str | None:
    """Return a message that proposes another rule if the dataset's rule gives few users a liked or disliked label."""
    found = {one.rule: one for one in rule_coverage(dataset)}
    share, half = found[dataset.info.rule].smaller_half
    best = max(found.values(), key=lambda one: one.smaller_half)
    if share >= NEARLY_NOBODY or best.rule == dataset.info.rule:
        return None
    return (
        f"only {share:.0%} of the users have a {half} {dataset.info.category_field} by the label rule "
        f"{dataset.info.rule!r}; by {best.rule!r} {best.liked_users:.0%} have a liked and {best.disliked_users:.0%} a "
        f"disliked one: prepare with --rule {best.rule}, or set task.rule={best.rule} in a recipe"
    )
