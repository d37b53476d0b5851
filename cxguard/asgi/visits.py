"""Whose visit a request belongs to, which stage of the funnel it reaches, and what went wrong there: facts for the recorder.

The request is followed, not held: messages pass as they come, and what they showed is read after the answer has gone,
in a task of the guard's. Nothing here ever raises into the request.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cxguard.asgi.shown import CAUSES, SLOW, SLOW_SECONDS, device_of, language_of, refused_field, shop_cause, shop_message
from cxguard.asgi.tee import Tee
from cxguard.asgi.telling import FINISHED_IN_SCOPE, TOLD_IN_SCOPE
from cxguard.asgi.types import Receive, Scope, Send
from cxguard.core.answer import Answer
from cxguard.core.message import Message
from cxguard.core.money import MoneyState
from cxguard.core.names import keyed_hash
from cxguard.core.operation import Operation
from cxguard.core.reading import HandlerAnswer, Reading, read
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Reached, Stage, visit_id
from cxguard.core.snapshot import Snapshot, below_root
from cxguard.engine.error_text import BODY_BYTES_MAX, shop_error_text
from cxguard.engine.purchases import PurchaseListener
from cxguard.errors import BadRequest
from cxguard.guard import Guard, Mode
from cxguard.logs import get_logger
from cxguard.render.messages.catalogue import FALLBACK, load_catalogue
from cxguard.rules import Arrival, Funnel, Rule, resolve_source
from cxguard.rules.amounts import resolve_amount
from cxguard.rules.sources import AnySource, Source, parts_of

_log = get_logger("visits")

SESSION_IN_SCOPE = "cxguard.session"
REQUEST_BYTES_MAX = 65_536  # of a form whose values are cut out of the messages about it
VISITOR_SECONDS_MAX = 0.5  # a shop's own `visitor=` that takes longer is not asked again for this request
READING_MAX = 500  # answers that wait to be read; beyond that only errors are
THREAD_BYTES_MIN = 32_768  # a page from here on is parsed in a thread: it takes more than a millisecond

_OF_THE_BODY = frozenset({"json_field", "form_field", "graphql_variable", "path_field", "fixed"})

Guarded: TypeAlias = Callable[[Rule | None, str, Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a visit.

    Attributes:
        began_at: monotonic; `at` is wall clock.
        stage: None: a guarded request outside of the funnel, whose order belongs to the visit all the same.
    """

    session: str
    stage: Stage | None
    at: float
    began_at: float
    language: str
    device: str


