"""Comparison of two models on a panel of stored users, before one replaces the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from palate.errors import UnknownUserError
from palate.evaluation.metrics import weighted_f1
from palate.serve.batcher import OverloadedError
from palate.serve.responses import Drift
from palate.serve.schemas import SentQuestion, SentUser, SentWish
from palate.serve.service import answer_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from palate.serve.service import Service
    from palate.serve.settings import Limits

T = TypeVar("T")
LISTED = 10
"""Number of recommended items that are compared if there is no language model."""


async def compare(old: Service, new: Service, user_ids: Sequence[str], limits: Limits) -> Drift:
    """Compare the answers of two models about the same users, and check the limits of change.

    Args:
        old: Service of the current model.
        new: Service of the new model.
        user_ids: The panel; users who are deleted meanwhile are left out.
        limits: Limits of changed answers and of the loss of F1.

    Returns:
        The comparison.
    """
    asked: dict[str, tuple[str, str]] = {}
    for user_id in user_ids:
        with suppress(UnknownUserError):
            asked[user_id] = await _said(old, user_id), await _said(new, user_id)
    changed = sum(before != after for before, after in asked.values()) / max(len(asked), 1)
    by_old, by_new = ({one: texts[at] for one, texts in asked.items()} for at in range(2))
    f1_old = await asyncio.to_thread(panel_f1, old, by_old)
    f1_new = await asyncio.to_thread(panel_f1, new, by_new)
    alarms = []
    if changed > limits.panel_changed:
        alarms.append(f"{changed:.0%} of the answers change, expected at most {limits.panel_changed:.0%}")
    if f1_old is not None and f1_new is not None and f1_old - f1_new > limits.panel_f1_loss:
        alarms.append(
            f"F1 falls from {f1_old:.3f} to {f1_new:.3f}, expected a loss of at most {limits.panel_f1_loss:g}"
        )
    return Drift(users=len(asked), changed=changed, f1_old=f1_old, f1_new=f1_new, alarms=alarms)


def panel_f1(service: Service, texts: dict[str, str]) -> float | None:
    """Score answers about stored users by weighted F1 against the label rule on their histories.

    Args:
        service: Service of the model that gave the answers.
        texts: Answers by user id.

    Returns:
        F1 over liked and disliked labels together; None without the model's dataset, or without answers.
    """
    if service.users.model is None:
        return None
    truths = {user_id: service.explainer.labels(user_id) for user_id in texts}
    there = {user_id: truth for user_id, truth in truths.items() if truth is not None}
    task = service.explainer.task
    if task is None or not there:
        return None
    labels = len(service.explainer.categories)
    said = task.parse([texts[user_id] for user_id in there]).membership(labels).reshape(len(there), -1)
    true = np.vstack([one.membership(labels).reshape(1, -1) for one in there.values()])
    return weighted_f1(true, said)


async def _said(service: Service, user_id: str) -> str:
    """Get a model's answer about a user, or without a language model the ids of the recommended items."""
    if service.users.model is None:
        return await _patiently(lambda: _listed(service, user_id))
    question = [SentQuestion(user_id=user_id)]
    prepared = await service.prepare(question)
    (given,) = await _patiently(lambda: answer_all(service.batcher, prepared))
    return given.text


async def _listed(service: Service, user_id: str) -> str:
    wish = SentWish(users=[SentUser(user_id=user_id)], k=LISTED)
    (found,) = (await service.recommending.recommend(wish)).recommendations
    return " ".join(item.item_id for item in found.items)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Retry as long as the queue is full of users' questions."""
    while True:
        try:
            return await ask()
        except OverloadedError as error:  # noqa: PERF203 - retried
            await asyncio.sleep(error.retry_after)
