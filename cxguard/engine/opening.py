"""What a guard stands on: its store, the breaker around a shared one, the spool beside it, and the secrets of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from cxguard.clock import Clock, SharedClock
from cxguard.config import Secrets, Settings
from cxguard.engine.engine import Engine
from cxguard.engine.forwarding import Forwarding, LookAtEnd
from cxguard.engine.secrets import Given, confirm_secrets, file_of, secrets_of, shared_secrets
from cxguard.engine.spool import Spool
from cxguard.engine.store_breaker import breaker_around
from cxguard.engine.whereabouts import refuse_relocated
from cxguard.errors import ConfigurationError, StoreUnavailable
from cxguard.events import Bus, Event
from cxguard.logs import get_logger
from cxguard.rules import Rule
from cxguard.stores.base import Level, Store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.reading import ReadingStore

_log = get_logger("opening")


class Opening:
    """Opens and closes store and spool of one guard.

    Args:
        store: as given.
        spool: the spool's file; None: there is none.

    Attributes:
        store: what everybody asks: the given one, behind its breaker where it is shared.
        clock: what everybody goes by: the machine's own; where the store is shared, the store's.
        embedded: it is the one file of this machine, or lives in this process.

    Raises:
        ConfigurationError: a spool beside an embedded store.
    """

    def __init__(
        self, store: Store, *, clock: Clock, bus: Bus, namespace: str, holder: str, spool: Path | str | None, settings: Settings
    ) -> None:
        if spool is not None and file_of(store) is not None:
            raise ConfigurationError(
                "an embedded store needs no spool: it would lie on the same machine, and be away with it; "
                'write Guard("sqlite:///shop.db", ...) without spool=, or name a shared store'
            )
        self._bare = store
        self._bus = bus
        self._namespace = namespace
        self._secrets: Secrets | None = None
        self.embedded = file_of(store) is not None or isinstance(store, MemoryStore)
        self._forwarding: Forwarding | None = None
        self.spool = None
        if spool is not None:
            bounds = {"items_max": settings.spool_items_max, "bytes_max": settings.spool_bytes_max}
            self.spool = Spool(spool, clock=clock, namespace=namespace, holder=holder, **bounds)
        alone = file_of(store) is not None or store.level is Level.MEMORY or isinstance(store, ReadingStore)
        shared = spool is not None or not alone
        self.breaker = breaker_around(store, clock, bus=bus, confirm=self._confirm) if shared else None
        self.store = cast(Store, self.breaker) if self.breaker is not None else store
        self.clock = SharedClock(clock) if shared else clock

    async def start(self, given: Given) -> Secrets:
        """Open both. With an open spool a shared store may be away: then it is reached later, in the background.

        Raises:
            ConfigurationError: it can never work as it is set.
            StoreUnavailable: the store does not answer now, and there is no spool that could stand in.
        """
        if self.breaker is None:
            await self.store.start()
            return await secrets_of(self.store, file_of(self.store), namespace=self._namespace, given=given)
        self._secrets = shared_secrets(given, in_memory=isinstance(self._bare, MemoryStore))
        if self.spool is not None:
            aside = await self.spool.start(self._secrets)
            if aside is not None:
                detail = {"path": str(self.spool.path), "aside": str(aside.path), "taken_over": aside.taken_over}
                self._bus.emit(Event("spool.damaged", self.clock.now(), detail=detail))
        try:
            looked_at = not self.breaker.away  # opened without secrets, by somebody who only looks
            await self.store.start()
            if looked_at:
                await self._confirm(self._bare)
        except StoreUnavailable as error:
            if self.spool is None or not self.spool.open:
                raise
            _log.warning("store.away_at_start", why=str(error)[:200])
        return self._secrets

    def forwarding(self, engine: Engine, rules: Sequence[Rule], *, look_at_end: LookAtEnd) -> Forwarding:
        """What brings the spool's orders to the store.

        Raises:
            ConfigurationError: there is no spool.
        """
        if self.spool is None:
            raise ConfigurationError('this guard has no spool: write Guard(..., spool="/var/lib/shop/spool.db")')
        return Forwarding(engine, self.spool, rules={rule.name: rule for rule in rules}, look_at_end=look_at_end)

    def start_forwarding(self, engine: Engine, rules: Sequence[Rule], *, look_at_end: LookAtEnd) -> None:
        """Forward in the running loop, if there is an open spool. Idempotent."""
        if self._forwarding is None and self.spool is not None and self.spool.open:
            self._forwarding = self.forwarding(engine, rules, look_at_end=look_at_end)
            self._forwarding.start()

    async def stop_forwarding(self) -> None:
        """Finish what is in hand."""
        forwarding, self._forwarding = self._forwarding, None
        if forwarding is not None:
            await forwarding.stop()

    def forget_parent(self) -> None:
        """After a fork: what forwards is the parent's."""
        self._forwarding = None

    def leave_absent_spool(self) -> None:
        """For a worker, which has the app's code and perhaps another machine: without the spool's folder it has no spool."""
        if self.spool is not None and not self.spool.path.parent.is_dir():
            _log.info("spool.not_here", path=str(self.spool.path))
            self.spool = None

    async def stop(self) -> None:
        """Close both."""
        try:
            await self.store.stop()
        finally:
            if self.spool is not None:
                await self.spool.stop()

    async def _confirm(self, store: Store) -> None:
        if isinstance(self.clock, SharedClock):
            await self.clock.follow(store.clock)
        if self._secrets is not None:  # without secrets one can look, and nothing else
            await refuse_relocated(store, namespace=self._namespace)
            await confirm_secrets(store, self._secrets, namespace=self._namespace)
