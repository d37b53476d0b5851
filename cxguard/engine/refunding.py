"""Give back what should not stand: once, under a key of its own, its line written before the gateway is called."""

from __future__ import annotations

from cxguard.core.money import Send, SendKind
from cxguard.core.operation import remember
from cxguard.core.outcomes import Charged, NotCharged, Refunded
from cxguard.core.resolve import LOOK_EVENT, SILENCE_EVENT, Refund
from cxguard.engine.charging import NOT_SENT, Work
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.moving import send_move
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
    await send_again(engine, work, line, gateway=gateway, why=duty.why)


async def send_again(engine: Engine, work: Work, line: Send, *, gateway: Gateway, why: str = "") -> None:
    """One try of a refund, void or capture by the queue. What did not work is remembered, so that tries come to an end."""
    outcome = await send_move(engine, work, line, gateway=gateway, why=why, queued=True)
    if not isinstance(outcome, Charged | Refunded):
        event = SILENCE_EVENT if isinstance(outcome, NotCharged) and outcome.why in NOT_SENT else LOOK_EVENT  # nobody was asked
        work.operation = remember(work.operation, engine.operations.entry(event, why=f"{line.kind}_not_done"))
