"""`mode="watch"`: count what the guard would have done, and change nothing.

The app gets the server's own messages, in their own time; what passes is looked at, within limits, and judged when the
app has returned. Whatever goes wrong here - a store that is away, an owner that cannot be read, a bug of ours - stays
here: the shopper, the app and the server see what they would have seen without it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cxguard.asgi.identify import identify
from cxguard.asgi.tee import Tee
from cxguard.asgi.types import App, Receive, Scope, Send
from cxguard.core.cards import carries_card
from cxguard.core.decide import Policy
from cxguard.core.money import MoneyState
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.snapshot import Snapshot, full_path
from cxguard.engine.handle import CURRENT
from cxguard.engine.observing import READINGS, Finding, Watched, forget_once, observe
from cxguard.engine.report import WOULD_PREFIX
from cxguard.engine.rulings import policy_of
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import BadRequest, MalformedKey, MissingKey, OwnerMissing, StoreError
from cxguard.guard import Guard
from cxguard.logs import get_logger
from cxguard.rules import Arrival, Asked, Rule, resolve_owner
from cxguard.rules.reads import reading_of
from cxguard.rules.sources import Source, parts_of

_log = get_logger("watch")

OBSERVING_MAX = 500  # requests whose judging waits, when the store is slow; more are counted, not judged
FORGET_ONE_IN = 200  # observations, of which one lets go of as many old ones

_REFUSALS: Mapping[type[BadRequest], Finding] = {
    MissingKey: Finding.KEYS_MISSING,
    MalformedKey: Finding.KEYS_MALFORMED,
    OwnerMissing: Finding.OWNERS_MISSING,
}


async def watch(guard: Guard, app: App, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass one request through, and judge it afterwards."""
    tee = Tee(
        scope,
        receive,
        send,
        monotonic=guard.clock.monotonic,
        request_bytes_max=rule.body_bytes_max,
        answer_bytes_max=rule.answer_bytes_max,
    )
    arrived_at = guard.clock.now()
    operation = UnguardedOperation(tuple(guard.gateways.values()))
    token = CURRENT.set(operation)
    raised = True
    try:
        await app(scope, tee.receive, tee.send)
        raised = False
    finally:
        CURRENT.reset(token)
        _begin(guard, _Judging(guard, rule, tee, operation, arrived_at=arrived_at, raised=raised))


def _begin(guard: Guard, judging: _Judging) -> None:
    """Judge in a task of the guard's, which a stop waits for."""
    if len(guard.runs) >= OBSERVING_MAX:
        _count(guard, (Finding.REQUESTS, Finding.NOT_OBSERVED))
        return
    task = asyncio.get_running_loop().create_task(judging.run(), name="cxguard watch")
    guard.runs.add(task)
    task.add_done_callback(guard.runs.discard)


def _count(guard: Guard, findings: Iterable[Finding]) -> None:
    for finding in findings:
        guard.recorder.count(WOULD_PREFIX + finding)


