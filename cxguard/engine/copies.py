"""What an order's record may not know, where its store has lost its tail: asked before the queue acts on what it says."""

from __future__ import annotations

from dataclasses import dataclass

from cxguard.core.lost import is_doubted
from cxguard.core.operation import ENDED, Operation, money_of
from cxguard.core.resolve import LOOKS_MAX, SHOP, SILENCE_EVENT, Find, looks_at
from cxguard.core.schedule import resolve_pause_seconds
from cxguard.engine.charging import Work
from cxguard.engine.confirming import awaits_word
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.looking import ask_shop
from cxguard.engine.losing import look_before_end, look_up, may_be_copy
from cxguard.engine.placing import Placing
from cxguard.engine.rulings import Rulings

AWAITS_WORD = "awaits word"  # of the gateway, or the hook, that the charge stands: the order is not completed before, for two days


@dataclass(frozen=True, slots=True)
class Copies:
    """Asks whoever knows better than the copy of a record."""

    engine: Engine
    rulings: Rulings
    placing: Placing

    async def was_paid(self, work: Work) -> bool:
        """Whether an order that is about to end as not charged, or has, is another case: the store may have an older copy of a
        paid one."""
        known = money_of(work.operation).state
        if work.operation.charged_by == SHOP:
            await self.placing.ask_before_end(work)
        else:
            await look_before_end(self.engine, work, self.rulings.gateway_names(work.operation))
        return money_of(work.operation).state is not known

    async def was_given_back(self, work: Work, looked: set[str]) -> bool:
        """Whether an order that is about to be completed has been refunded, in writes that the store has lost: the word that it
        is charged may come late, of a webhook, and be older. Where our own call was told so it stands without an answer (what a
        person then has is asked again); else *looked* says that it is waited for (`AWAITS_WORD`)."""
        known = money_of(work.operation)
        keys = [key for key in known.charged_keys if f"given back:{key}" not in looked]
        if not keys or work.operation.state in ENDED or not await may_be_copy(self.engine, work.operation):
            return False
        for key in keys:
            looked.add(f"given back:{key}")
            before = work.operation.history
            asked = await self.find(work, Find(key))
            lines = work.operation.history
            if (asked and lines == before) or (lines and lines[-1].event == SILENCE_EVENT):  # our own breaker says nothing, either
                looked.add(SILENCE_EVENT)
        if self.rulings.ways(work.operation).find and await awaits_word(self.engine, work.operation):
            looked.update((SILENCE_EVENT, AWAITS_WORD))
        return money_of(work.operation).state is not known.state

    async def may_have_gone_on(self, operation: Operation) -> bool:
        """Whether an order that has its end here may have been pressed again, and paid, in writes that the store has lost; and
        somebody can be asked.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        if operation.state not in ENDED or operation.rule not in self.rulings.names:
            return False
        since = await self.engine.epochs.changed_at()
        return is_doubted(operation, since, self.engine.clock.now()) and self.rulings.ways(operation).find

    def asks_again(self, operation: Operation) -> bool:
        """Whether the queue goes on asking about such an end by itself. Who looks at its page has it asked later, too."""
        return looks_at(operation) < LOOKS_MAX

    def asked_lately(self, operation: Operation) -> bool:
        """Whether it is asked about anyway, or was a moment ago: pages are reloaded."""
        now, looks = self.engine.clock.now(), looks_at(operation)
        due = operation.due_at is not None and operation.due_at > now
        return due or (looks >= LOOKS_MAX and 0 <= now - operation.updated_at < resolve_pause_seconds(looks))

    async def find(self, work: Work, duty: Find) -> bool:
        """Ask the gateway, or the rule's hook, what became of a key. False: there is nobody to ask."""
        ask = self.rulings.ask_of(work.operation)
        if ask is not None:
            await ask_shop(self.engine, OperationHandle(self.engine, work), ask, key=duty.key)
            return True
        named = next((send.gateway for send in work.operation.sends if send.key == duty.key), None)
        gateway = self.engine.gateway(named) if named else self.rulings.gateway_of(work.operation)
        if gateway is not None:  # only the account that was asked may say what became of a key
            await look_up(self.engine, work, gateway=gateway, key=duty.key, cancel=duty.cancel)
        return gateway is not None
