"""A model that takes another's place under live users.

Both are loaded. The old one answers, and takes events in, while users are prepared for the new one in the background;
then both are asked about a panel of users, and the new one answers from then on, unless its answers drift too far.
What was decided stands in the store, so that all its servers follow, also after a restart.
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
"""Users that are prepared between two looks at the store."""
TOLD = 20
"""Pages between two counts of the users that are prepared."""
AGAIN = 5.0
"""Seconds until a store that was away is asked again."""


class Upgrade:
    """The services of two models over one store, of which one answers.

    Args:
        new: The service of the model that is to answer; it owns the store.
        old: The service of the model that was served before.
        settings: Settings of the new one.
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
        self._note()

    @property
    def serving(self) -> Which:
        """Which model answers."""
        return "old" if self._decision is None else self._decision.serving

    @property
    def service(self) -> Service:
        """The service of the model that answers."""
        return self._services[self.serving]

    def state(self) -> UpgradeState:
        """Describe who answers, and how far the other one is."""
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
        """Let one of the models answer, in all servers of the store, whatever was decided before."""
        made = Decision(which, f"the {which} one was asked for")
        self._decision = self._store.decide(self._pair, made, anew=True)
        self._note()

    def follow(self) -> None:
        """Take over what another server of the store has decided."""
        self._decision = self._store.decision(self._pair)
        self._note()

    async def run(self, changed: Callable[[Service], None]) -> None:
        """Follow the store, and prepare users until it is decided which model answers, as ``changed`` is told."""
        preparing = asyncio.create_task(self._run(changed))
        try:
            while True:
                await anyio.sleep(FOLLOWING)
                with suppress(StoreError):  # it is asked again
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
                await self._in_thread(self._teach)
                await self._in_thread(self._prepare)
                self._phase = "comparing"
                await self._in_thread(self._decide, await self._compared())
            except StoreError as error:  # noqa: PERF203 - it is asked again
                log.info("the upgrade waits for the store: %s", error)
                await anyio.sleep(AGAIN)
            except Exception as error:
                self._failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                metrics.upgrade_alarm.set(1)
                log.exception("the upgrade failed, and the old model goes on answering")
                return
        changed(self.service)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._thread)

    def _teach(self) -> None:
        """Add the new model's items to the store where the old one does not know them, so that it can read them."""
        old, new = (self._services[which].users for which in ("old", "new"))
        old.refresh_items()
        unknown = set(old.catalogue.unknown(new.catalogue.own_items))
        if unknown:
            items = [item for item in dataset_texts(self._settings) if item.item_id in unknown]
            old.add_items(items)
            log.info("%d items of the new model's data were added for the old one", len(items))

    def _prepare(self) -> None:
        """Make the encodings of all users, at most half of the time, as those who ask are waiting."""
        service, order = self._services["new"], random.Random(os.getpid())
        for encoding in service.encodings:
            after, pages = 0, 0
            while page := self._store.unprepared(encoding.identity, after, PAGE):
                after = page[-1][0]
                order.shuffle(page)  # workers of one store begin at different users
                for _, user_id in page:
                    if self._stopped.is_set():
                        return
                    started = time.monotonic()
                    with suppress(UnknownUserError):  # deleted meanwhile
                        service.users.encoded_by(encoding, user_id)
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
        self._decision = self._store.decide(self._pair, made, anew=False)
        log.info("the %s model answers: %s", self._decision.serving, self._decision.reason)
        self._note()

    def _progress(self) -> tuple[int, int]:
        """Count users with all encodings of the new model, and all users."""
        found = [self._store.progress(one.identity) for one in self._services["new"].encodings]
        prepared, users = min(found)
        metrics.upgrade_users.labels("prepared").set(prepared)
        metrics.upgrade_users.labels("waiting").set(users - prepared)
        return prepared, users

    def _note(self) -> None:
        """Show in the metrics what was decided."""
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
    """Make the error of a server of one model."""
    return NotServedError(
        "no model takes another's place here; start  palate serve NEW --previous OLD  on the store of OLD"
    )