class Visits:
    """Follows the requests of one guard's funnel."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._funnel = guard.funnel or Funnel()
        self._prefixes = _prefixes(self._funnel)
        self._sources = _sources(guard)
        self._catalogue = load_catalogue(guard.messages, specs=guard.specs)
        self._stand_in = secrets.token_bytes(32)  # names visitors until the guard has its own secret
        self._done_means_bought = guard.mode is Mode.WATCH or not any(rule.audience == "browser" for rule in guard.rules)
        guard.bus.listen(PurchaseListener(guard.recorder))

    def concerned(self, rule: Rule | None, method: str, path: str, root: str = "") -> bool:
        """Whether a request may belong to the funnel. Asked for every request of the shop: two look-ups, no more."""
        if rule is not None:
            return True
        prefixes = self._prefixes.get(method)
        return prefixes is not None and (path.startswith(prefixes) or (bool(root) and below_root(path, root).startswith(prefixes)))

    async def follow(self, guarded: Guarded, rule: Rule | None, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to *guarded*, and tell the recorder what became of it."""
        visit = await self._visit_quietly(rule, path, scope)
        if visit is None or visit.stage is None:
            await guarded(rule, path, scope, receive, send)
            return
        monotonic = self._guard.clock.monotonic
        tee = Tee(scope, receive, send, monotonic=monotonic, request_bytes_max=REQUEST_BYTES_MAX, answer_bytes_max=BODY_BYTES_MAX)
        raised = True
        try:
            await guarded(rule, path, scope, tee.receive, tee.send)
            raised = False
        finally:
            self._read_later(_Passed(self, visit, visit.stage, rule, tee, raised=raised))

    # --- whose visit

    async def _visit_quietly(self, rule: Rule | None, path: str, scope: Scope) -> Visit | None:
        try:
            return await self._visit(rule, path, scope)
        except Exception as error:  # noqa: BLE001 - a source of the shop may raise anything; the request goes on
            _log.warning("visit.not_followed", error=type(error).__name__)
            return None

    async def _visit(self, rule: Rule | None, path: str, scope: Scope) -> Visit | None:
        stage = self._stage(rule, scope["method"], path, scope.get("root_path") or "")
        if stage is None and (rule is None or rule.audience == "machine"):
            return None
        snapshot = Snapshot.from_scope(scope, body=b"")
        device = device_of("".join(snapshot.header_all("user-agent")))
        if device == "bot" or "prefetch" in snapshot.header_all("sec-purpose"):
            return None
        now = self._guard.clock.now()
        visitor = await self._visitor(Arrival(snapshot, scope), scope)
        session = scope[SESSION_IN_SCOPE] = visit_id(visitor, now)
        language = language_of(",".join(snapshot.header_all("accept-language")))
        visit = Visit(session, stage, now, self._guard.clock.monotonic(), language, device)
        if stage is not None:
            self._guard.recorder.put(Reached(session, stage, now, language=language, device=device))
        return visit

    def _stage(self, rule: Rule | None, method: str, path: str, root: str) -> Stage | None:
        """The funnel's; a guarded request is the money step of a funnel that names none."""
        stage = self._funnel.stage(method, path, root)
        if stage is None and rule is not None and rule.audience == "browser" and not self._funnel.pay:
            return Stage.PAY
        return stage

    async def _visitor(self, arrival: Arrival, scope: Scope) -> str:
        """A pseudonym: of what the shop names a visitor by, else of the browser as the network shows it."""
        for source in self._sources:
            value = await self._asked(source, arrival)
            if value:
                return self._pseudonym("visitor", value)
        address = str((scope.get("client") or ("",))[0])
        return self._pseudonym("address", address, "".join(arrival.snapshot.header_all("user-agent")))

    async def _asked(self, source: AnySource, arrival: Arrival) -> str:
        try:
            async with asyncio.timeout(VISITOR_SECONDS_MAX):
                found = await resolve_source(source, arrival)
        except (BadRequest, TimeoutError):
            return ""
        return found.value if found is not None else ""

    def _pseudonym(self, kind: str, *parts: str) -> str:
        naming = self._guard.engine.naming if self._guard.started else self._stand_in
        return keyed_hash(naming, kind, self._guard.namespace, *parts)[:32]

    # --- what became of it

    def _read_later(self, passed: _Passed) -> None:
        """In a task of the guard's, which a stop waits for. When too many wait, only errors are read."""
        runs = self._guard.runs
        if len(runs) >= READING_MAX and not passed.is_error:
            self._guard.recorder.count("session.not_read")
            return
        task = asyncio.get_running_loop().create_task(passed.read(), name="cxguard visit")
        runs.add(task)
        task.add_done_callback(runs.discard)

    def message_of(self, answer: Answer) -> Message:
        """The name of our own message, with the version of its text."""
        return Message(key=answer.message, version=self._catalogue.message(FALLBACK, answer.message).version)

    @property
    def guard(self) -> Guard:
        return self._guard

    @property
    def done_means_bought(self) -> bool:
        """Without a guard that knows of the payment, the confirmation page is the sign of a purchase."""
        return self._done_means_bought


