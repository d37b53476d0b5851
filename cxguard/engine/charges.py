"""`op.charge`: what is known of a step already, and if nothing is, one send, or one after the other to each gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from cxguard.core import names
from cxguard.core.consent import late_refusal
from cxguard.core.currency import amount_fault
from cxguard.core.figures import may_be_all_back, standing_minor
from cxguard.core.lost import key_life
from cxguard.core.money import Send, SendKind
from cxguard.core.operation import money_of, remember
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.standing import standing_outcome
from cxguard.engine.charging import Work, send_charge
from cxguard.engine.engine import Engine
from cxguard.engine.looking import look
from cxguard.engine.losing import look_for_lost
from cxguard.engine.routing import Route, is_of_step, may_go_on, routes_of
from cxguard.errors import AlreadyFinished, PaymentDeferred, StepMismatch
from cxguard.gateways.base import Charge


class ShopperMustAgree(PaymentDeferred):
    """What is to be charged is not covered by what the shopper agreed to: they are asked, and nothing was sent."""


class Charges:
    """The charges of one operation in hand."""

    def __init__(self, engine: Engine, work: Work, *, gateways: Sequence[str]) -> None:
        self._engine = engine
        self._work = work
        self._gateways = tuple(gateways)
        self._orders: dict[str, str] = {}  # by step: whose order a charge of this run was for

    def key(self, step: str) -> str:
        """The step's key at its gateway: the one that was sent last, in this life."""
        operation, sent = self._work.operation, self._sends_of(step)
        return sent[-1].key if sent else names.gateway_key(operation.id, step=step, generation=key_life(operation))

    def check(self, charge: Charge, step: str) -> None:
        """Refuse what may not be sent for this order.

        Raises:
            StepMismatch: nothing was sent.
        """
        _check_kind(charge)
        fault = amount_fault(charge.amount_minor, charge.currency)
        if fault:
            raise StepMismatch(f"{fault}; nothing was sent")
        operation = self._work.operation
        accepted = (operation.amount_minor, operation.currency)
        asked = (charge.amount_minor, charge.currency)
        if operation.amount_minor is not None and accepted != asked:
            raise StepMismatch(f"accepted were {accepted[0]} {accepted[1]}, not {asked[0]} {asked[1]}: nothing was sent; open a new order")
        own = [send for send in operation.sends if is_of_step(send.step, step) and send.generation == operation.generation]
        if any(send.kind is not SendKind.CHARGE for send in own):
            raise StepMismatch(f"{step!r} was a {own[-1].kind} before: give each charge a step name of its own; nothing was sent")
        if any(self._stands_with_others(send, asked) for send in own):
            raise StepMismatch(f"{step!r} was sent with other figures before: give each charge a step name of its own")
        money = money_of(operation)
        others = {*money.charged_keys, *money.unknown_keys} - {send.key for send in own}
        if others - self._told_of(step, asked):
            raise StepMismatch("another charge of this order stands or is unknown: one charge for one order")
        if self._orders.setdefault(step, charge.order_id) != charge.order_id:
            raise StepMismatch(f"{step!r} was for another order_id in this run: open an operation for each order; nothing was sent")

    def _stands_with_others(self, send: Send, asked: tuple[int, str]) -> bool:
        """Whether *send* may have moved another amount than what is *asked*. One that was surely not charged has not, and
        the same key may then have been used for what is asked: by a lost life of the order."""
        if (send.amount_minor, send.currency) == asked:
            return False
        known = standing_outcome(self._work.operation, send.key)
        if isinstance(known, Charged):
            return (known.amount_minor, known.currency) != asked
        # a line that was put back after the store has lost its tail may say nothing of an amount
        return known is not None and send.amount_minor is not None and not isinstance(send.outcome, NotCharged)

    def _told_of(self, step: str, asked: tuple[int, str]) -> set[str]:
        """This life's own keys of the step, as far as what is told of them fits: after the store has lost its tail, or where a
        webhook came first, a charge may be known although no line of it is."""
        operation, steps = self._work.operation, (step, *(f"{step}@{name}" for name in self._gateways))
        keys = {names.gateway_key(operation.id, step=each, generation=key_life(operation)) for each in steps}
        told = {key: standing_outcome(operation, key) for key in keys}
        return {key for key, known in told.items() if isinstance(known, Charged) and (known.amount_minor, known.currency) == asked}

    async def outcome_of(self, charge: Charge, step: str, *, finished: bool) -> Outcome:
        """What is known of this step, at whichever gateway; else what it comes to now.

        Raises:
            AlreadyFinished, ShopperMustAgree, LeaseLost, StoreUnavailable: nothing was sent.
        """
        charge = replace(charge, off_session=True) if self._work.needs_consent else charge
        operation = self._work.operation
        routes = routes_of(self._engine, charge, named=self._gateways, step=step, operation_id=operation.id)
        for route in routes:
            known = standing_outcome(self._work.operation, self._key_for(route.charge, route.step))
            if known is not None:
                return self._unless_back(await self._looked_up(known, route), route)
        if finished:
            raise AlreadyFinished(f"order {operation.reference} has ended without this charge: nothing was sent")
        self._check_consent(charge)
        lost = await look_for_lost(self._engine, self._work, routes, gateways=self._gateways, key_of=self._key_for)
        return lost if lost is not None else await self._send_along(routes)

    def _unless_back(self, known: Outcome, route: Route) -> Outcome:
        """A charge that was given back since, by a step of its own, is paid no more; one that goes back now may be no more."""
        if not isinstance(known, Charged):
            return known
        sends, notes, key = self._work.operation.sends, self._work.operation.notes, self._key_for(route.charge, route.step)
        if may_be_all_back(sends, notes, key):
            return Unknown("refund_unknown")
        return known if standing_minor(sends, notes, key) else Refunded(known.amount_minor, known.currency)

    def _check_consent(self, charge: Charge) -> None:
        """Without the shopper, only what they agreed to is charged; for anything else they are asked."""
        if not self._work.needs_consent:
            return
        operation, now = self._work.operation, self._engine.clock.now()
        why = late_refusal(operation.consent, amount_minor=charge.amount_minor, currency=charge.currency, now=now)
        if why:
            raise ShopperMustAgree(why, reference=operation.reference)

    async def _send_along(self, routes: Sequence[Route]) -> Outcome:
        for route, following in pairwise((*routes, None)):
            assert route is not None
            key = self._key_for(route.charge, route.step)
            sent = await send_charge(self._engine, self._work, route.charge, gateway=route.gateway, key=key, step=route.step)
            known = standing_outcome(self._work.operation, key) or sent  # what a lost life has sent may be on its way
            if following is None or not may_go_on(known):
                return await self._looked_up(known, route)
            detail = {"gateway": route.gateway.name, "to": following.gateway.name, "why": getattr(known, "why", "")}
            self._work.operation = remember(self._work.operation, self._engine.operations.entry("payment.rerouted", **detail))
            self._engine.operations.emit("payment.rerouted", self._work.operation, **detail)
        raise AssertionError("there is always a first gateway")

    async def _looked_up(self, known: Outcome, route: Route) -> Outcome:
        """An unknown is looked up once, never charged by another way."""
        if not isinstance(known, Unknown):
            return known
        key = self._key_for(route.charge, route.step)
        await look(self._engine, self._work, gateway=route.gateway, key=key)
        return standing_outcome(self._work.operation, key) or known

    def _sends_of(self, step: str) -> list[Send]:
        operation = self._work.operation
        return [send for send in operation.sends if send.step == step and send.generation == operation.generation]

    def _key_for(self, charge: Charge, step: str) -> str:
        """The step's key. A kept order whose basket was replaced has other figures: then what was sent before is surely not
        charged (it has been checked), and the gateway must not take the new request for a repetition of the old."""
        before = self._sends_of(step)
        figures = (before[-1].amount_minor, before[-1].currency) if before else (None, None)
        if figures in ((None, None), (charge.amount_minor, charge.currency)):
            return self.key(step)
        baskets, operation = len({send.key for send in before}), self._work.operation
        return names.gateway_key(operation.id, step=f"{step}~{baskets}", generation=operation.generation)


def _check_kind(charge: object) -> None:
    """A bare amount is no charge; without a token nothing can be charged, and a gateway would be asked in vain.

    Raises:
        StepMismatch: nothing was sent.
    """
    if not isinstance(charge, Charge):
        slip = f"{type(charge).__name__} is no charge"
    elif not isinstance(charge.source, str):
        slip = f"the charge's source is no token, but of type {type(charge.source).__name__}"
    else:
        return
    raise StepMismatch(f'{slip}: write op.charge(Charge(4999, "EUR", source=token)); nothing was sent')
