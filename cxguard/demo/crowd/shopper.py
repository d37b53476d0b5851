"""One shopper, from the door to the last word. Habits are the same for pages and apps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

import httpx

from cxguard.demo.crowd.closing import Closing
from cxguard.demo.crowd.plans import Channel, Habit, Plan
from cxguard.demo.crowd.tills import Till
from cxguard.demo.crowd.understanding import NO_ANSWER, Heard
from cxguard.demo.crowd.words import ON_ITS_WAY, Word

LOOK_SECONDS = 1.5  # between two looks at an order that is on its way
ENTRIES_MAX = 3  # a shop on a busy machine
PRESSES_MAX = 3  # of an impatient shopper who gets no answer
_TRY_AGAIN = frozenset({Word.DECLINED, Word.NOT_CHARGED, Word.NOTHING})


@dataclass(slots=True)
class Shopper:
    """Wants exactly one order, and follows it until its end or closing time."""

    plan: Plan
    till: Till
    closing: Closing

    async def shop(self) -> None:
        """Fill the basket, pay as the habit has it, follow what was promised, try again after an error."""
        await self._enter()
        if self.plan.habit is Habit.CLOSED_TAB:
            await self._follow(await self._press_and_leave())
            return
        heard = await self._follow(await self._first_try())
        for _ in range(self.plan.persistence):
            if heard.word not in _TRY_AGAIN or self.closing.is_over:
                return
            await asyncio.sleep(self.plan.think_seconds)
            await self.till.reload()
            heard = await self._follow(await self.till.pay())

    async def _enter(self) -> None:
        for _ in range(ENTRIES_MAX - 1):
            try:
                return await self.till.fill_basket()
            except httpx.HTTPError:
                await asyncio.sleep(self.plan.think_seconds)
        return await self.till.fill_basket()

    async def _first_try(self) -> Heard:
        match self.plan.habit:
            case Habit.CALM | Habit.CANCELS | Habit.CLOSED_TAB:
                return await self.till.pay()
            case Habit.DOUBLE_CLICK:
                return await self._press_twice()
            case Habit.RELOAD:
                return await self._answer_or(self.till.pay(), self._reload_and_pay)
            case Habit.IMPATIENT:
                return await self._press_until_answered()
            case _:
                assert_never(self.plan.habit)

    async def _press_and_leave(self) -> Heard:
        """The request is the shop's when the tab closes. Who had read by then that the order is saved comes back to its page."""
        paying = asyncio.create_task(self.till.pay())
        sent = asyncio.create_task(self.till.sent.wait())
        await asyncio.wait({paying, sent}, return_when=asyncio.FIRST_COMPLETED)
        await self.till.arrive()
        await asyncio.wait({paying}, timeout=self.plan.gap_seconds)
        heard = paying.result() if paying.done() else NO_ANSWER
        await _abandon(paying, sent)
        return heard

    async def _press_twice(self) -> Heard:
        """In a browser the second press replaces the first on the screen; an app hears both answers."""
        first = asyncio.create_task(self.till.pay())
        await asyncio.wait({first}, timeout=self.plan.gap_seconds)
        if first.done():
            return first.result()
        second = asyncio.create_task(self.till.pay())
        if self.plan.channel is Channel.API:
            await asyncio.wait({first, second})
            return second.result()
        await asyncio.sleep(self.plan.gap_seconds)
        await _abandon(first)
        return await second

    async def _reload_and_pay(self) -> Heard:
        await self.till.reload()
        return await self.till.pay()

    async def _press_until_answered(self) -> Heard:
        for _ in range(PRESSES_MAX - 1):
            heard = await self._answer_or(self.till.pay(), None)
            if heard is not NO_ANSWER:
                return heard
            await self.till.reload()
        return await self.till.pay()

    async def _answer_or(self, paying: Coroutine[Any, Any, Heard], otherwise: Any) -> Heard:
        """The answer, if it comes while her patience lasts; else she drops it and does something about it."""
        task = asyncio.create_task(paying)
        await asyncio.wait({task}, timeout=self.plan.patience_seconds)
        if task.done():
            return task.result()
        await _abandon(task)
        return NO_ANSWER if otherwise is None else await otherwise()

    async def _follow(self, heard: Heard) -> Heard:
        """Look again and again at an order that is on its way."""
        wants_out = self.plan.habit is Habit.CANCELS
        while heard.word in ON_ITS_WAY and not self.closing.is_over:
            before = heard.word
            if wants_out and heard.word is Word.KEPT:
                wants_out = False
                heard = await self.till.cancel(heard)
            else:
                await asyncio.sleep(LOOK_SECONDS)
                heard = await self._look_or_pay(heard)
            if heard.word is not before:
                self.closing.news()
        return heard

    async def _look_or_pay(self, heard: Heard) -> Heard:
        if not heard.follow_url:
            return await self.till.pay()
        looked = await self.till.look(heard)
        return heard if looked.word is Word.NOTHING else looked


async def _abandon(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
