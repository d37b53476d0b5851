"""The guard: store, rules, gateways and shop, put together. It wires, and decides nothing."""

from __future__ import annotations

import asyncio
import os
import secrets as random_names
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from cxguard.clock import Clock, SystemClock
from cxguard.config import Secrets, Settings
from cxguard.core.answer import SPECS, AnswerSpec, Situation
from cxguard.core.breaker import BreakerPolicy
from cxguard.core.caps import Caps
from cxguard.core.honesty import with_overrides
from cxguard.core.operation import Operation
from cxguard.engine.breaker_sharing import Sharing
from cxguard.engine.bridge import Bridge
from cxguard.engine.courier import Notify, callable_or_none, courier_for
from cxguard.engine.duties import Duties
from cxguard.engine.engine import Engine, Timeouts
from cxguard.engine.forwarding import Forwarding
from cxguard.engine.gateway_names import check_gateway_names, gateways_by_name
from cxguard.engine.given import check_given
from cxguard.engine.library import Purpose, owner_pseudonym
from cxguard.engine.making import make_engine
from cxguard.engine.mode import Mode as Mode  # part of what is asked for here
from cxguard.engine.mode import holder_name, mode_of, prefix_of
from cxguard.engine.opening import Opening
from cxguard.engine.placing import Rerun
from cxguard.engine.queue import FallbackQueue
from cxguard.engine.recorder import Recorder
from cxguard.engine.report import SPOOL_COUNTERS
from cxguard.engine.spool import Spool
from cxguard.engine.stalls import STALLS_COUNTER, StallWatch
from cxguard.errors import StoreUnavailable
from cxguard.events import Bus, Event, Listener
from cxguard.gateways.base import Closes, Gateway
from cxguard.library import Library
from cxguard.logs import log_event
from cxguard.rules import Funnel, Rule, Shop, match_rules
from cxguard.rules.sources import AnySource
from cxguard.stores.address import open_store
from cxguard.stores.base import Store
from cxguard.stores.reading import ReadingStore

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Guard(Library):
    """One shop's guard.

    Args:
        store: a URL (`sqlite:///shop.db`, `postgresql://..`, `redis://..`, `memory://`) or a store.
        rules: which requests take effect at most once, and how.
        shop: who the shopper can turn to.
        gateways: what `op.charge` charges with; the first one, unless a rule names another.
        mode: `guard`, or `watch` to begin with.
        namespace: one per shop on a store.
        prefix: under which path the status pages live.
        secret, keys: the naming secret and the key ring; see `cxguard.config.load_secrets`.
        purposes: what scripts do with `guard.run`, when a worker should go on with it.
        funnel, visitor: which paths are stages of the shop's funnel, and whose visit a request belongs to.
        answers: rows of the answer table that the shop wants otherwise; lies are refused.
        messages: the shop's own texts, by locale, or a folder of them; see `cxguard.render.renderer.Renderer`.
        caps: the most that is kept for later, unless a rule says otherwise; see `Caps`.
        notify: gets a `Notice` for the shopper of a kept order: accepted, paid, action needed, delayed, expired, cancelled. Async or
            not, called by the worker, each notice once, and again under the same `id` if a process died in between.
        settings, timeouts, breakers: the numbers of the whole guard, of calls to gateways, and of the breakers.
        listeners: plain functions that hear every event, at once and in the caller's thread.
        duties: run the queue and the upkeep in this process; by default where the store is the embedded one.
        spool: a file of this machine that takes orders in while a shared store is away, and is forwarded by each process
            that has it, unless duties=False leaves that to a worker here. None: such orders are refused with 503.

    Raises:
        ConfigurationError: anything that could not work or could tell a lie. The text has the corrected line.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        shop: Shop,
        rules: Sequence[Rule] = (),
        gateways: Sequence[Gateway] = (),
        mode: Mode | str = Mode.GUARD,
        namespace: str = "shop",
        prefix: str = "/_cxguard",
        secret: str | bytes | None = None,
        keys: str | Sequence[str | bytes] = (),
        purposes: Sequence[Purpose] = (),
        funnel: Funnel | None = None,
        visitor: AnySource | None = None,
        answers: Mapping[Situation, AnswerSpec] | None = None,
        messages: Any = None,
        caps: Caps | None = None,
        notify: Notify | None = None,
        settings: Settings | None = None,
        timeouts: Timeouts | None = None,
        breakers: BreakerPolicy | None = None,
        listeners: Sequence[Listener] = (),
        duties: bool | None = None,
        spool: Path | str | None = None,
        clock: Clock | None = None,
    ) -> None:
        several = {"rules": rules, "gateways": gateways, "purposes": purposes, "listeners": listeners}
        numbers = {"caps": caps, "settings": settings, "timeouts": timeouts, "breakers": breakers}
        words = {"shop": shop, "namespace": namespace, "funnel": funnel, "visitor": visitor, "duties": duties, "answers": answers}
        check_given(store, **several, **numbers, **words)
        self._own_clock = clock or SystemClock()
        self.settings = settings or Settings()
        self.shop = shop
        self.rules = tuple(rules)
        self.matcher = match_rules(self.rules)
        self.mode = mode_of(mode)
        self.namespace = namespace
        self.prefix = prefix_of(prefix)
        self.funnel = funnel
        self.visitor = visitor
        self.specs = with_overrides(answers) if answers else SPECS  # the shipped rows are checked by a test
        self.messages = messages
        self.caps = caps or Caps()
        self.notify = callable_or_none(notify)
        self.bus = Bus()
        self.bus.listen(log_event)
        self._opening = Opening(
            open_store(store, clock=self._own_clock) if isinstance(store, str) else store,
            clock=self._own_clock,
            bus=self.bus,
            namespace=namespace,
            holder=holder_name(),
            spool=spool,
            settings=self.settings,
        )
        self.store, self.store_breaker, self.clock = self._opening.store, self._opening.breaker, self._opening.clock
        self.bus.listen(self._count)
        for listener in listeners:
            self.bus.listen(listener)
        self.purposes = {purpose.name: purpose for purpose in purposes}
        self.gateways = gateways_by_name(gateways)
        check_gateway_names(self.gateways, self.rules, self.purposes.values())
        self.recorder = Recorder(self.store, self.clock, namespace=namespace, bus=self.bus)
        self._given_secrets = (secret, keys)
        self._timeouts, self._breaker_policy = timeouts or Timeouts(), breakers or BreakerPolicy()
        self._duties_wanted = duties if duties is not None else self._opening.embedded
        self._forwarding_wanted = duties is not False
        self._duties: Duties | None = None
        self._sharing: Sharing | None = None
        self._engine: Engine | None = None
        self._starting: asyncio.Lock | None = None
        self._reruns: dict[str, Rerun] = {}  # by the rule's name; "": where no other is known
        self._stalls = StallWatch(self._stalled)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bridge = Bridge(lambda: self._loop if self._pid == os.getpid() else None)
        self.runs: set[asyncio.Task[Any]] = set()

    # --- life
    @property
    def spool(self) -> Spool | None:
        """Where this machine keeps orders while the store is away."""
        return self._opening.spool

    def leave_absent_spool(self) -> None:
        """Go on without the spool where its folder is not: on a worker's own machine."""
        self._opening.leave_absent_spool()

    @property
    def started(self) -> bool:
        """Whether `start` has succeeded."""
        return self._engine is not None

    @property
    def engine(self) -> Engine:
        """The engine of a started guard.

        Raises:
            StoreUnavailable: not started, because the store has not answered yet.
        """
        if self._engine is None:
            raise StoreUnavailable("the guard has not started: `await guard.start()`, or look at why the store does not answer")
        return self._engine

    async def start(self, *, duties: bool = True) -> None:
        """Open the store, check the secrets, start heartbeat and duties. Idempotent.

        Args:
            duties: False for a process that only looks, and must not begin to place orders.

        Raises:
            ConfigurationError: it can never work as it is set.
            StoreUnavailable: the store does not answer now; try again later.
        """
        self._forget_former()
        if self._engine is not None:
            return
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if self._engine is None:
                engine = self._build(await self._opening.start(self._given_secrets))
                await engine.epochs.begin()
                engine.operations.leases.start()
                self._engine, self._loop = engine, asyncio.get_running_loop()  # nothing waits behind this: all is started, or nothing
                self._start_sharing(engine)
                if duties:
                    self.start_wanted()
                self.recorder.start()
                if isinstance(self._own_clock, SystemClock):
                    self._stalls.start()

    async def stop(self) -> None:
        """Let runs end, stop the duties, write what is buffered, close the store. Idempotent."""
        self._forget_former()
        if self._engine is None:
            return
        try:
            await self._end()
        finally:  # also if something before has failed, or nobody waits for us any longer
            self._engine.operations.leases.stop()
            self._engine = self._loop = self._starting = None  # also if the store does not end well: a new start opens it anew
            await self._opening.stop()

    async def _end(self) -> None:
        await self.finish_runs()
        await self.stop_duties()
        await self._stalls.stop()
        await self.recorder.stop()
        await self.breakers.stop()
        await self.engine.operations.hints.stop()
        for gateway in [each for each in self.gateways.values() if isinstance(each, Closes)]:
            await gateway.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        """Start it for code that is not async: `with guard: guard.sync.run(...)`."""
        self.sync.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sync.stop()

    def _forget_former(self) -> None:
        """After a fork, or a loop that was closed without a stop (a test client's): its heartbeat and unwritten facts are not ours."""
        ended = self._loop is not None and self._loop.is_closed()
        if ended and self._engine is not None and self._pid == os.getpid():
            self._engine.operations.leases.stop()
        if ended or self._pid != os.getpid():
            self._pid = os.getpid()
            self._engine = self._loop = self._starting = self._duties = self._sharing = None
            self._opening.forget_parent()
            self.runs, self._stalls = set(), StallWatch(self._stalled)
            self.recorder = Recorder(self.store, self.clock, namespace=self.namespace, bus=self.bus)

    async def finish_runs(self) -> None:
        """Wait for the runs of clients that have gone, as long as any run may take."""
        pending = {run for run in self.runs if not run.done()}
        if pending:
            await asyncio.wait(pending, timeout=self.settings.run_seconds_max)

    @property
    def breakers(self) -> Sharing:
        """The breakers of all processes: `say` is how a person forces one.

        Raises:
            StoreUnavailable: not started, because the store has not answered yet.
        """
        if self._sharing is None:
            raise StoreUnavailable("the guard has not started: `await guard.start()`, or look at why the store does not answer")
        return self._sharing

    def _start_sharing(self, engine: Engine) -> None:
        hints, process = engine.operations.hints, engine.operations.holder
        self._sharing = Sharing(
            engine.breakers, self.store, self.clock, namespace=self.namespace, process=process, hints=hints, jitter=engine.jitter
        )
        self._sharing.start()
        hints.start()

    def use_rerun(self, rerun: Rerun, *, rule: str = "") -> None:
        """Say how a kept request, of that rule or of any, is run again through the outermost app (`later=replay`)."""
        self._reruns[rule] = rerun

    @property
    def reruns(self) -> bool:
        """Whether a kept request can be run again in this process."""
        return bool(self._reruns)

    def for_looking(self, *, made_up_secrets: bool = False) -> Guard:
        """The same guard on a store that takes no writes: to explain, not to act.

        Args:
            made_up_secrets: random ones, for a shop that has none yet: its names are then not those that it will have.
        """
        secret, keys = (random_names.token_bytes(32), [random_names.token_bytes(32)]) if made_up_secrets else self._given_secrets
        return Guard(
            ReadingStore(self.store),
            shop=self.shop,
            rules=self.rules,
            gateways=tuple(self.gateways.values()),
            mode=self.mode,
            namespace=self.namespace,
            prefix=self.prefix,
            secret=secret,
            keys=keys,
            purposes=tuple(self.purposes.values()),
            answers=self.specs,
            messages=self.messages,
            settings=self.settings,
            timeouts=self._timeouts,
            breakers=self._breaker_policy,
            duties=False,
            clock=self._own_clock,
        )

    def queue(self) -> FallbackQueue:
        """The fallback queue of this guard: `run_once()` works on what is due."""
        return FallbackQueue(
            self.engine,
            rules={rule.name: rule for rule in self.rules},
            purposes=self.purposes,
            settings=self.settings,
            rerun=lambda rule: self._reruns.get(rule, self._reruns.get("")),
            courier=courier_for(self.engine, self.notify, self.rules, prefix=self.prefix, link_seconds=self.settings.link_seconds),
        )

    def forwarding(self) -> Forwarding:
        """What brings the spool's orders to the store: `run_once()` forwards what is due."""
        return self._opening.forwarding(self.engine, self.rules, look_at_end=self.queue().look_at_end)

    def start_wanted(self) -> None:
        """Start the duties that belong to this process, which `start(duties=False)` left out. Idempotent."""
        if self._engine is None or self.mode is not Mode.GUARD:
            return
        if self._duties_wanted:
            self.start_duties()
        elif self._forwarding_wanted:
            self._opening.start_forwarding(self.engine, self.rules, look_at_end=self.queue().look_at_end)

    def start_duties(self) -> None:
        """Run queue, upkeep and forwarding in this process until `stop_duties`. Idempotent."""
        self._opening.start_forwarding(self.engine, self.rules, look_at_end=self.queue().look_at_end)
        if self._duties is None:
            hints = self.engine.operations.hints
            self._duties = Duties(self.queue(), store=self.store, namespace=self.namespace, bus=self.bus, clock=self.clock, hints=hints)
            self._duties.start()

    async def stop_duties(self) -> None:
        """Finish what is in hand and stop."""
        duties, self._duties = self._duties, None  # stopped also if nobody waits for its end: the next start has duties of its own
        try:
            await self._opening.stop_forwarding()
        finally:
            if duties is not None:
                await duties.stop()

    def emit(self, name: str, operation: Operation | None = None, **detail: Any) -> None:
        """Tell the listeners a fact, about an operation or about none."""
        if operation is not None:
            self.engine.operations.emit(name, operation, **detail)
        else:
            self.bus.emit(Event(name, self.clock.now(), detail=detail))

    def owner_name(self, owner: str) -> str:
        """The pseudonym under which an owner's operations are kept."""
        return owner_pseudonym(self.engine, owner)

    def _count(self, event: Event) -> None:
        if event.name in SPOOL_COUNTERS:
            self.recorder.count(SPOOL_COUNTERS[event.name])

    def _stalled(self, seconds: float) -> None:
        self.recorder.count(STALLS_COUNTER)
        self.emit("loop.stalled", seconds=round(seconds, 3))

    def _build(self, secrets: Secrets) -> Engine:
        return make_engine(
            secrets,
            store=self.store,
            clock=self.clock,
            bus=self.bus,
            namespace=self.namespace,
            gateways=self.gateways,
            breakers=self._breaker_policy,
            timeouts=self._timeouts,
            beat_seconds=self.settings.heartbeat_seconds,
            spool=self.spool,
            tells=self.notify is not None,
        )
