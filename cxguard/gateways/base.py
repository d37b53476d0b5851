"""What a gateway adapter must do. A shop's own is about thirty lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cxguard.core.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be charged.

    Attributes:
        amount_minor: whole minor units (cents; yen), 1 or more.
        currency: three letters, upper case.
        source: the gateway's own token for card or mandate. Never a card number.
        order_id: the shop's own name of the order, for the gateway's records.
        capture: take the money at once; otherwise reserve it.
        metadata: for the gateway's records. The operation's id is added to it, so that a webhook finds the way back.
        sources: tokens of the same means of payment at other gateways, by gateway name; a second gateway without one
            is not asked.
        method: the kind of payment or the acquirer (`card`, `sepa_debit`), for a breaker of its own; empty: none.
        off_session: the shopper is not there, and has agreed to it (`later`). Issuers judge such charges differently.
    """

    amount_minor: int
    currency: str
    source: str
    order_id: str = ""
    capture: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    off_session: bool = False


OPERATION_MEMBER = "cxguard_operation"  # in a payment's metadata: the operation's id
KEY_MEMBER = "cxguard_key"  # in a payment's metadata: the gateway key


@dataclass(frozen=True, slots=True)
class Fact:
    """What a gateway's webhook says about one payment: `await guard.note(fact)`.

    Attributes:
        event_id: the gateway's own id of the event: heard twice, it counts once.
        gateway_key: which payment.
        operation_id: from the payment's metadata; empty when the gateway did not say.
        source: who says it, for the timeline.
    """

    outcome: Outcome
    event_id: str
    gateway_key: str
    operation_id: str = ""
    source: str = "webhook"


@dataclass(frozen=True, slots=True)
class ListedPayment:
    """One payment in a gateway's own books, for the nightly look.

    Attributes:
        gateway_key, operation_id: as the payment's metadata says; empty when it was not made by us.
        outcome: what stands there now: `Charged` also when part of it was given back.
        refunded_minor: how much went back.
        created_at: wall clock, seconds since the epoch.
    """

    payment_id: str
    gateway_key: str
    operation_id: str
    outcome: Outcome
    refunded_minor: int
    created_at: float


@runtime_checkable
class Closes(Protocol):
    """A gateway with connections to close: those of the running event loop. Its next call opens them again."""

    async def aclose(self) -> None: ...


@runtime_checkable
class ListsPayments(Protocol):
    """A gateway that can show its books."""

    def list_payments(self, *, since: float, until: float) -> AsyncIterator[ListedPayment]:
        """Every payment made in [since, until), in any order.

        Raises:
            GatewayUnreadable: the books could not be read to their end; what was yielded may be incomplete.
        """
        ...


@runtime_checkable
class Gateway(Protocol):
    """A payment gateway. Methods never raise for what a gateway or a network may do: they return an outcome.

    Attributes:
        name: adapter, account and mode, for instance `http:shop-eu:live`. A send is resolved by the same name only.
        keyed: a repeated call with the same key takes effect once.
        key_lifetime_seconds: how long it remembers a key. Past it, a key is never sent again.
        settle_seconds: after this time an unanswered send can no longer appear in `find`.
    """

    name: str
    keyed: bool
    key_lifetime_seconds: float
    settle_seconds: float

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome: ...

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        """What became of *key*. An answer is about the key: it settles every send under it up to now.

        "No such payment" is `Unknown("not_found")`: a late request may still land.
        """
        ...

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        """Make sure that nothing under *key* can complete any more: `NotCharged`, or what had happened already."""
        ...

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome: ...

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Give money back (or release a reservation): `Refunded`, `NotCharged` (refused, nothing moved) or `Unknown`."""
        ...
