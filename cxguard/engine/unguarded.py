"""What code holds as its operation where nothing is guarded."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cxguard.core import names
from cxguard.core.money import NO_MONEY, Money, MoneyState
from cxguard.core.outcomes import Charged, Declined, NotCharged
from cxguard.core.snapshot import Snapshot
from cxguard.engine.codecs import Codec, check_codec
from cxguard.engine.steps import check_call
from cxguard.engine.sync_handle import SyncOperation, running_loop
from cxguard.errors import ConfigurationError, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge, Gateway
from cxguard.stores.joining import InThread

if TYPE_CHECKING:
    from cxguard.engine.handle import OperationHandle

T = TypeVar("T")

_MONEY = {Charged: MoneyState.CHARGED, Declined: MoneyState.DECLINED, NotCharged: MoneyState.NONE}


class UnguardedOperation:
    """What `current_operation()` gives where nothing is guarded (watch mode, a request let through without a key).

    It behaves as if cxguard were not there: each key is new, and a charge is one plain call to the gateway.

    Attributes:
        money: what became of its last charge; amounts are not kept.
        reference: made up, so that a page may have it in its address; no order is found by it.
        id, generation, amount_minor, currency, request, answer: of an operation that nobody has written down.
    """

    id = ""
    generation = 1
    amount_minor: int | None = None
    currency: str | None = None
    request: Snapshot | None = None
    answer: Any = None

    def __init__(self, gateways: tuple[Gateway, ...] = (), *, timeout_seconds: float = 30.0) -> None:
        self._gateways = gateways
        self._timeout_seconds = timeout_seconds
        self._keys: dict[str, str] = {}
        self._loop = running_loop()
        self.reference = names.reference_of(uuid.uuid4().hex)
        self.money = NO_MONEY

    @property
    def remaining_seconds(self) -> float:
        """Nobody counts: what a charge may take."""
        return self._timeout_seconds

    @property
    def sync(self) -> SyncOperation:
        """As `OperationHandle.sync`."""
        return SyncOperation(cast("OperationHandle", self), self._loop)

    def gateway_key(self, step: str = "charge") -> str:
        """A random key, the same for one step of this one request."""
        return self._keys.setdefault(step, uuid.uuid4().hex)

    async def charge(self, charge: Charge, *, step: str = "charge") -> Charged:
        """One call to the gateway, with nothing kept. Raises as `OperationHandle.charge`."""
        if not self._gateways:
            raise ConfigurationError("no gateway to charge with: Guard(..., gateways=[HttpGateway(...)])")
        outcome = await self._gateways[0].charge(charge, key=self.gateway_key(step), timeout_seconds=self._timeout_seconds)
        self.money = Money(_MONEY.get(type(outcome), MoneyState.UNKNOWN))
        match outcome:
            case Charged():
                return outcome
            case Declined():
                raise PaymentDeclined(outcome.reason, outcome.code)
            case _:
                raise PaymentDeferred("unguarded")

    async def finish(self, answer: Any, *, connection: object, status: int = 200) -> None:
        """Nothing: no record is kept here, and the transaction is the shop's own business."""

    async def finish_from(self, in_thread: InThread | None, answer: Any, *, connection: object, status: int) -> None:
        """As `finish`."""

    async def step(
        self,
        name: str,
        call: Callable[..., Awaitable[T] | T],
        *args: Any,
        repeatable: bool = False,
        codec: Codec[T] | None = None,
        **kwargs: Any,
    ) -> T:
        """Just the call."""
        check_codec(codec)
        check_call(name, call)
        result = call(*args, **kwargs)
        return cast(T, await result if inspect.isawaitable(result) else result)
