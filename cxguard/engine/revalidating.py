"""Look once more before a late charge: price and stock by the rule's hook, then what the shopper agreed to."""

from __future__ import annotations

from cxguard.core.consent import late_refusal
from cxguard.core.operation import WaitingFor, changed, remember
from cxguard.core.quotes import GoOnLower, judged
from cxguard.core.resolve import Cancel, Hold
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.hooks import call_hook
from cxguard.errors import HookFailed
from cxguard.logs import get_logger, where_raised
from cxguard.rules import Rule, replay

_log = get_logger("revalidating")

REVALIDATE_SECONDS_MAX = 10.0  # a look into the shop's own tables takes well under a second; the lease is renewed meanwhile


async def instead_of_charging(engine: Engine, rule: Rule, work: Work) -> Hold | Cancel | None:
    """What to do in the place of a late charge; None: charge it. A lower price is put on the record in hand."""
    now = engine.clock.now()
    refusal = late_refusal(work.operation.consent, amount_minor=None, currency=None, now=now)
    if refusal:  # whatever the price is now, it is not charged
        return Hold(refusal, WaitingFor.SHOPPER)
    try:
        said = await _asked(engine, rule, work)
    except HookFailed as error:
        _log.error("order.not_revalidated", reference=work.operation.reference, **where_raised(error.__cause__ or error))
        return Hold(str(error), WaitingFor.AGENT)
    follows = judged(work.operation, said, now=engine.clock.now())
    if isinstance(follows, Hold | Cancel):
        return follows
    if isinstance(follows, GoOnLower) and rule.later is replay and follows.amount_minor != work.operation.amount_minor:
        return Hold("lower_price_cannot_replay", WaitingFor.AGENT)  # the kept request names the old one
    if rule.revalidate is not None:
        _confirm(engine, rule, work, amount_minor=follows.amount_minor if isinstance(follows, GoOnLower) else work.operation.amount_minor)
    operation = work.operation
    refusal = late_refusal(operation.consent, amount_minor=operation.amount_minor, currency=operation.currency, now=engine.clock.now())
    return Hold(refusal, WaitingFor.SHOPPER) if refusal else None


async def _asked(engine: Engine, rule: Rule, work: Work) -> object:
    """What the hook says of the order. It can read everything of it, and charge nothing."""
    if rule.revalidate is None:
        return None
    op = OperationHandle(engine, work, finished=True)
    said: object = await call_hook(rule.revalidate, op, name="revalidate", seconds=REVALIDATE_SECONDS_MAX)
    return said if said is not None else "nothing"


def _confirm(engine: Engine, rule: Rule, work: Work, *, amount_minor: int | None) -> None:
    """The shop says that this is the price: it holds anew, and is what may be charged. Durable with the next save."""
    operation = work.operation
    if amount_minor != operation.amount_minor:
        detail = {"accepted_minor": operation.amount_minor, "amount_minor": amount_minor, "currency": operation.currency}
        operation = remember(operation, engine.operations.entry("order.price_lowered", **detail))
        engine.operations.emit("order.price_lowered", operation, **detail)
    work.operation = changed(operation, amount_minor=amount_minor, quote_until=engine.clock.now() + rule.quote_seconds)
