"""Before the first charge of an order that looks new, after the store has lost its tail: has a lost record paid already?"""

from __future__ import annotations

from collections.abc import Sequence

from cxguard.core import names
from cxguard.core.lost import Lost, judge_lost, life_after
from cxguard.core.money import NO_ANSWER, Send, SendKind
from cxguard.core.operation import changed, remember
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.engine.charging import Work
from cxguard.engine.cold import seal_charge
from cxguard.engine.engine import Engine
from cxguard.engine.looking import look
from cxguard.engine.routing import Route

LOST_EVENT = "payment.looked_for_lost"


async def look_for_lost(engine: Engine, work: Work, routes: Sequence[Route]) -> Outcome | None:
    """Ask every gateway about the keys of every life that a lost record may have had. None: nothing stands, charge.

    A charge that is found is written as the order's own. In doubt the record says that it is unknown, as if the send had
    been ours (it was), and is resolved like any other.

    Raises:
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    since = await engine.epochs.lost_since()
    if since is None or any(send.sent_at >= since for send in work.operation.sends):
        return None
    first = life = work.operation.generation
    for route in routes:
        said, verdict = await _said_about(engine, work, route, first=first, since=since)
        if verdict is not Lost.CLEAR:
            return await _take_over(engine, work, route, said[-1], generation=first + len(said) - 1)
        life = max(life, life_after(said, generation=first))
    entry = engine.operations.entry(LOST_EVENT, outcome="nothing stands", generation=life)
    async with work.turn:
        work.operation = remember(changed(work.operation, generation=life), entry)
    return None


async def _said_about(engine: Engine, work: Work, route: Route, *, first: int, since: float) -> tuple[list[Outcome], Lost]:
    sure = route.gateway.keyed or engine.clock.now() - since >= route.gateway.settle_seconds
    said: list[Outcome] = []
    while (verdict := judge_lost(said, sure=sure)) is Lost.LOOK:
        said.append(await look(engine, work, gateway=route.gateway, key=_key(work, route, generation=first + len(said))))
    return said, verdict


def _key(work: Work, route: Route, *, generation: int) -> str:
    return names.gateway_key(work.operation.id, step=route.step, generation=generation)


async def _take_over(engine: Engine, work: Work, route: Route, outcome: Outcome, *, generation: int) -> Outcome:
    """Write the line that was lost, with what is known of it."""
    gateway, charge = route.gateway, route.charge
    unknown = isinstance(outcome, Unknown)
    send = Send(
        number=1 + max((line.number for line in work.operation.sends), default=0),
        gateway=gateway.name,
        key=_key(work, route, generation=generation),
        step=route.step,
        generation=generation,
        kind=SendKind.CHARGE,
        amount_minor=charge.amount_minor,
        currency=charge.currency,
        sent_at=engine.clock.now(),
        keyed=gateway.keyed,
        parcel=seal_charge(engine.seal, work.operation, charge) if gateway.keyed else None,
        outcome=NO_ANSWER if unknown else outcome,
    )
    found = {"gateway": gateway.name, "outcome": "in doubt" if unknown else "taken over", "generation": generation}
    entry = engine.operations.entry(LOST_EVENT, **found)
    async with work.turn:
        record = remember(changed(work.operation, generation=generation, sends=(*work.operation.sends, send)), entry)
        work.operation = await engine.operations.write(record, work.lease)
    return send.outcome
