"""A small shop's guard with orders in every state, for the tests of the desk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cxguard.core import names
from cxguard.core.consent import Consent
from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, WaitingFor, money_of, refolded
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.engine.casefile import Actor
from cxguard.engine.cold import seal_charge, seal_member
from cxguard.engine.desk import Desk
from cxguard.engine.handle import OperationHandle
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule, Shop, cookie
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

RULE = "pay"
SHOP_RULE = "pay by the shop"
SECRET, KEY = bytes(range(32)), bytes(range(32, 64))
ANNA, BORIS = Actor("anna", "the shopper is on the phone"), Actor("boris", "my turn")


async def place(op: OperationHandle) -> dict[str, str]:
    """How a kept order of this shop is placed."""
    payment = await op.charge(Charge(op.amount_minor or 0, op.currency or "", "tok_1", order_id=op.reference))
    return {"paid": payment.payment_id}


@dataclass
class DeskWorld:
    """A started guard and its parts. `heard` has every event."""

    guard: Guard
    clock: ManualClock
    gateway: FakeGateway
    heard: list[Event] = field(default_factory=list)

    @property
    def desk(self) -> Desk:
        rules = {rule.name: rule for rule in self.guard.rules}
        return Desk(self.guard.engine, rules=rules, purposes=self.guard.purposes)

    def id_of(self, key: str, rule: str = RULE) -> str:
        return self.guard.engine.operation_id(purpose=rule, owner="o", key=key)

    def send(
        self, key: str, outcome: Outcome, *, number: int = 1, kind: SendKind = SendKind.CHARGE, of: str | None = None, **members: Any
    ) -> Send:
        """One line of an order's sends, under the order's own gateway key."""
        step = "charge" if kind is SendKind.CHARGE else "refund:charge:1"
        base: dict[str, Any] = {"gateway": self.gateway.name, "amount_minor": 4999, "currency": "EUR", "sent_at": self.clock.now() - 300}
        gateway_key = names.gateway_key(self.id_of(key), step=step, generation=1)
        return Send(number=number, key=gateway_key, step=step, generation=1, kind=kind, outcome=outcome, of=of, **(base | members))

    async def put(
        self, key: str, state: State = State.HELD, *sends: Send, contact: str = "", notes: Sequence[Note] = (), **members: Any
    ) -> Operation:
        """An order, as if it had come there by itself."""
        engine, rule = self.guard.engine, members.pop("rule", RULE)
        id, now = self.id_of(key, rule), self.clock.now()
        base: dict[str, Any] = {
            "namespace": self.guard.namespace,
            "owner": "o",
            "reference": names.reference_of(id),
            "fingerprint": "f",
            "created_at": now - 600,
            "updated_at": now - 300,
            "kept": True,
            "consent": Consent("2026-11", at=now, until=now + 86_400.0),
            "amount_minor": 4999,
            "currency": "EUR",
            "waiting_for": WaitingFor.AGENT if state is State.HELD else None,
            "sends": sends,
        }
        record = Operation(id=id, rule=rule, state=state, **(base | members))
        if contact:
            sealed = seal_member(engine.seal, record, "contact", contact.encode())
            hashed = names.contact_hash(engine.naming, namespace=self.guard.namespace, contact=contact)
            record = replace(record, contact=sealed, contact_hash=hashed)
        await self.guard.store.open(refolded(record), holder="test", attempt=key, lease_seconds=None)
        for note in notes:
            await self.guard.store.note(id, note, namespace=self.guard.namespace)
        return await self.get(id)

    async def unknown(self, key: str = "u", state: State = State.HELD, *, charged: bool = True, **members: Any) -> Operation:
        """An order whose charge was sent and never answered; *charged*: the gateway took the money all the same."""
        line = self.send(key, Unknown("no answer in time"))
        if charged:
            await self.gateway.charge(Charge(4999, "EUR", "tok_1"), key=line.key, timeout_seconds=1)
        now, gateway = self.clock.now(), {"gateway": self.gateway.name}
        history = (
            Entry(now - 301, "payment.sent", "host:1", {**gateway, "kind": "charge", "number": 1}),
            Entry(now - 296, "payment.answered", "host:1", {**gateway, "outcome": "unknown", "why": "no answer in time"}),
            Entry(now - 295, "order.held", "host:1", {"why": "charge_unknown"}),
        )
        return await self.put(key, state, line, **({"why": "charge_unknown", "history": history} | members))

    async def get(self, id: str) -> Operation:
        found = await self.guard.store.get(id)
        assert found is not None, "the record is there"
        return found

    async def money(self, id: str) -> str:
        return money_of(await self.get(id)).state.value

    def names_heard(self) -> list[str]:
        return [event.name for event in self.heard]

    def shopper_cancels(self, operation: Operation) -> Note:
        """The wish as the status page writes it."""
        wish = f"cancel:{operation.generation}"
        return Note(wish, NoteKind.CANCEL, self.clock.now(), source="status page", generation=operation.generation)

    def parcel(self, operation: Operation) -> str:
        return seal_charge(self.guard.engine.seal, operation, Charge(4999, "EUR", "tok_1"))


@asynccontextmanager
async def desk_world(
    *, store: Any = None, clock: Any = None, gateway: FakeGateway | None = None, **options: Any
) -> AsyncIterator[DeskWorld]:
    """A started guard with one rule that the guard charges, and one that the shop charges."""
    clock = clock or ManualClock()
    gateway = gateway or FakeGateway()
    money = {"amount_minor": cookie("amount"), "currency": "EUR"}
    rules = [
        Rule("POST /pay", name=RULE, owner=cookie("visitor"), later=place, terms="1", **money),
        Rule("POST /shop-pay", name=SHOP_RULE, owner=cookie("visitor"), charged_by="shop", **money),
    ]
    shop = Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")
    heard: list[Event] = []
    base: dict[str, Any] = {"rules": rules, "gateways": [gateway], "duties": False, "clock": clock, "listeners": [heard.append]}
    guard = Guard(store or MemoryStore(clock=clock), shop=shop, **(base | {"secret": SECRET, "keys": [KEY]} | options))
    async with guard:
        yield DeskWorld(guard, clock, gateway, heard)
