"""The very same call once more, under the very same key: the gateway answers for the key."""

from __future__ import annotations

from collections.abc import Sequence

from cxguard.core.money import Send, SendKind
from cxguard.core.outcomes import NotCharged
from cxguard.engine.charging import NOT_SENT, Work, send_charge
from cxguard.engine.cold import open_charge
from cxguard.engine.engine import Engine
from cxguard.engine.losing import look_again
from cxguard.engine.refunding import send_again
from cxguard.gateways.base import Gateway

ASK_AGAIN_SECONDS = 0.5  # for one that the ramp turned away: each time its look-up costs the gateway something, too


async def send_same(engine: Engine, work: Work, send: Send, *, gateways: Sequence[str]) -> float | None:
    """Send the same charge, capture or refund again. Returns when to come back, if it could not be sent now.

    Args:
        gateways: those of its rule or purpose, by name, in order.
    """
    gateway = engine.gateway(send.gateway)
    if gateway is None or send.amount_minor is None or send.currency is None:
        return None
    if send.kind is not SendKind.CHARGE:
        await send_again(engine, work, send, gateway=gateway)
        return None
    return await _charge_again(engine, work, send, gateway=gateway, gateways=gateways)


async def _charge_again(engine: Engine, work: Work, send: Send, *, gateway: Gateway, gateways: Sequence[str]) -> float | None:
    if send.parcel is None:
        return None
    wait_seconds = await look_again(engine, work, send, gateway=gateway, gateways=gateways)
    if wait_seconds is None:
        return None
    if wait_seconds > 0.0:
        return wait_seconds
    charge = open_charge(engine.seal, work.operation, send.parcel)
    said = await send_charge(engine, work, charge, gateway=gateway, key=send.key, step=send.step)
    if isinstance(said, NotCharged) and said.why in NOT_SENT:
        return ASK_AGAIN_SECONDS if work.turned_away else said.retry_after_seconds
    return None
