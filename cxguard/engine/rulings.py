"""What the rule (or purpose) of a record says, looked up by the record's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxguard.core.decide import Policy
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, money_of
from cxguard.core.resolve import SHOP, Ways
from cxguard.engine.engine import Engine
from cxguard.engine.library import Purpose
from cxguard.engine.tenor import Ask, Tenor
from cxguard.gateways.base import Gateway
from cxguard.rules import Rule

# Of a record whose rule is gone, or that is only facts about an order that a store has lost: what rules say by default.
UNRULED = Tenor(may_keep=False, has_later=False, ask=None, queue_seconds=86_400.0, keep_seconds=2_592_000.0)


@dataclass(frozen=True, slots=True)
class Rulings:
    """Rules and purposes by name; records of other names are left alone."""

    engine: Engine
    rules: Mapping[str, Rule]
    purposes: Mapping[str, Purpose]

    @property
    def names(self) -> tuple[str, ...]:
        """Whose records may be taken."""
        return (*self.rules, *self.purposes)

    def ways(self, operation: Operation) -> Ways:
        """What can be done about it."""
        gateway = self.gateway_of(operation)
        return Ways(
            find=gateway is not None or self.ask_of(operation) is not None,
            resend=gateway is not None and gateway.keyed,
            later=self._may_place(operation),
            rerun=self._may_rerun(operation),
            ask=operation.rule in self.rules and bool(self.rules[operation.rule].resume_at),
            key_lifetime_seconds=gateway.key_lifetime_seconds if gateway else 0.0,
            settle_seconds=gateway.settle_seconds if gateway else 0.0,
            lost=self.engine.epochs.may_lack_tries(operation),
        )

    def _may_place(self, operation: Operation) -> bool:
        """A shop's own charging code runs again only while nothing is charged, or where the rule says that it may.

        Without the request there is nothing to place an order from (it held card data, and so was not kept): a person does it.
        """
        rule = self.rules.get(operation.rule)
        if rule is None:
            purpose = self.purposes.get(operation.rule)
            return purpose is not None and purpose.later is not None
        unpaid = money_of(operation).state is MoneyState.NONE
        keepable = operation.kept or operation.request is not None
        return rule.later is not None and keepable and (rule.charged_by == "guard" or rule.rerun_safe or unpaid)

    def _may_rerun(self, operation: Operation) -> bool:
        """A shop's own charging code runs over an unknown only where it passes our key on."""
        rule = self.rules.get(operation.rule)
        return rule is not None and operation.charged_by == SHOP and rule.rerun_safe and self._may_place(operation)

    def gateway_of(self, operation: Operation) -> Gateway | None:
        """The gateway of the sends in question: of that very name, or none. Before any send: the rule's."""
        sent = [send.gateway for send in operation.sends if send.gateway != SHOP]
        if sent:
            return self.engine.gateway(sent[-1])
        if operation.charged_by == SHOP:
            return None
        return self.engine.gateway(next(iter((*self.gateway_names(operation), *self.engine.gateways)), ""))

    def ask_of(self, operation: Operation) -> Ask | None:
        """The rule's `resolve` hook, for charges that the shop's own code made."""
        rule = self.rules.get(operation.rule)
        return rule.resolve if rule is not None and operation.charged_by == SHOP else None

    def gateway_names(self, operation: Operation) -> tuple[str, ...]:
        """Which gateways the rule or purpose names, in order."""
        rule, purpose = self.rules.get(operation.rule), self.purposes.get(operation.rule)
        return rule.gateways if rule is not None else purpose.gateways if purpose is not None else ()

    def tenor(self, operation: Operation) -> Tenor:
        """How its runs end."""
        rule = self.rules.get(operation.rule)
        if rule is not None:
            ask, later = self.ask_of(operation), rule.later is not None
            seconds, ask_at = (rule.give_up_seconds, rule.keep_seconds), bool(rule.resume_at)
            return Tenor(True, later, ask, queue_seconds=seconds[0], keep_seconds=seconds[1], may_ask=ask_at)
        purpose = self.purposes.get(operation.rule)
        if purpose is None:
            return UNRULED
        return Tenor(True, purpose.later is not None, None, queue_seconds=purpose.queue_seconds, keep_seconds=purpose.keep_seconds)

    def later(self, operation: Operation) -> Any:
        """The function that places it, `replay`, or None."""
        rule = self.rules.get(operation.rule)
        return rule.later if rule is not None else self.purposes[operation.rule].later


def policy_of(rule: Rule) -> Policy:
    """What the rule says about repeated submits."""
    return Policy(
        double_click_seconds=rule.double_click_seconds,
        duplicate_window_seconds=rule.duplicate_window_seconds,
        can_resolve=rule.charged_by == "guard" or rule.resolve is not None or rule.rerun_safe,
        can_ask=rule.charged_by == "guard" or rule.resolve is not None,
        current_seconds=rule.per_purchase.window_seconds if rule.per_purchase is not None else None,
    )
