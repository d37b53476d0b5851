"""Whatever a record says: no duty breaks the rules of money, and every walk comes to an end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resolve_orders import CHARGED, NEEDS, NOT_CHARGED, NOW, SENT, STEP, UNKNOWN, C, F, back, fact, looked, order, send, wish

from cxguard.core.money import MoneyState, SendKind
from cxguard.core.operation import Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import Charged, Declined, Refunded
from cxguard.core.resolve import SHOP, Cancel, Find, Finish, Place, Refund, Resend, Wait, Ways, next_duty

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
    rerun=st.booleans(),
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
        assert not money.refund_pending and len(money.charged_keys) + len(money.unknown_keys) <= 1
        assert (ways.rerun and operation.kept) if money.unknown_keys else ways.later
        assert operation.state not in (F, C)
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
