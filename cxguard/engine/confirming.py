"""Whether a charge still stands that an order is about to be completed for: the store may have lost that it went back."""

from __future__ import annotations

from collections.abc import Sequence

from cxguard.core.lost import is_doubted
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Refunded, outcome_kind
from cxguard.core.resolve import tells_other_figures
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine
from cxguard.engine.losing import look_up, may_be_copy
from cxguard.gateways.base import Gateway

REFUNDED = outcome_kind(Refunded(0, ""))  # as a look has it in the timeline: of a part, where the rest stands


async def still_stands(engine: Engine, work: Work, gateways: Sequence[str]) -> bool:
    """Whether a script's function may go on after the charge of the order in hand: True at once where nothing is charged.

    Args:
        gateways: those of its purpose, by name, in order.

    Returns:
        False: it went back, or only webhooks tell of it and no gateway confirms it.

    Raises:
        StoreUnavailable: nobody knows now.
    """
    if money_of(work.operation).state is not MoneyState.CHARGED or not await may_be_copy(engine, work.operation):
        return True
    asked = {key: _gateway_of(engine, work.operation, key, gateways) for key in money_of(work.operation).charged_keys}
    for key, gateway in asked.items():
        if gateway is not None:
            await look_up(engine, work, gateway=gateway, key=key)
    unasked = not any(asked.values())
    return money_of(work.operation).state is MoneyState.CHARGED and (unasked or not await awaits_word(engine, work.operation))


async def awaits_word(engine: Engine, operation: Operation) -> bool:
    """Whether nobody but webhooks has told of its charge yet, though somebody was asked: silence is no answer."""
    if money_of(operation).state is not MoneyState.CHARGED:
        return False
    in_part = any(entry.detail.get("outcome") == REFUNDED for entry in operation.history[-1:])
    since = await engine.epochs.changed_at()
    return not in_part and not tells_other_figures(operation) and is_doubted(operation, since, engine.clock.now())


def _gateway_of(engine: Engine, operation: Operation, key: str, gateways: Sequence[str]) -> Gateway | None:
    """The account that was asked to charge; where no line says which, the newest one, or the one that is asked first."""
    sent = [send.gateway for send in operation.sends if send.key == key] or [send.gateway for send in operation.sends]
    return engine.gateway((sent[-1:] or [*gateways, *engine.gateways, ""])[0])
