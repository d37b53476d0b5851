"""Drives a shop's own endpoint through the cases, one purchase each, and asks the gateway's books what came of it."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from cxguard.testing.answers import Answer, Says, read_answer
from cxguard.testing.shop_faults.cases import Case, Press, Told, report
from cxguard.testing.shop_faults.trouble import Kind, Trouble
from cxguard.testing.shop_process import ShopProcess

PRESS_SECONDS_MAX = 30.0  # one answer: longer than any shop lets a shopper wait
STRUCK_SECONDS_MAX = 15.0  # until the gateway is asked
AT_ONCE_SECONDS = 0.3  # for the second press to get as far as it gets, while the first is being charged
AGAIN_SECONDS = 0.1  # between two presses of somebody who waits for the end
KEPT_PRESSES = 20  # of those that a case shows, the newest

Function = TypeVar("Function", bound=Callable[..., object])
Request = Callable[[str], httpx.Request]
Charges = Callable[[], int | Awaitable[int]]
Means = Callable[[Answer], Says]

_KINDS = {
    Case.TWICE_AT_ONCE: Kind.HOLD,
    Case.RAISED: Kind.RAISE,
    Case.ANSWER_LOST: Kind.LOSE,
    Case.CLIENT_GONE: Kind.HOLD,
    Case.DROPPED: Kind.DROP,
    Case.KILLED: Kind.HOLD,
}


class PromiseBroken(AssertionError):
    """A case did not end as it has to. The text says which promise broke, and what each answer was."""


@dataclass(slots=True)
class GuardFaults:
    """What the fixture `guard_faults` gives: wrap what charges, then call it."""

    trouble: Trouble = field(default_factory=Trouble)

    def after(self, charge: Function, *, lost: type[Exception] | None = TimeoutError) -> Function:
        """*charge*, a function of your fake gateway, with trouble to come right after it. See `Trouble.after`."""
        return self.trouble.after(charge, lost=lost)

    async def __call__(
        self,
        client: httpx.AsyncClient,
        request: Request,
        *,
        charges: Charges,
        server: ShopProcess | None = None,
        cases: Collection[Case] = tuple(Case),
        means: Means = read_answer,
        patience_seconds: float = 20.0,
    ) -> list[Told]:
        """Drive an endpoint through *cases*, and raise if one of them breaks a promise.

        Args:
            client: speaks to the shop: over a connection, or to an app of this process by `httpx.ASGITransport`.
            request: makes the submit of one purchase, given a name that no purchase had before: its key, and its basket.
            charges: how many charges stand in the gateway's books. Async or not.
            server: the process that serves the shop; with it the shop is really killed. Without it, in an app of this
                process, the task that charges is cancelled instead.
            means: what an answer says about the money, where `read_answer` would get it wrong (pages with 200 for a failure).
            patience_seconds: how long somebody who hears nothing definite presses the same button again; longer than the
                lease of the guarded rule, after which another process may go on.

        Returns:
            What each case has shown, all well.

        Raises:
            PromiseBroken: at least one is not.
        """
        drive = _Drive(client, request, charges, server, means, patience_seconds, self.trouble)
        not_tried = [f"{case}: {why}" for case in cases if (why := drive.impossible(case))]
        found = [await drive.told(case) for case in Case if case in cases and not drive.impossible(case)]
        if any(told.broken() for told in found):
            raise PromiseBroken(report(found, not_tried=not_tried))
        return found


@dataclass(frozen=True, slots=True)
class _Drive:
    """One call's arguments, and how each case is played."""

    client: httpx.AsyncClient
    request: Request
    charges: Charges
    server: ShopProcess | None
    means: Means
    patience_seconds: float
    trouble: Trouble

    def impossible(self, case: Case) -> str:
        """Why *case* cannot be played here; empty if it can."""
        if case is Case.KILLED and self.server is None:
            return "no server= was given, so there is no process to kill"
        if case is Case.DROPPED and self.server is not None:
            return "the shop runs in another process; it is killed instead"
        return ""

    async def told(self, case: Case) -> Told:
        """Play one case, with a purchase of its own."""
        request = self.request(f"{case.value.replace('_', '-')}-{secrets.token_hex(6)}")
        before = await self._standing()
        self.trouble.begin(_KINDS.get(case, Kind.NONE))
        try:
            presses = await self._first(case, request)
        finally:
            self.trouble.release()
        presses += await self._until_settled(request)
        presses.append(await self._press(request))
        return Told(case, charges=await self._standing() - before, struck=self.trouble.struck, presses=presses)

    async def _first(self, case: Case, request: httpx.Request) -> list[Press]:
        """The presses up to the moment at which the case's trouble is over."""
        match case:
            case Case.TWICE_AT_ONCE:
                return await self._at_once(request)
            case Case.CLIENT_GONE:
                return await self._gone(request)
            case Case.KILLED:
                return await self._killed(request)
            case Case.DROPPED:
                return await self._dropped(request)
            case _:
                return [await self._press(request)]

    async def _at_once(self, request: httpx.Request) -> list[Press]:
        first = asyncio.create_task(self._press(request))
        if await self._struck_or(first):
            second = asyncio.create_task(self._press(request))
            await self.trouble.until_struck(2, seconds_max=AT_ONCE_SECONDS)
            self.trouble.release()
            return list(await asyncio.gather(first, second))
        return [await first]

    async def _gone(self, request: httpx.Request) -> list[Press]:
        pressed = asyncio.create_task(self._press(request))
        await self._struck_or(pressed)
        pressed.cancel()
        with suppress(asyncio.CancelledError):
            await pressed
        return []

    async def _dropped(self, request: httpx.Request) -> list[Press]:
        pressed = asyncio.create_task(self._press(request))
        await self._struck_or(pressed)
        self.trouble.drop()
        await asyncio.wait({pressed})
        return [] if pressed.cancelled() else [await pressed]  # a connection that ends, as the client sees it

    async def _killed(self, request: httpx.Request) -> list[Press]:
        assert self.server is not None
        pressed = asyncio.create_task(self._press(request))
        await self._struck_or(pressed)
        await self.server.kill()
        told = await pressed
        self.trouble.release()
        await self.server.start()
        return [told]

    async def _struck_or(self, pressed: asyncio.Task[Press]) -> bool:
        """Wait until the gateway has charged; False if the press is answered before, or nothing comes at all."""
        struck = asyncio.create_task(self.trouble.until_struck(seconds_max=STRUCK_SECONDS_MAX))
        await asyncio.wait({struck, pressed}, return_when=asyncio.FIRST_COMPLETED)
        return struck.done() and struck.result()

    async def _until_settled(self, request: httpx.Request) -> list[Press]:
        """Press the same button again until it is paid, or patience has ended."""
        presses: list[Press] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience_seconds):
                while not presses or presses[-1].says is not Says.PAID:
                    presses = [*presses[-KEPT_PRESSES:], await self._press(request)]
                    await asyncio.sleep(AGAIN_SECONDS if presses[-1].says is not Says.PAID else 0.0)
        return presses

    async def _press(self, request: httpx.Request) -> Press:
        answer = await self._answer(request)
        return Press(answer, self.means(answer))

    async def _answer(self, request: httpx.Request) -> Answer:
        try:
            async with asyncio.timeout(PRESS_SECONDS_MAX):
                response = await self.client.send(request)
        except TimeoutError:
            return Answer(None, why=f"none after {PRESS_SECONDS_MAX:g} s")
        except httpx.TransportError as error:
            return Answer(None, why=f"{type(error).__name__} {error}".strip())
        except Exception as error:  # noqa: BLE001 - what an app of this process lets through, a server answers with 500
            return Answer(500, body=f"the app raised {type(error).__name__}: {error}".encode())
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content)

    async def _standing(self) -> int:
        found = self.charges()
        return await found if inspect.isawaitable(found) else found
