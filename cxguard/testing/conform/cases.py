"""The cases: each sends the request under keys of its own, looks at answers and effects, and gives a line of the table.

Source: IETF draft-ietf-httpapi-idempotency-key-header, sections 2.6 (replay) and 2.7 (400, 409, 422). The draft says
nothing of crashes; there the rule is the one that the key is for: sent again until it succeeds, it took effect once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median

from cxguard.testing.conform import judging
from cxguard.testing.conform.http_file import Sendable, Template
from cxguard.testing.conform.judging import Result, Seen, Verdict, result
from cxguard.testing.conform.service import Service
from cxguard.testing.shop_process import ShopProcess

BREAKS = (0.25, 0.5, 0.75)  # of the usual time of an answer: when clients leave, and the server is killed
BREAK_SECONDS_MIN = 0.001
USUAL_OF = 3  # answers under fresh keys: the first one of a cold server says little


@dataclass(frozen=True, slots=True)
class Conformance:
    """One run.

    Args:
        other: what is sent under a used key as another payload; None: the request's own, changed by a member.
        process: the server, where it is to be killed.
        at_once: how many send the same request at the same moment.
        patience_seconds: how long a request that broke off is sent again; longer than a lease of the service.
        key_required: whether a request without the key must be refused.
    """

    service: Service
    request: Template
    other: Template | None = None
    process: ShopProcess | None = None
    at_once: int = 10
    patience_seconds: float = 60.0
    key_required: bool = True

    async def run(self, *, begins: Callable[[str], None] = lambda case: None) -> AsyncIterator[Result]:
        """Each case's line, as it ends. After a first request that does not succeed there are no others.

        Args:
            begins: told the name of each case that begins.
        """
        begins("first")
        first, usual_seconds = await self._first()
        yield first
        if first.verdict is Verdict.FAIL:
            return
        for name, case in self._cases(usual_seconds).items():
            begins(name)
            yield await case(name)

    def _cases(self, usual_seconds: float) -> dict[str, Callable[[str], Awaitable[Result]]]:
        async def gone(name: str) -> Result:
            return await self._client_gone(name, usual_seconds)

        async def killed(name: str) -> Result:
            return await self._killed(name, usual_seconds)

        return {
            "replay": self._replay,
            "no key": self._no_key,
            "other payload": self._other_payload,
            "at once": self._at_once,
            "other keys": self._other_keys,
            "client gone": gone,
            "killed": killed,
        }

    async def _first(self) -> tuple[Result, float]:
        """Some requests, each under a key of its own; and the usual time of an answer."""
        answers, seconds, before = [], [], await self.service.count()
        for _ in range(USUAL_OF):
            began = time.monotonic()
            answers.append(await self.service.send(self._new()))
            seconds.append(time.monotonic() - began)
        seen = Seen(answers, await self._effects_since(before))
        wrong = (f"not a success: {answer}" for answer in answers if not answer.is_success)
        told = result("first", "a success, 2xx, but not 202", seen, wrong)
        if seen.effects not in (None, USUAL_OF) and told.verdict is Verdict.PASS:
            told = replace(told, verdict=Verdict.FAIL, why=f"{judging.count_of(seen.effects or 0)} of {USUAL_OF} requests")
        return told, median(seconds)

    async def _replay(self, name: str) -> Result:
        request = self._new()
        first = await self.service.send(request)
        before = await self.service.count()
        seen = Seen([await self.service.send(request) for _ in range(2)], await self._effects_since(before))
        return result(name, "the first answer: status, body, main headers", seen, judging.is_replayed(first, seen))

    async def _no_key(self, name: str) -> Result:
        if not self.key_required:
            return _not_tried(name, "400", "the key is optional, you said")
        if not self.request.key_headers:
            return _not_tried(name, "400", "no header of the request carries the key")
        before = await self.service.count()
        answer = await self.service.send(self._new(without=self.request.key_headers))
        seen = Seen([answer], await self._effects_since(before))
        return result(name, "400, no effect", seen, judging.is_refused(seen, 400))

    async def _other_payload(self, name: str) -> Result:
        key, fresh = _key(), _fresh()
        other = self._other(key, fresh)
        if other is None:
            return _not_tried(name, "422", "the body is no JSON object: add a second request to the file, below ###, with another payload")
        await self.service.send(self.request.filled(key=key, fresh=fresh))
        before = await self.service.count()
        seen = Seen([await self.service.send(other)], await self._effects_since(before))
        return result(name, "422, no effect", seen, judging.is_refused(seen, 422))

    async def _at_once(self, name: str) -> Result:
        request, before = self._new(), await self.service.count()
        answers = await asyncio.gather(*(self.service.send(request) for _ in range(self.at_once)))
        again = await self.service.send(request)
        seen = Seen(answers, await self._effects_since(before), again)
        return result(name, f"{self.at_once} requests: one answer for all, or 409; one effect", seen, judging.at_once(seen))

    async def _other_keys(self, name: str) -> Result:
        before = await self.service.count()
        answers = [await self.service.send(self._new()) for _ in range(2)]
        seen = Seen(answers, await self._effects_since(before))
        return result(name, "two keys: two successes, two effects", seen, judging.are_different(seen))

    async def _client_gone(self, name: str, usual_seconds: float) -> Result:
        expected = "sent again: paid, and the same again; one effect"

        async def leave(request: Sendable, share: float) -> bool:
            sent = asyncio.create_task(self.service.send(request))
            await asyncio.wait({sent}, timeout=max(BREAK_SECONDS_MIN, share * usual_seconds))
            in_the_middle = not sent.done()
            sent.cancel()
            with suppress(asyncio.CancelledError):
                await sent
            return in_the_middle

        return await self._broken_off(name, expected, leave)

    async def _killed(self, name: str, usual_seconds: float) -> Result:
        expected = "started, sent again: paid, and the same again; one effect"
        process = self.process
        if process is None:
            return _not_tried(name, expected, "say how the server is started (--start), and it is killed in the middle of a request")

        async def kill(request: Sendable, share: float) -> bool:
            sent = asyncio.create_task(self.service.send(request))
            await asyncio.wait({sent}, timeout=max(BREAK_SECONDS_MIN, share * usual_seconds))
            await process.kill()
            answer = await sent
            await process.start()
            return answer.status is None

        return await self._broken_off(name, expected, kill)

    async def _broken_off(self, name: str, expected: str, breaks: Callable[[Sendable, float], Awaitable[bool]]) -> Result:
        """Break requests off at several moments, each under a key of its own, and send each again until it succeeds."""
        shown, wrong, hits = [], [], 0
        for share in BREAKS:
            request, before = self._new(), await self.service.count()
            hits += await breaks(request, share)
            answers = await self.service.send_until_paid(request, patience_seconds=self.patience_seconds)
            again = await self.service.send(request)
            seen = Seen(answers, await self._effects_since(before), again)
            shown.append(str(seen))
            wrong += [f"broken off after {share:.0%} of the usual time: {one}" for one in judging.ends_once(seen)]
        told = result(name, expected, Seen([]), iter(wrong))
        told = replace(told, seen=" | ".join(shown))
        if told.verdict is Verdict.PASS and not hits:
            why = "each request was answered before it could be broken off: let the service take longer, a payment takes 100 ms and more"
            return replace(told, verdict=Verdict.NOT_TRIED, why=why)
        return told

    def _new(self, *, without: tuple[str, ...] = ()) -> Sendable:
        return self.request.filled(key=_key(), fresh=_fresh(), without=without)

    def _other(self, key: str, fresh: str) -> Sendable | None:
        """Another payload under the same key: the file's second request, or a member more."""
        if self.other is not None:
            return self.other.filled(key=key, fresh=fresh)
        same = self.request.filled(key=key, fresh=fresh)
        try:
            members = json.loads(same.body)
        except ValueError:
            return None
        return replace(same, body=json.dumps({**members, "other_payload": True}).encode()) if isinstance(members, dict) else None

    async def _effects_since(self, before: int | None) -> int | None:
        after = await self.service.count()
        return None if before is None or after is None else after - before


def _not_tried(case: str, expected: str, why: str) -> Result:
    return Result(case, expected, "", Verdict.NOT_TRIED, why)


def _key() -> str:
    return f"conform-{secrets.token_hex(16)}"


def _fresh() -> str:
    return str(uuid.uuid4())
