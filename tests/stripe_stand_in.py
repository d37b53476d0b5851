"""The few calls of Stripe's official SDK that README and examples make, with its manners: keys, statuses, `CardError`."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class CardError(Exception):
    """The issuer said no; the payment stays, with the error on it."""


class Newest(list[Any]):
    """What `list` gives: newest first."""

    def auto_paging_iter(self) -> Iterator[Any]:
        return iter(self)


class StripeStandIn(SimpleNamespace):
    """In the place of the module `stripe`.

    Attributes:
        intents: the payments, by key: a repeated key makes none.
        status: of the next payments; `requires_payment_method` is a decline.
        then: raised once the next payment is made, as a broken connection would be.
    """

    CardError = CardError

    def __init__(self) -> None:
        super().__init__(PaymentIntent=SimpleNamespace(create=self._create, list=self._list))
        self.intents: dict[str, SimpleNamespace] = {}
        self.status = "succeeded"
        self.then: list[Exception] = []

    def _create(self, *, amount: int, currency: str, idempotency_key: str, metadata: dict[str, str], **rest: Any) -> SimpleNamespace:
        made = SimpleNamespace(id=f"pi_{len(self.intents) + 1}", status=self.status, amount=amount, currency=currency, metadata=metadata)
        made.last_payment_error = SimpleNamespace(code="card_declined") if self.status == "requires_payment_method" else None
        intent = self.intents.setdefault(idempotency_key, made)
        if self.then:
            raise self.then.pop()
        if intent.last_payment_error is not None:
            raise CardError("card_declined")
        return intent

    def _list(self, *, limit: int) -> Newest:
        return Newest(reversed(self.intents.values()))
