"""What a guard does outside of requests: operations of scripts, jobs and webhooks. The guard itself is in `cxguard.guard`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from cxguard.clock import Clock
from cxguard.core.currency import amount_fault
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Outcome
from cxguard.engine.bridge import Bridge
from cxguard.engine.engine import Engine
from cxguard.engine.handle import current_operation
from cxguard.engine.library import Name, OperationScope, Purpose, as_name
from cxguard.engine.noting import note_outcome
from cxguard.engine.once import OWNER, once
from cxguard.engine.resuming import ResumedScope
from cxguard.engine.sync_guard import SyncGuard
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import Fact

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Library(ABC):
    """The idempotency library inside payment code: `Guard` has it all."""

    namespace: str
    clock: Clock
    purposes: dict[str, Purpose]
    _bridge: Bridge

    @property
    @abstractmethod
    def engine(self) -> Engine: ...

    @abstractmethod
    async def start(self, *, duties: bool = True) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    def operation(
        self,
        *,
        purpose: str,
        key: Name,
        owner: Name,
        amount_minor: int | None = None,
        currency: str | None = None,
        deadline_seconds: float = 30.0,
    ) -> OperationScope:
        """One operation of a script, job or webhook: `async with guard.operation(...) as op:`.

        On a finished one `op.answer` is set. Leaving normally finishes; leaving by an exception frees the key when nothing
        was sent, and otherwise lets what was sent be resolved.

        Args:
            purpose: what it does; part of its name, so that "pay order" and "refund order" never meet.
            key: names the thing that must happen once, an order number for instance. Text, a number or a UUID, as *owner*.
            owner: whose it is.
            amount_minor, currency: what `op.charge` may take, and nothing else; both or neither.

        Raises (on entering):
            OperationInFlight, OperationHeld, StoreUnavailable.

        Raises:
            ConfigurationError: no key, no owner, no amount, or no currency.
        """
        key, owner = as_name(key, "key"), as_name(owner, "owner")
        fault = amount_fault(amount_minor, currency, least=0) if amount_minor is not None or currency is not None else ""
        if fault:
            raise ConfigurationError(f"{fault}; nothing was opened")
        kept = self.purposes.setdefault(purpose, Purpose(purpose))  # known to the queue from now on: an unknown is resolved by itself
        return OperationScope(
            self, kept, key=key, owner=owner, amount_minor=amount_minor, currency=currency, deadline_seconds=deadline_seconds
        )

    def deadline(self) -> float:
        """Seconds that are left to the operation in hand, to pass on: `httpx.get(url, timeout=guard.deadline())`.

        Raises:
            LookupError: there is no operation here.
        """
        return current_operation().remaining_seconds

    @property
    def sync(self) -> SyncGuard:
        """The same for code that is not async: scripts, threads, sync views, prefork workers."""
        return SyncGuard(self, self._bridge)

    def once(
        self,
        *,
        key: str | Callable[..., str],
        purpose: str | None = None,
        owner: str = OWNER,
        repeatable: bool = True,
        wait_seconds: float = 5.0,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Make a function (async or not) take effect once for each key: a repeated call gets the kept result.

            @guard.once(key=lambda event: event["id"])
            async def on_shipped(event): ...

        A call that raises frees its key. Results are kept as JSON.

        Args:
            key: the name of a parameter, or a function of the arguments. It names what must happen once.
            purpose: the name under which it is kept; by default the function's own, with its module.
            repeatable: a run that was killed is run again; False: a person sees first how far it came.
            wait_seconds: how long a second call waits for the first one's result before `OperationInFlight`.
        """
        return once(self, key=key, purpose=purpose, owner=owner, repeatable=repeatable, wait_seconds=wait_seconds)

    def resume(self, *, reference: str, deadline_seconds: float = 30.0, lease_seconds: float = 30.0) -> ResumedScope:
        """Come back to a paid order: `async with guard.resume(reference="7K3M-9QXA-2TFV") as op: await op.refund(500)`.

        The order's state stays as it is; only its money moves, under its one lease.

        Args:
            lease_seconds: how long the work of a process that died waits for another.

        Raises (on entering):
            NoSuchOrder: there is none of this name.
            OperationInFlight: somebody has it in hand now.
            OperationHeld: it is still on its way, and has nothing to capture or refund yet.
        """
        return ResumedScope(self, reference=reference, deadline_seconds=deadline_seconds, lease_seconds=lease_seconds)

    async def run(self, call: Callable[..., Awaitable[T]], *args: Any, purpose: str, key: Name, owner: Name, **options: Any) -> T:
        """Run `call(op, *args)` once in the operation's life, and give its kept result ever after.

        Raises:
            OperationInFlight, OperationHeld: nothing was run.
            PaymentDeclined, PaymentDeferred: as `op.charge` says.
            TransactionOpen, TransactionRolledBack: what `op.finish` wrote does not hold (yet), although *call* has returned.
            TypeError: *call* is not async, or its result cannot be kept as JSON.
        """
        async with self.operation(purpose=purpose, key=key, owner=owner, **options) as op:
            if not op.finished:
                under_way = call(op, *args)
                if not isawaitable(under_way):
                    raise TypeError(f"{getattr(call, '__name__', call)} is not async: write `async def`, or guard.sync.run(...)")
                op.keep(await under_way)
            kept: T = op.answer
            return kept

    async def note(
        self,
        outcome: Outcome | Fact,
        *,
        event_id: str = "",
        gateway_key: str | None = None,
        reference: str | None = None,
        source: str = "webhook",
    ) -> Operation:
        """Bring proof of what became of a payment: from a webhook, a look-up, a person.

        Args:
            outcome: a gateway's `Fact`, as `read_webhook` gives it, says all of the rest itself.
            event_id: the sender's own id of the fact: a second time changes nothing.
            gateway_key, reference: which payment; one of the two. A key that no record knows makes a stub for the desk. By its
                reference an order whose first card was declined is only believed to be charged: a "no", or a refund, may be
                about an older payment of it, so it becomes a remark. Give the key where you can.

        Raises:
            KeyError: no record has this reference.
            ConfigurationError: no event id, not exactly one of key and reference, or no outcome.
        """
        if isinstance(outcome, Fact):
            fact = {name: getattr(outcome, name) for name in outcome.__slots__}
            return await note_outcome(self.engine, **fact)
        if not event_id:
            raise ConfigurationError("guard.note needs event_id=, the sender's own id of the fact: else a repetition would count twice")
        return await note_outcome(self.engine, outcome, event_id=str(event_id), gateway_key=gateway_key, reference=reference, source=source)
