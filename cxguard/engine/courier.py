"""Give the shop's `notify` hook each notice to the shopper of a kept order: driven from the record, so that no crash forgets one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from cxguard.core.money import MoneyState
from cxguard.core.notices import TRIES_MAX, NoticeKind, owed, tried, tries_of
from cxguard.core.operation import Operation
from cxguard.engine.charging import Work
from cxguard.engine.cold import open_member
from cxguard.engine.engine import Engine
from cxguard.engine.hooks import call_hook
from cxguard.engine.resume_links import resume_url
from cxguard.errors import ConfigurationError, HookFailed, SealError
from cxguard.logs import get_logger, where_raised
from cxguard.rules import Rule

_log = get_logger("courier")

NOTIFY_SECONDS_MAX = 10.0  # a mail is put on a queue in milliseconds; sending it is not this hook's work
LATE_SECONDS_MAX = 300.0  # one that takes longer than that goes on: called anew meanwhile, it would send the same mail again
LATE_KEPT_MAX = 1_000  # ends of such calls that are remembered: another worker may have come back for its order
REST_SECONDS = 30.0  # after a call that failed slowly: until one has gone well, one in so long finds out, and the others fail at once
SLOW_SECONDS = 2.0  # a failure that takes longer keeps its order, and the place of another in the worker, from being placed
STATUS_PURPOSE = "status"  # what a status link's token is for


@dataclass(frozen=True, slots=True)
class Notice:
    """What a shopper is to be told, for a mail or a message.

    Attributes:
        id: the same if the notice is given again after a crash: whoever keeps it sends each once.
        contact: as the rule's `contact` read it; None: the shopper left none.
        why: the reason on record, a short code.
        money: `none` surely not charged, `unknown` (also while the order may be an older copy of a paid one), `charged`,
            `declined`, `refunded`.
        status_path: the order's page, where it can be cancelled while that is possible: put your shop's address before it, with the
            path below which the guarded app is served, if there is one (`root_path`, a mount).
        resume_url: where the shopper goes on with the order (`resume_at`), when it waits for them.
        ends_at: when the order ends by itself; wall clock, seconds since the epoch.
    """

    id: str
    kind: NoticeKind
    reference: str
    rule: str
    contact: str | None
    locale: str
    why: str
    money: MoneyState
    amount_minor: int | None
    currency: str | None
    status_path: str
    resume_url: str | None
    ends_at: float | None


Notify = Callable[[Notice], Any]


def callable_or_none(notify: Notify | None) -> Notify | None:
    """*notify* itself, if it can be called."""
    if notify is not None and not callable(notify):
        raise ConfigurationError(f"notify={notify!r} cannot be called: write Guard(..., notify=send_mail), a function that gets a Notice")
    return notify


@dataclass(slots=True)
class Rest:
    """How long the hook is not called, since it hangs: every order would wait for it in vain before it is placed.

    One that goes well now and then is slow or unsteady, and is not spared: the others would run out of their tries meanwhile.

    Attributes:
        until: monotonic, in seconds; None: nothing is wrong.
        well_at: when a call last went well, also one that was not waited for.
    """

    until: float | None = None
    well_at: float = -inf

    def begin(self, now: float) -> None:
        """One call more, which finds out for the others.

        Raises:
            HookFailed: it hung a moment ago.
        """
        if self.until is not None and now < self.until:
            raise HookFailed("notify hook hung a moment ago, and is not called now")
        if self.until is not None:
            self.until = now + REST_SECONDS

    def end(self, *, began: float, now: float, failed: bool) -> None:
        """How that call ended."""
        if not failed:
            self.well_at = now
        hangs = failed and now - began >= SLOW_SECONDS and now - self.well_at >= REST_SECONDS
        self.until = now + REST_SECONDS if hangs else None


@dataclass(frozen=True, slots=True)
class Courier:
    """Calls the hook.

    Attributes:
        prefix, link_seconds: of the status page's links.
    """

    engine: Engine
    notify: Notify
    rules: Mapping[str, Rule]
    prefix: str
    link_seconds: float
    _rest: Rest = field(default_factory=Rest)
    _late: dict[str, asyncio.Task[Any]] = field(default_factory=dict)  # calls that were not waited for, by their notice's id

    async def tell(self, work: Work) -> None:
        """Give every notice that is owed. A try is on record before the hook is called, its success with the next save.

        Raises:
            LeaseLost, StoreUnavailable: nothing more is given here.
        """
        kinds = owed(work.operation, now=self.engine.clock.now())
        if kinds:
            await self.engine.epochs.look()
        for kind in kinds:
            work.operation = await self.engine.operations.write(tried(work.operation, kind, now=self.engine.clock.now()), work.lease)
            try:
                await self._call(self._notice(work.operation, kind))
            except HookFailed as error:
                self._failed(work.operation, kind, error)
            else:
                work.operation = tried(work.operation, kind, now=self.engine.clock.now(), done=True)
                self.engine.operations.emit("shopper.told", work.operation, kind=kind)

    async def _call(self, notice: Notice) -> None:
        late = self._late.get(notice.id)
        if late is not None and not late.done():
            raise HookFailed("notify hook is still at work on this notice, and is not called anew")
        if late is not None:
            del self._late[notice.id]
            late.result()  # what became of it; a failure is tried again in its turn
            return
        began, failed = self.engine.clock.monotonic(), True
        self._rest.begin(began)
        try:
            await self._in_time(notice)
            failed = False
        finally:
            self._rest.end(began=began, now=self.engine.clock.monotonic(), failed=failed)

    async def _in_time(self, notice: Notice) -> None:
        call = asyncio.create_task(call_hook(self.notify, notice, name="notify", seconds=LATE_SECONDS_MAX))
        try:
            await asyncio.wait((call,), timeout=NOTIFY_SECONDS_MAX)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not call.done():
            call.add_done_callback(self._ended_late)
            self._late[notice.id] = call
            if len(self._late) > LATE_KEPT_MAX:
                del self._late[next(iter(self._late))]
            raise HookFailed(f"notify hook gave no answer in {NOTIFY_SECONDS_MAX:g} s: it goes on, and its end is looked at later")
        call.result()

    def _ended_late(self, call: asyncio.Task[Any]) -> None:
        """Perhaps nobody comes back for it."""
        if not call.cancelled() and call.exception() is None:
            now = self.engine.clock.monotonic()
            self._rest.end(began=now, now=now, failed=False)

    def _failed(self, operation: Operation, kind: NoticeKind, error: HookFailed) -> None:
        tries = tries_of(operation, kind)
        _log.error("shopper.not_told", reference=operation.reference, kind=kind, **where_raised(error.__cause__ or error))
        self.engine.operations.emit("shopper.not_told", operation, kind=kind, why=str(error), tries=tries, final=tries >= TRIES_MAX)

    def _notice(self, operation: Operation, kind: NoticeKind) -> Notice:
        seal, now = self.engine.seal, self.engine.clock.now()
        token = seal.sign_link(operation.id, now=now, seconds=self.link_seconds, purpose=STATUS_PURPOSE)
        return Notice(
            id=f"{operation.reference}:{operation.generation}:{kind}",
            kind=kind,
            reference=operation.reference,
            rule=operation.rule,
            contact=self._contact(operation),
            locale=operation.locale,
            why=operation.why,
            money=MoneyState.UNKNOWN if self.engine.epochs.doubts(operation) else operation.money,
            amount_minor=operation.amount_minor,
            currency=operation.currency,
            status_path=f"{self.prefix}/orders/{token}",
            resume_url=resume_url(self.engine, self.rules.get(operation.rule), operation),
            ends_at=operation.give_up_at,
        )

    def _contact(self, operation: Operation) -> str | None:
        if operation.contact is None:
            return None
        try:
            return open_member(self.engine.seal, operation, "contact", operation.contact).decode()
        except SealError:
            return None  # its key is gone: the notice says that nobody can be reached


def courier_for(engine: Engine, notify: Notify | None, rules: Sequence[Rule], *, prefix: str, link_seconds: float) -> Courier | None:
    """The courier of a guard; None: the shop wants no notices."""
    named = {rule.name: rule for rule in rules}
    return Courier(engine, notify, named, prefix=prefix, link_seconds=link_seconds) if notify is not None else None