class _Passed:
    """One request of the funnel whose answer has gone."""

    def __init__(self, visits: Visits, visit: Visit, stage: Stage, rule: Rule | None, tee: Tee, *, raised: bool) -> None:
        self._visits = visits
        self._visit = visit
        self._stage = stage
        self._rule = rule
        self._tee = tee
        scope = tee.scope_after
        self._told: Answer | None = scope.get(TOLD_IN_SCOPE)
        finished: Operation | None = scope.get(FINISHED_IN_SCOPE)
        self._decided = finished is not None
        self._paid = finished is not None and finished.money is MoneyState.CHARGED
        answer = tee.handler_answer()
        self._answer = answer if answer is not None else HandlerAnswer(500) if raised else None
        ended_at = tee.answered_at or visits.guard.clock.monotonic()
        self._slow = ended_at - visit.began_at > SLOW_SECONDS[stage]

    @property
    def is_error(self) -> bool:
        """Whether an error was surely shown."""
        return self._told is not None or self._slow or (self._answer is not None and self._answer.status >= 400)

    async def read(self) -> None:
        """Tell the recorder what the answer showed."""
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - a parser, or a shop's own source, may raise anything
            _log.warning("visit.not_read", stage=str(self._stage), error=type(error).__name__)

    async def _read(self) -> None:
        if self._told is not None:
            cause = CAUSES[self._told.situation]
            if cause is not None:
                await self._expose(self._visits.message_of(self._told), cause, By.OURS, reference=self._told.about.reference or "")
            return
        answer = self._answer
        text = await _text_of(answer) if answer is not None and not self._paid else ""
        if self._tee.request.over:
            text = ""  # nobody can say any more what the shopper typed, and the page may quote it
        message = shop_message(answer, text, self._tee.snapshot()) if answer is not None else None
        if message is not None and answer is not None:
            await self._expose(message, shop_cause(answer.status), By.SHOP, field_name=refused_field(answer))
            return
        if self._slow:
            await self._expose(SLOW, Cause.SLOW, By.SHOP)
        if answer is not None and self._bought(answer):
            basket = await self._basket()
            self._put_bought(basket)

    def _bought(self, answer: HandlerAnswer) -> bool:
        """Whether a request that no guard decided about was a purchase. What the guard knows of comes from its events."""
        if self._decided:
            return False
        if self._rule is not None and read(answer, self._rule.cases) is Reading.SUCCEEDED:
            return True
        return self._stage is Stage.DONE and self._visits.done_means_bought and 200 <= answer.status < 300

    def _put_bought(self, basket: Basket | None) -> None:
        amount_minor, currency = (basket.amount_minor, basket.currency) if basket is not None else (None, "")
        self._visits.guard.recorder.put(Bought(self._visit.session, self._visits.guard.clock.now(), amount_minor, currency))

    async def _expose(self, message: Message, cause: Cause, by: By, *, field_name: str = "", reference: str = "") -> None:
        visit = self._visit
        self._visits.guard.recorder.put(
            Exposed(
                id=secrets.token_hex(12),
                session=visit.session,
                stage=self._stage,
                at=self._visits.guard.clock.now(),
                message=message,
                cause=cause,
                by=by,
                status=self._tee.status,
                basket=await self._basket(),
                language=visit.language,
                device=visit.device,
                field_name=field_name,
                reference=reference,
            )
        )

    async def _basket(self) -> Basket | None:
        """What was at stake: from our answer, else as the rule reads it from the request."""
        about = self._told.about if self._told is not None else None
        if about is not None and about.amount_minor is not None:
            return Basket(about.amount_minor, about.currency or "")
        rule = self._rule
        if rule is None or rule.amount_minor is None or not self._tee.request.whole:
            return None
        snapshot = self._tee.snapshot()
        try:
            amount_minor, currency = await resolve_amount(
                rule.amount_minor, rule.currency, Arrival(snapshot, self._tee.scope, rule.params(snapshot.path, snapshot.root_path))
            )
        except BadRequest:
            return None
        return Basket(amount_minor, currency or "") if amount_minor is not None else None


async def _text_of(answer: HandlerAnswer) -> str:
    """The error that the shop's own code showed; large pages are read in a thread."""
    content, kind = answer.content(), answer.header("content-type") or ""
    if len(content) < THREAD_BYTES_MIN:
        return shop_error_text(answer.status, kind, content)
    return await asyncio.to_thread(shop_error_text, answer.status, kind, content)


def _prefixes(funnel: Funnel) -> Mapping[str, tuple[str, ...]]:
    """By method: how the paths of the funnel begin."""
    found: dict[str, tuple[str, ...]] = {}
    for matches in (funnel.cart, funnel.checkout, funnel.pay, funnel.done):
        for match in (matches,) if isinstance(matches, str) else matches:
            method, _, path = match.partition(" ")
            found[method] = (*found.get(method, ()), re.split(r"[{*]", path)[0])
    return found


def _sources(guard: Guard) -> tuple[AnySource, ...]:
    """The shop's `visitor=`; else the owners of its rules, as far as a request's head names them: they survive login, too."""
    if guard.visitor is not None:
        return (guard.visitor,)
    owners = [rule.owner for rule in guard.rules if rule.audience == "browser"]
    return tuple(owner for owner in owners if all(isinstance(part, Source) and part.kind not in _OF_THE_BODY for part in parts_of(owner)))
