"""What to do next with an operation in hand: every row of the rules, and walks that must come to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxguard.core.decide import RELEASED
from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, Step, WaitingFor, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.resolve import (
    LOOK_EVENT,
    SHOP,
    Cancel,
    Duty,
    Find,
    Finish,
    Hold,
    Place,
    Refund,
    Resend,
    Wait,
    Ways,
    next_duty,
)

NOW = 1_800_000_000.0
SENT = NOW - 60.0
ALL = Ways(find=True, resend=True, later=True, key_lifetime_seconds=86_400.0, settle_seconds=0.0, looks_max=3)
NO_LATER = replace(ALL, later=False)
NO_FIND = replace(ALL, find=False)
NO_RESEND = replace(ALL, resend=False)
NO_WAY = replace(ALL, find=False, resend=False)

CHARGED = Charged(4999, "EUR", "pay_1")
UNKNOWN = Unknown("no answer in time")
NOT_CHARGED = NotCharged("not sent", retryable=True)
NEEDS = NeedsShopper("3ds")
AGENT, SHOPPER = WaitingFor.AGENT, WaitingFor.SHOPPER


def send(outcome: Outcome, number: int = 1, *, key: str = "key-1", **changes: Any) -> Send:
    line = Send(number, "http:shop:test", key, "charge", 1, SendKind.CHARGE, 4999, "EUR", SENT, outcome=outcome, parcel="sealed")
    return replace(line, **changes)


def back(outcome: Outcome, number: int = 2, **changes: Any) -> Send:
    return send(outcome, number, key="back-1", **{"kind": SendKind.REFUND, "of": "key-1", "parcel": None, **changes})


def fact(outcome: Outcome, *, key: str = "key-1", through: int | None = None) -> Note:
    return Note(f"{key}:{outcome}", NoteKind.OUTCOME, NOW - 5, gateway_key=key, outcome=outcome, through=through)


def wish(*, at: float = NOW - 5) -> Note:
    return Note(f"cancel-{at}", NoteKind.CANCEL, at, generation=1)


def looked(count: int) -> tuple[Entry, ...]:
    return tuple(Entry(at=NOW, event=LOOK_EVENT) for _ in range(count))


def order(state: State, *sends: Send, **changes: Any) -> Operation:
    record = Operation(
        id="a" * 64,
        namespace="shop",
        rule="pay",
        owner="owner",
        reference="ABC-DEF",
        fingerprint="f",
        state=state,
        created_at=NOW - 100,
        updated_at=NOW - 50,
        kept=True,
        give_up_at=NOW + 3600,
        sends=sends,
    )
    return replace(record, **changes)


def duty(operation: Operation, ways: Ways = ALL, *done: str, now: float = NOW) -> Duty:
    return next_duty(operation, ways, looked=frozenset(done), now=now)


R, Q, H, F, C = State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
OPEN_STATES = (R, Q, H)
OVER = {"give_up_at": NOW - 1}
REFUND_CANCELLED = Refund("key-1", 4999, "EUR", "pay_1", "cancelled")


# Unknown: always first, never under another key, never cancelled.

UNKNOWN_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("asked first", order(Q, send(UNKNOWN)), ALL, (), Find("key-1")),
    ("a dead process's charge is asked about first", order(R, send(UNKNOWN)), ALL, (), Find("key-1")),
    ("held ones, too, when a fact came", order(H, send(UNKNOWN), why="charge_unknown"), ALL, (), Find("key-1")),
    ("cancel asked: and make sure it cannot complete", order(Q, send(UNKNOWN), notes=(wish(),)), ALL, (), Find("key-1", cancel=True)),
    ("its time is over: likewise", order(Q, send(UNKNOWN), **OVER), ALL, (), Find("key-1", cancel=True)),
    ("ended: likewise", order(F, send(UNKNOWN)), ALL, (), Find("key-1", cancel=True)),
    ("cancelled: likewise", order(C, send(UNKNOWN)), ALL, (), Find("key-1", cancel=True)),
    (
        "another charge stands: likewise",
        order(Q, send(CHARGED), send(UNKNOWN, 2, key="key-2")),
        ALL,
        (),
        Find("key-2", cancel=True),
    ),
    ("each key is asked about", order(Q, send(UNKNOWN), send(UNKNOWN, 2, key="key-2")), ALL, ("key-1",), Find("key-2")),
    ("then the same again", order(Q, send(UNKNOWN)), ALL, ("key-1",), Resend(send(UNKNOWN))),
    ("the newest of its sends", order(Q, send(UNKNOWN), send(UNKNOWN, 2)), ALL, ("key-1",), Resend(send(UNKNOWN, 2))),
    ("without a look-up at once", order(Q, send(UNKNOWN)), NO_FIND, (), Resend(send(UNKNOWN))),
    ("once a run", order(Q, send(UNKNOWN)), ALL, ("key-1", "resend:key-1"), Wait(NOW, "charge_unknown")),
    ("not when cancel was asked", order(Q, send(UNKNOWN), notes=(wish(),)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when its time is over", order(Q, send(UNKNOWN), **OVER), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when it has ended", order(F, send(UNKNOWN)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when it was cancelled", order(C, send(UNKNOWN)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not where keys are not honoured", order(Q, send(UNKNOWN, keyed=False)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not what was not kept", order(Q, send(UNKNOWN, parcel=None)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not by a gateway that cannot", order(Q, send(UNKNOWN)), NO_RESEND, ("key-1",), Wait(NOW, "charge_unknown")),
    (
        "not beside another unknown",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2, key="key-2")),
        ALL,
        ("key-1", "key-2"),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "not beside a charge",
        order(Q, send(UNKNOWN), send(CHARGED, 2, key="key-2")),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "not when the gateway has forgotten the key since its first send",
        order(Q, send(UNKNOWN, sent_at=NOW - 86_400.0), send(UNKNOWN, 2)),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "not for a payment that only a webhook told of",
        order(Q, notes=(fact(Unknown("processing")),)),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    ("no way at all: a person", order(Q, send(UNKNOWN)), NO_WAY, (), Hold("charge_unknown", AGENT)),
    (
        "no look-up, and the same again is not right any more: a person",
        order(Q, send(UNKNOWN), notes=(wish(),)),
        NO_FIND,
        (),
        Hold("charge_unknown", AGENT),
    ),
    (
        "asked often enough: a person",
        order(Q, send(UNKNOWN), history=looked(2)),
        NO_RESEND,
        ("key-1",),
        Hold("unknown_unresolved", AGENT),
    ),
    (
        "sent often enough: a person",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2), send(UNKNOWN, 3)),
        NO_FIND,
        ("resend:key-1",),
        Hold("unknown_unresolved", AGENT),
    ),
    (
        "but not before a late send must have shown up",
        order(Q, send(UNKNOWN), history=looked(9)),
        replace(NO_RESEND, settle_seconds=90.0),
        ("key-1",),
        Wait(SENT + 90.0, "charge_unknown"),
    ),
    ("the shopper's step", order(R, send(NEEDS)), ALL, ("key-1",), Hold("needs_shopper", SHOPPER)),
    (
        "the shopper's step, told by a look-up",
        order(Q, send(UNKNOWN), notes=(fact(NEEDS, through=1),)),
        ALL,
        ("key-1",),
        Hold("needs_shopper", SHOPPER),
    ),
    ("the shopper's step is looked at, too", order(H, send(NEEDS), why="needs_shopper"), ALL, (), Find("key-1")),
    (
        "the shopper did not come in time: close it",
        order(H, send(NEEDS), why="needs_shopper", **OVER),
        ALL,
        (),
        Find("key-1", cancel=True),
    ),
    (
        "and never send it again",
        order(H, send(NEEDS), why="needs_shopper", **OVER),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    ("shop's own charge: ask its hook", order(Q, send(UNKNOWN, gateway=SHOP, keyed=False)), NO_RESEND, (), Find("key-1")),
    (
        "shop's own charge without a hook: a person",
        order(Q, send(UNKNOWN, gateway=SHOP, keyed=False)),
        NO_WAY,
        (),
        Hold("charge_unknown", AGENT),
    ),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), UNKNOWN_ROWS, ids=[row[0] for row in UNKNOWN_ROWS])
def test_unknown(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """An unknown charge is asked about, sent again where that is right, and at last given to a person."""
    assert duty(operation, ways, *done) == expected


# Charged.

TWO = (send(CHARGED), send(Charged(4999, "EUR", "pay_2"), 2, key="key-2"))
SECOND = Refund("key-2", 4999, "EUR", "pay_2", "second_charge")
ENDED = {"answer": b"sealed", "answered_at": NOW - 50}

CHARGED_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("complete the order", order(Q, send(CHARGED)), ALL, (), Place()),
    ("of a dead process, too", order(R, send(CHARGED)), ALL, (), Place()),
    ("even when its time is over: it is paid", order(Q, send(CHARGED), **OVER), ALL, (), Place()),
    ("a person completes what nobody else can", order(Q, send(CHARGED)), NO_LATER, (), Hold("order_missing", AGENT)),
    ("answered, and the process died", order(R, send(CHARGED), answer=b"sealed"), ALL, (), Hold("answered_not_confirmed", AGENT)),
    ("proof leads out of doubt", order(H, send(UNKNOWN), why="unknown_unresolved", notes=(fact(CHARGED),)), ALL, (), Place()),
    ("and from the shopper's step", order(H, send(NEEDS), why="needs_shopper", notes=(fact(CHARGED),)), ALL, (), Place()),
    (
        "out of doubt to a person",
        order(H, send(UNKNOWN), why="charge_unknown", notes=(fact(CHARGED),)),
        NO_LATER,
        (),
        Hold("order_missing", AGENT),
    ),
    (
        "a webhook runs nothing that a person looks at",
        order(H, send(CHARGED), why="answered_not_confirmed", notes=(fact(CHARGED),)),
        ALL,
        (),
        Hold("answered_not_confirmed", AGENT),
    ),
    ("a stub stays on the desk", order(H, why="unknown_operation", notes=(fact(CHARGED),)), ALL, (), Hold("unknown_operation", AGENT)),
    ("finished and paid", order(F, send(CHARGED), **ENDED), ALL, (), Finish("paid")),
    ("a webhook that says so again", order(F, send(CHARGED), notes=(fact(CHARGED),), **ENDED), ALL, (), Finish("paid")),
    (
        "a charge after the shopper was told of none",
        order(F, send(Declined()), notes=(fact(CHARGED),), **ENDED),
        ALL,
        (),
        Hold("charged_after_end", AGENT),
    ),
    (
        "which a person has seen",
        order(F, send(Declined()), notes=(fact(CHARGED),), notes_seen=1, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("cancel asked: give it back", order(Q, send(CHARGED), notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    ("cancel asked in flight", order(R, send(CHARGED), notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    ("cancel asked while held", order(H, send(CHARGED), why="order_missing", notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    ("surfaced on a cancelled order", order(C, send(NOT_CHARGED), notes=(fact(CHARGED),)), ALL, (), REFUND_CANCELLED),
    ("cancel asked before it finished", order(F, send(CHARGED), notes=(wish(at=NOW - 60),), **ENDED), ALL, (), REFUND_CANCELLED),
    ("cancel asked after it finished", order(F, send(CHARGED), notes=(wish(),), **ENDED), ALL, (), Hold("cancel_asked", AGENT)),
    (
        "which a person has seen, too",
        order(F, send(CHARGED), notes=(wish(),), notes_seen=1, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("a second charge goes back", order(Q, *TWO), ALL, (), SECOND),
    ("a second charge on a finished order", order(F, *TWO, **ENDED), ALL, (), SECOND),
    ("a second charge on a held order", order(H, *TWO, why="order_missing"), ALL, (), SECOND),
    (
        "a second charge that only a webhook told of",
        order(F, send(CHARGED), notes=(fact(CHARGED, key="elsewhere"),), **ENDED),
        ALL,
        (),
        Hold("refund_due", AGENT),
    ),
    (
        "the second went back by a person's hand: as before",
        order(H, *TWO, why="refund_due", notes=(fact(Refunded(4999, "EUR"), key="key-2"),), **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    (
        "only the rest goes back",
        order(C, send(CHARGED), notes=(fact(Refunded(999, "EUR")),)),
        ALL,
        (),
        Refund("key-1", 4000, "EUR", "pay_1", "cancelled"),
    ),
    ("the shop's own charge is given back by the shop", order(C, send(CHARGED, gateway=SHOP)), ALL, (), Hold("refund_due", AGENT)),
    ("without the gateway's own name of it: a person", order(C, send(Charged(4999, "EUR"))), ALL, (), Hold("refund_due", AGENT)),
    (
        "the name may come from a webhook",
        order(C, send(Charged(4999, "EUR")), notes=(fact(CHARGED),)),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    ("of an unknown amount: a person", order(C, send(Charged(0, "", "pay_1"))), ALL, (), Hold("refund_due", AGENT)),
    ("refused just now: again later", order(C, send(CHARGED)), ALL, ("refund:key-1",), Wait(NOW, "refund_due")),
    (
        "refused often enough: a person",
        order(C, send(CHARGED), history=looked(3)),
        ALL,
        ("refund:key-1",),
        Hold("refund_due", AGENT),
    ),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), CHARGED_ROWS, ids=[row[0] for row in CHARGED_ROWS])
def test_charged(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """A paid order is completed once; what should not stand goes back; a person's case stays a person's."""
    assert duty(operation, ways, *done) == expected


# Refunds under way.

OLD = {"sent_at": NOW - 86_400.0}
REFUND_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("the very same again", order(C, send(CHARGED), back(UNKNOWN)), ALL, (), Resend(back(UNKNOWN))),
    ("then a look", order(C, send(CHARGED), back(UNKNOWN)), ALL, ("resend:back-1",), Find("back-1")),
    ("then later", order(C, send(CHARGED), back(UNKNOWN)), ALL, ("resend:back-1", "back-1"), Wait(NOW, "refund_unknown")),
    ("before the charge is looked at", order(Q, send(UNKNOWN), back(UNKNOWN)), ALL, (), Resend(back(UNKNOWN))),
    ("never blindly: forgotten key", order(C, send(CHARGED), back(UNKNOWN, **OLD)), ALL, (), Find("back-1")),
    ("never blindly: no keys", order(C, send(CHARGED), back(UNKNOWN, keyed=False)), ALL, (), Find("back-1")),
    ("a void is looked up", order(C, send(CHARGED), back(UNKNOWN, kind=SendKind.VOID)), ALL, (), Find("back-1")),
    ("no way: a person", order(C, send(CHARGED), back(UNKNOWN, keyed=False)), NO_FIND, (), Hold("refund_unknown", AGENT)),
    (
        "often enough: a person",
        order(C, send(CHARGED), back(UNKNOWN), history=looked(3)),
        ALL,
        ("resend:back-1", "back-1"),
        Hold("refund_unknown", AGENT),
    ),
    (
        "a webhook says that it is under way",
        order(C, send(CHARGED), back(NOT_CHARGED), notes=(fact(Unknown("processing"), key="back-1"),)),
        ALL,
        (),
        Resend(back(NOT_CHARGED)),
    ),
    ("refused: another try", order(C, send(CHARGED), back(NOT_CHARGED)), ALL, (), REFUND_CANCELLED),
    ("done: the order ends", order(Q, send(CHARGED), back(Refunded(4999, "EUR"))), ALL, (), Cancel("refunded")),
    ("done on a cancelled one", order(C, send(CHARGED), back(Refunded(4999, "EUR"))), ALL, (), Cancel("refunded")),
    ("done on a finished one", order(F, send(CHARGED), back(Refunded(4999, "EUR")), **ENDED), ALL, (), Finish("refunded")),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), REFUND_ROWS, ids=[row[0] for row in REFUND_ROWS])
def test_refunds(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """A refund without an answer is found out before anything else, and never sent blindly."""
    assert duty(operation, ways, *done) == expected


# Declined, and surely not charged.

STEP = Step("invoice", 1, "hash", NOW - 50, NOW - 49)
NOT_KEPT = {"kept": False}
NONE_ROWS: list[tuple[str, Operation, Ways, Duty]] = [
    *((f"declined while {state}", order(state, send(Declined())), ALL, Finish("declined")) for state in State),
    ("place it", order(Q), ALL, Place()),
    ("place it, although it was tried", order(Q, send(NOT_CHARGED)), ALL, Place()),
    ("place what a dead process had begun", order(R), ALL, Place()),
    ("cancel asked", order(Q, notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("cancel asked in flight", order(R, send(NOT_CHARGED), notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("cancel asked while held", order(H, why="attempts_over", notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("its time is over", order(Q, **OVER), ALL, Cancel("gave_up")),
    ("its time is over while held", order(H, why="attempts_over", **OVER), ALL, Cancel("gave_up")),
    ("its time is over this very moment", order(Q, give_up_at=NOW), ALL, Cancel("gave_up")),
    ("nobody can place it", order(Q), NO_LATER, Cancel("not_kept")),
    ("not kept", order(Q, **NOT_KEPT), ALL, Cancel("not_kept")),
    ("of a dead process, not kept: its key is free", order(R, **NOT_KEPT), ALL, Cancel(RELEASED)),
    ("not kept, but steps are: whoever repeats it goes on", order(Q, steps=(STEP,), **NOT_KEPT), ALL, Wait(NOW + 3600, "steps_kept")),
    (
        "steps of a script without an end",
        order(R, steps=(STEP,), **{**NOT_KEPT, "give_up_at": None}),
        ALL,
        Wait(None, "steps_kept"),
    ),
    ("answered, and the process died", order(R, answer=b"sealed", **NOT_KEPT), ALL, Hold("answered_not_confirmed", AGENT)),
    ("a person's case", order(H, why="replay_not_signed_in", waiting_for=AGENT), ALL, Hold("replay_not_signed_in", AGENT)),
    (
        "proof leads out of doubt",
        order(H, send(UNKNOWN), why="unknown_unresolved", notes=(fact(NOT_CHARGED),)),
        ALL,
        Place(),
    ),
    (
        "out of doubt, not kept",
        order(H, send(UNKNOWN), why="charge_unknown", notes=(fact(NOT_CHARGED),), **NOT_KEPT),
        ALL,
        Cancel("not_kept"),
    ),
    (
        "the payment ended at the bank",
        order(H, send(NEEDS), why="needs_shopper", notes=(fact(NOT_CHARGED),)),
        ALL,
        Cancel("needs_shopper"),
    ),
    ("finished", order(F, **ENDED), ALL, Finish("ended")),
    ("cancelled", order(C), ALL, Finish("ended")),
    ("a wish to cancel what has ended", order(C, notes=(wish(),)), ALL, Finish("ended")),
    ("a life after one that was refunded", order(Q, send(Refunded(4999, "EUR")), generation=2), ALL, Place()),
    ("a life after one that was declined", order(Q, send(Declined()), generation=2), ALL, Place()),
]


@pytest.mark.parametrize(("name", "operation", "ways", "expected"), NONE_ROWS, ids=[row[0] for row in NONE_ROWS])
def test_not_charged(name: str, operation: Operation, ways: Ways, expected: Duty) -> None:
    """What surely charged nothing is placed, ended, or let go; what is over stays over."""
    assert duty(operation, ways) == expected


# Whatever the record says.

outcomes = st.sampled_from(
    [CHARGED, Charged(4999, "EUR"), Declined(), NOT_CHARGED, UNKNOWN, NEEDS, Refunded(4999, "EUR"), Refunded(99, "EUR")]
)
notes = st.one_of(
    st.builds(fact, outcomes, key=st.sampled_from(["key-1", "key-2", "back-1", "elsewhere"]), through=st.sampled_from([None, 0, 1, 2])),
    st.builds(wish, at=st.sampled_from([NOW - 70, NOW - 5])),
)
WHYS = ["", "charge_unknown", "unknown_unresolved", "needs_shopper", "order_missing", "refund_due", "refund_unknown", "step_unfinished"]


@st.composite
def orders(draw: st.DrawFn) -> Operation:
    lines = []
    for number in range(1, 1 + draw(st.integers(0, 4))):
        key = draw(st.sampled_from(["key-1", "key-2", "back-1"]))
        line = back(draw(outcomes), number) if key == "back-1" else send(draw(outcomes), number, key=key)
        sent_at, keyed = draw(st.sampled_from([SENT, NOW - 90_000])), draw(st.booleans())
        lines.append(replace(line, sent_at=sent_at, keyed=keyed, gateway=draw(st.sampled_from([line.gateway, SHOP]))))
    told = tuple(draw(st.lists(notes, max_size=4)))
    return order(
        draw(st.sampled_from(list(State))),
        *lines,
        notes=told,
        notes_seen=draw(st.integers(0, len(told))),
        why=draw(st.sampled_from(WHYS)),
        waiting_for=draw(st.sampled_from([None, *WaitingFor])),
        kept=draw(st.booleans()),
        give_up_at=draw(st.sampled_from([None, NOW - 1, NOW + 3600])),
        generation=draw(st.integers(1, 2)),
        answer=draw(st.sampled_from([None, b"sealed"])),
        answered_at=draw(st.sampled_from([None, NOW - 50])),
        steps=draw(st.sampled_from([(), (STEP,)])),
        history=looked(draw(st.integers(0, 4))),
    )


ways_of = st.builds(
    Ways,
    find=st.booleans(),
    resend=st.booleans(),
    later=st.booleans(),
    settle_seconds=st.sampled_from([0.0, 90.0]),
    looks_max=st.just(3),
)
done_of = st.frozensets(st.sampled_from(["key-1", "key-2", "back-1", "elsewhere", "resend:key-1", "resend:key-2", "resend:back-1"]))


@settings(max_examples=600, deadline=None)
@given(orders(), ways_of, done_of)
def test_no_record_leads_to_a_wrong_duty(operation: Operation, ways: Ways, done: frozenset[str]) -> None:
    """The rules of money hold for any record: nothing is raised, charged twice, or ended while it is unknown."""
    money = money_of(operation)
    found = next_duty(operation, ways, looked=done, now=NOW)
    charging = isinstance(found, Place) or (isinstance(found, Resend) and found.send.kind is SendKind.CHARGE)
    over = operation.give_up_at is not None and operation.give_up_at <= NOW
    if charging and money.state is not MoneyState.CHARGED:
        assert not operation.cancel_asked and not over and operation.state not in (F, C)
    if isinstance(found, Place):
        assert not money.unknown_keys and not money.refund_pending and len(money.charged_keys) <= 1
        assert ways.later and operation.state not in (F, C)
    if isinstance(found, Resend):
        assert ways.resend and found.send.keyed and NOW - found.send.sent_at < ways.key_lifetime_seconds
        assert f"resend:{found.send.key}" not in done
        if found.send.kind is SendKind.CHARGE:
            assert money.unknown_keys == (found.send.key,) and not money.charged_keys
    if isinstance(found, Find):
        assert ways.find and found.key not in done
    if isinstance(found, Refund):
        assert found.key in money.charged_keys and 0 < found.amount_minor <= 4999 and found.payment_id
        assert not money.unknown_keys and not money.refund_pending
    if isinstance(found, Cancel):
        assert money.state in (MoneyState.NONE, MoneyState.REFUNDED) and not money.refund_pending
    if isinstance(found, Finish):
        assert money.state is not MoneyState.UNKNOWN and not money.refund_pending
    if isinstance(found, Wait):
        assert found.until is None or found.until >= NOW


@settings(max_examples=300, deadline=None)
@given(orders(), ways_of)
def test_every_record_comes_to_an_end(operation: Operation, ways: Ways) -> None:
    """With a gateway that never says anything new, each record is soon ended, held or placed: none is asked about for ever."""
    if operation.steps:
        return  # waits for whoever repeats the call, until its own end
    for _ in range(10):
        done: set[str] = set()
        for _ in range(12):
            found = next_duty(operation, ways, looked=frozenset(done), now=NOW + 100)
            if isinstance(found, Find | Resend | Refund):
                name = found.send.key if isinstance(found, Resend) else found.key
                done.add({Find: "", Resend: "resend:", Refund: "refund:"}[type(found)] + name)
                operation = _in_vain(operation, found)
                continue
            break
        else:
            pytest.fail("duties that undo each other")
        if not isinstance(found, Wait):
            return
    pytest.fail("waits for ever")


def _in_vain(operation: Operation, found: Find | Resend | Refund) -> Operation:
    if isinstance(found, Resend):
        again = replace(found.send, number=1 + max(line.number for line in operation.sends), outcome=UNKNOWN, sent_at=NOW)
        return replace(operation, sends=(*operation.sends, again))
    return replace(operation, history=operation.history + looked(1))
