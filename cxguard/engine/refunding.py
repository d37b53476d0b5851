"""Give back what should not stand: once, under a key of its own, its line written before the gateway is called."""

from __future__ import annotations

from dataclasses import replace

from cxguard.core.money import NO_ANSWER, Send, SendKind
from cxguard.core.operation import remember
from cxguard.core.outcomes import Charged, Outcome, Refunded
from cxguard.core.resolve import LOOK_EVENT, Refund
from cxguard.core.standing import standing_outcome
from cxguard.engine.breakers import Rejected
from cxguard.engine.charging import Work, answered, write_send
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.looking import bounded
from cxguard.gateways.base import Gateway


async def refund(engine: Engine, work: Work, duty: Refund) -> None:
    """Refund the charge that *duty* names, in full."""
    charged = next(send for send in work.operation.sends if send.key == duty.key)
    gateway = engine.gateway(charged.gateway)
    if gateway is None:
        return
    step = f"refund:{charged.key}"  # one refund for one charge: two charges of a step must not share its key
    line = Send(
        number=0,
        gateway=gateway.name,
        key=OperationHandle(engine, work).gateway_key(step),
        step=step,
        generation=work.operation.generation,
        kind=SendKind.REFUND,
        amount_minor=duty.amount_minor,
        currency=duty.currency,
        sent_at=engine.clock.now(),
        keyed=gateway.keyed,
        of=duty.key,
    )
    await send_refund(engine, work, line, gateway=gateway, why=duty.why)


async def send_refund(engine: Engine, work: Work, line: Send, *, gateway: Gateway, why: str = "") -> None:
    """One try of a refund, the first or the very same again. A refusal is remembered, so that tries come to an end."""
    charged = standing_outcome(work.operation, line.of or "")
    ticket = engine.breakers.admit(gateway.name, "refund", queued=True, operation_id=work.operation.id)
    if isinstance(ticket, Rejected) or not isinstance(charged, Charged):
        work.operation = remember(work.operation, engine.operations.entry(LOOK_EVENT, why="refund_not_sent"))
        return
    started = engine.clock.monotonic()
    send = replace(line, number=1 + max(known.number for known in work.operation.sends), outcome=NO_ANSWER)
    try:
        await write_send(engine, work, send)
        work.lease.check()
        outcome = await _call(engine, gateway, charged, send)
        ticket.settle(outcome, engine.clock.monotonic() - started)
    except BaseException:
        ticket.abandon()
        raise
    await answered(engine, work, send, outcome, seconds=engine.clock.monotonic() - started)
    if isinstance(outcome, Refunded):
        detail = {"gateway": gateway.name, "amount_minor": outcome.amount_minor, "currency": outcome.currency}
        engine.operations.emit("payment.refunded", work.operation, why=why, by="cxguard", **detail)
    else:
        work.operation = remember(work.operation, engine.operations.entry(LOOK_EVENT, why="refund_not_done"))


async def _call(engine: Engine, gateway: Gateway, charged: Charged, send: Send) -> Outcome:
    seconds = engine.timeouts.attempt_seconds
    amount_minor, currency = send.amount_minor or 0, send.currency or ""
    return await bounded(
        lambda: gateway.refund(charged.payment_id, key=send.key, amount_minor=amount_minor, currency=currency, timeout_seconds=seconds),
        seconds,
    )
