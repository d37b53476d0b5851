"""Judges what is on record of an order against what really happened: its timeline, its money, and the errors of its shopper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cxguard.core.money import MoneyState
from cxguard.core.operation import HISTORY_MAX, Entry, Operation, State, money_of
from cxguard.core.session_json import session_from_bytes
from cxguard.core.spooling import WHY_SAME_AS
from cxguard.testing.simulation.gateway import event_of
from cxguard.testing.simulation.world import World

END_OF = {State.FINISHED: "operation.finished", State.CANCELLED: "order.cancelled", State.HELD: "order.held", State.QUEUED: "order.queued"}
NO_ERRORS = frozenset({"needs_shopper", "shopper_asked", "cancel_asked", "cancelled", "refund_due", "refunded"})  # steps, and wishes
ENDS = frozenset({*END_OF.values(), "operation.released", "operation.opened", "operation.noted"})


def untrue_timelines(world: World, operations: list[Operation]) -> Iterator[str]:
    """Lines that are missing, or tell of what never was."""
    for each in operations:
        if each.why == WHY_SAME_AS:
            continue  # the name of an order that another one speaks for
        if each.id in world.taken_back or each.charged_by != "guard" or not each.rule or len(each.history) >= HISTORY_MAX:
            continue  # an older copy has older lines, facts alone have none, and of a long timeline the middle is gone
        sent = sum(entry.event == "payment.sent" or _tells_of_lost_line(entry) for entry in each.history)
        lines = sum(send.gateway != "shop" for send in each.sends)
        if sent != lines:
            yield f"the timeline of {each.reference} tells of {sent} calls, and there were {lines}"
        last = next((entry.event for entry in reversed(each.history) if entry.event in ENDS), None)
        allowed = {END_OF.get(each.state), "operation.released"} if each.state is State.CANCELLED else {END_OF.get(each.state)}
        if last not in allowed:
            yield f"the timeline of {each.reference} ends with {last}, and it is {each.state}"


def _tells_of_lost_line(entry: Entry) -> bool:
    return entry.event == "payment.looked_for_lost" and entry.detail["outcome"] != "nothing stands"


def lost_facts(world: World, operations: list[Operation]) -> Iterator[str]:
    """A webhook that was taken in is never sent again: what it said of money that stands is on some record, wherever it lay first."""
    if world.taken_back:
        return  # the store may have lost it with its tail
    known = {note.event_id for each in operations for note in each.notes}
    for payment in world.fake.standing:
        if payment.id in world.told_of and event_of(payment) not in known:
            yield f"a webhook told of {payment.id}, and no record knows"


def wrong_sums(world: World, operations: list[Operation]) -> Iterator[str]:
    """What the record says that it has, against what the gateway has, to the cent."""
    for each in operations:
        money = money_of(each)
        if money.state is not MoneyState.CHARGED or each.state is State.HELD or each.id in world.taken_back:
            continue
        keys = {send.key for send in each.sends} | {note.gateway_key for note in each.notes}
        has = sum(payment.charge.amount_minor - payment.refunded_minor for payment in world.fake.standing if payment.key in keys)
        told = max(each.authorised_minor, each.captured_minor) - each.refunded_minor
        if told != has:
            yield f"{each.reference} says that {told} are paid, and the gateway has {has}"


async def unseen_errors(world: World) -> list[str]:
    """Each error that a process showed which lived on is in a visit of the store."""
    if not world.plan.visits or world.happened["store failed over"]:  # visits are lost with the tail, too
        return []
    ids = tuple(world.memory.copied().sessions)
    rows = (await world.memory.sessions(ids)).values()
    visits = [session_from_bytes(row.body) for row in rows]
    seen = Counter(each.status for visit in visits if visit is not None for each in visit.exposures)
    lived = [said for process, said in world.errors if not process.party.dead and said.body.get("situation") not in NO_ERRORS]
    shown = Counter(said.status for said in lived)
    for _ in range(sum(seen.values())):
        world.happens("error on record")
    return [f"{shown[each]} errors {each} were shown, and {seen[each]} are on record" for each in shown if shown[each] > seen[each]]