class _Judging:
    """One request that has been answered."""

    def __init__(self, guard: Guard, rule: Rule, tee: Tee, operation: UnguardedOperation, *, arrived_at: float, raised: bool) -> None:
        self._guard = guard
        self._rule = rule
        self._tee = tee
        self._operation = operation
        self._arrived_at = arrived_at
        self._answer = None if raised and not tee.gone else tee.handler_answer()

    async def run(self) -> None:
        """Count everything that can be said about it."""
        _count(self._guard, await self._findings())

    async def _findings(self) -> set[Finding]:
        found = {Finding.REQUESTS}
        try:
            found |= await self._judge()
        except StoreError:
            found.add(Finding.NOT_OBSERVED)
        except Exception as error:  # noqa: BLE001 - a source or a reading of the shop may raise anything; this is only a count
            _log.warning("watch.not_judged", rule=self._rule.name, error=type(error).__name__)
            found.add(Finding.NOT_OBSERVED)
        return found

    async def _judge(self) -> set[Finding]:
        tee, reading = self._tee, self._reading()
        found = {READINGS[reading]}
        if tee.answer.over:
            found.add(Finding.ANSWERS_TOO_LARGE)
        if not tee.request.whole:
            found.add(Finding.BODIES_TOO_LARGE if tee.request.over else Finding.BODIES_UNREAD)
            return found
        snapshot = tee.snapshot()
        try:
            return found | await self._judge_submit(snapshot, reading)
        except BadRequest as error:
            return found | {next((finding for kind, finding in _REFUSALS.items() if isinstance(error, kind)), Finding.REFUSED)}

    def _reading(self) -> Reading:
        """As the guard's own: where it charges, a redirect says as much as its charge."""
        rule, money = self._rule, self._operation.money.state
        charged_by = rule.charged_by if money in (MoneyState.CHARGED, MoneyState.DECLINED) else "shop"
        if self._answer is None and money is MoneyState.DECLINED:  # it left the decline to the guard, which would have told it
            return Reading.DECLINED
        return reading_of(self._answer, cases=rule.cases, charged_by=charged_by, path=full_path(self._tee.scope), money=money)

    async def _judge_submit(self, snapshot: Snapshot, reading: Reading) -> set[Finding]:
        rule = self._guard.matcher.choose(self._rule, snapshot)
        if rule is None:
            return set()  # a GraphQL request without a guarded mutation
        arrival = Arrival(snapshot, self._tee.scope, rule.params(snapshot.path, snapshot.root_path))
        identity = await identify(rule, arrival)
        if identity is None:
            return {Finding.KEYS_MISSING}
        found = {Finding.CARDS} if carries_card(snapshot) is not None else set()
        if await self._makes_another_owner(rule, arrival, identity.asked):
            found.add(Finding.OWNERS_UNSTABLE)
            self._guard.emit("owner.unstable", how="the answer makes the visitor another owner")
        watched = Watched(
            rule=rule,
            asked=identity.asked,
            snapshot=snapshot,
            reading=reading,
            policy=_policy_of(rule),
            arrived_at=self._arrived_at,
        )
        found |= await observe(self._guard.engine, watched)
        if secrets.randbelow(FORGET_ONE_IN) == 0:
            await forget_once(self._guard.engine)
        return found

    async def _makes_another_owner(self, rule: Rule, arrival: Arrival, asked: Asked) -> bool:
        """Whether the shopper's next request would belong to somebody else.

        A callable of the shop is not asked: it would look something up, for a request that was never sent.
        """
        after = _after(arrival, self._answer, self._tee.scope_after)
        if after is None or not all(isinstance(part, Source) for part in parts_of(rule.owner)):
            return False
        try:
            return await resolve_owner(rule, after) != asked.owner
        except OwnerMissing:
            return True


def _policy_of(rule: Rule) -> Policy:
    """The rule's own; without a key only a second press of the button counts: nobody watches the confirmation page."""
    policy = policy_of(rule)
    return replace(policy, current_seconds=policy.double_click_seconds) if policy.current_seconds is not None else policy


def _after(arrival: Arrival, answer: HandlerAnswer | None, scope_after: Scope) -> Arrival | None:
    """The same request as the shopper would send it next, with what the answer changed. None: it changed nothing."""
    cookies = _set_cookies(answer) if answer is not None else {}
    changed = {name: scope_after[name] for name in ("session", "user") if scope_after.get(name) != arrival.scope.get(name)}
    if not cookies and not changed:
        return None
    snapshot = arrival.snapshot
    others = [pair for pair in snapshot.headers if pair[0] != "cookie"]
    sent = ";".join(snapshot.header_all("cookie"))
    known = dict(pair.strip().split("=", 1) for pair in sent.split(";") if "=" in pair)
    header = "; ".join(f"{name}={value}" for name, value in {**known, **cookies}.items() if value)
    after = replace(snapshot, headers=(*others, ("cookie", header)))
    return replace(arrival, snapshot=after, scope={**arrival.scope, **changed})


def _set_cookies(answer: HandlerAnswer) -> dict[str, str]:
    """The cookies that an answer sets; an empty value for one that it takes away."""
    cookies: dict[str, str] = {}
    for name, value in answer.headers:
        if name.lower() == b"set-cookie":
            pair, _, attributes = value.decode("latin-1").partition(";")
            cookie, _, content = pair.partition("=")
            expired = "max-age=0" in attributes.replace(" ", "").lower() or "1970" in attributes
            cookies[cookie.strip()] = "" if expired else content.strip()
    return cookies
