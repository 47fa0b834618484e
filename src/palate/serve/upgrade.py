"""Live upgrade from one model to another, without downtime.

Both models are loaded. The old one answers and receives events while all users are encoded for the new one in the
background. Then both answer about a panel of users, and the server switches to the new model unless its answers differ
too much. The decision is stored, so that all servers of the store follow it, also after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.to_thread

from palate.errors import NotServedError, StoreError, UnknownUserError
from palate.serve import metrics
from palate.serve.drift import compare
from palate.serve.replacing import dataset_texts
from palate.serve.responses import Drift, UpgradeState
from palate.serve.service import FOLLOWING, Service
from palate.serve.settings import ServeSettings
from palate.serve.store.upgrading import Decision, Pair, Which

log = logging.getLogger("palate.serve")
T = TypeVar("T")
PAGE = 64
"""Number of users that are read from the store and encoded at a time."""
TOLD = 20
"""Number of pages between updates of the metrics of progress."""
AGAIN = 5.0
"""Delay before a retry with an unavailable store, in seconds."""


class Upgrade:
    """The services of an old and a new model over one store, one of which answers.

    Args:
        new: The service of the new model; it owns the store.
        old: The service of the model that was served before.
        settings: Settings of the new model.
    """

    def __init__(self, new: Service, old: Service, settings: ServeSettings) -> None:
        self._services: dict[Which, Service] = {"old": old, "new": new}
        self._settings, self._store = settings, new.store.upgrades
        self._pair = Pair(*(" ".join(one.identity for one in service.encodings) for service in (old, new)))
        self._phase: str = "preparing"
        self._failure = ""
        self._stopped = threading.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._decision = self._store.decision(self._pair)
        self._update_metrics()

    @property
    def serving(self) -> Which:
        """The model that answers."""
        return "old" if self._decision is None else self._decision.serving

    @property
    def service(self) -> Service:
        """The service of the model that answers."""
        return self._services[self.serving]

    def state(self) -> UpgradeState:
        """Describe the progress of the upgrade, and which model answers."""
        decision = self._decision
        prepared, users = self._progress()
        phase = "decided" if decision is not None else "failed" if self._failure else self._phase
        drift = None if decision is None else decision.drift
        return UpgradeState(
            serving=self.serving,
            phase=phase,
            reason=decision.reason if decision is not None else self._failure or "users are being prepared",
            old=self._services["old"].identity,
            new=self._services["new"].identity,
            users=users,
            prepared=prepared,
            drift=None if drift is None else Drift.model_validate_json(drift),
        )

    def switch(self, which: Which) -> None:
        """Switch all servers of the store to one of the models, overriding an earlier decision."""
        made = Decision(which, f"the {which} model was requested")
        self._decision = self._store.decide(self._pair, made, overwrite=True)
        self._update_metrics()

    def follow(self) -> None:
        """Apply the stored decision, which another server may have made."""
        self._decision = self._store.decision(self._pair)
        self._update_metrics()

    async def run(self, changed: Callable[[Service], None]) -> None:
        """Prepare users until a decision is made, and follow the stored decision; never returns.

        Args:
            changed: Called with the service that answers, at every poll of the store.
        """
        preparing = asyncio.create_task(self._run(changed))
        try:
            while True:
                await anyio.sleep(FOLLOWING)
                with suppress(StoreError):  # the next iteration retries
                    await anyio.to_thread.run_sync(self.follow)
                changed(self.service)
        finally:
            self._stopped.set()
            preparing.cancel()

    def close(self) -> None:
        """Close both services."""
        self._stopped.set()
        self._services["old"].close()
        self._services["new"].close()

    async def _run(self, changed: Callable[[Service], None]) -> None:
        while self._decision is None and not self._stopped.is_set():
            try:
                await self._in_thread(self._add_new_items)
                await self._in_thread(self._prepare)
                self._phase = "comparing"
                await self._in_thread(self._decide, await self._compared())
            except StoreError as error:  # noqa: PERF203 - retried
                log.info("the upgrade waits for the store: %s", error)
                await anyio.sleep(AGAIN)
            except Exception as error:
                self._failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                metrics.upgrade_alarm.set(1)
                log.exception("the upgrade failed; the old model continues to answer")
                return
        changed(self.service)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._thread)

    def _add_new_items(self) -> None:
        """Add items that only the new model knows to the store, so that the old one can read events about them."""
        old, new = (self._services[which].users for which in ("old", "new"))
        old.refresh_items()
        unknown = set(old.catalogue.unknown(new.catalogue.own_items))
        if unknown:
            items = [item for item in dataset_texts(self._settings) if item.item_id in unknown]
            old.add_items(items)
            log.info("added %d items of the new model's data, which the old model does not know", len(items))

    def _prepare(self) -> None:
        """Encode all users for the new model, at a duty cycle of one half, to leave CPU time for requests."""
        service, order = self._services["new"], random.Random(os.getpid())
        for encoding in service.encodings:
            after, pages = 0, 0
            while page := self._store.unprepared(encoding.identity, after, PAGE):
                after = page[-1][0]
                order.shuffle(page)  # so that workers of one store encode different users
                for _, user_id in page:
                    if self._stopped.is_set():
                        return
                    started = time.monotonic()
                    with suppress(UnknownUserError):  # deleted meanwhile
                        service.users.encoded_by(encoding, user_id, wait=True)
                    self._stopped.wait(time.monotonic() - started)
                pages += 1
                if pages % TOLD == 0:
                    self._progress()
        self._progress()

    async def _compared(self) -> Drift:
        old, new, limits = self._services["old"], self._services["new"], self._settings.limits
        panel = await self._in_thread(new.store.users_after, 0, limits.panel)
        return await compare(old, new, [user_id for _, user_id in panel], limits)

    def _decide(self, drift: Drift) -> None:
        if self._stopped.is_set():
            return
        which: Which = "old" if drift.alarms else "new"
        reason = "held back: " + "; ".join(drift.alarms) if drift.alarms else "all users are prepared"
        made = Decision(which, reason, drift.model_dump_json())
        self._decision = self._store.decide(self._pair, made, overwrite=False)
        log.info("the %s model answers: %s", self._decision.serving, self._decision.reason)
        self._update_metrics()

    def _progress(self) -> tuple[int, int]:
        """Count the users with all encodings of the new model, and all users."""
        found = [self._store.progress(one.identity) for one in self._services["new"].encodings]
        prepared, users = min(found)
        metrics.upgrade_users.labels("prepared").set(prepared)
        metrics.upgrade_users.labels("waiting").set(users - prepared)
        return prepared, users

    def _update_metrics(self) -> None:
        """Update the metrics by the decision."""
        decision = self._decision
        metrics.upgrade_serving.set(self.serving == "new")
        if decision is None:
            return
        drift = None if decision.drift is None else Drift.model_validate_json(decision.drift)
        metrics.upgrade_alarm.set(bool(drift is not None and drift.alarms and decision.serving == "old"))
        if drift is not None:
            metrics.upgrade_changed.set(drift.changed)
            for name, f1 in (("old", drift.f1_old), ("new", drift.f1_new)):
                if f1 is not None:
                    metrics.upgrade_f1.labels(name).set(f1)


def no_upgrade() -> NotServedError:
    """Create the error for a server without an upgrade."""
    return NotServedError(
        "no upgrade is running; start  palate serve NEW --previous OLD  on the store of OLD"
    )
