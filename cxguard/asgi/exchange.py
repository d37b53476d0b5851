"""One guarded request, from its body to the last byte of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from cxguard.asgi.bodies import ClientGone, Replayed, check_headers, read_body
from cxguard.asgi.capture import Capture, Phase, send_answer, uncompressed, without_shortcuts
from cxguard.asgi.finding import followed, looked_at, overtaker
from cxguard.asgi.identify import Identity, identify, resumed_by, submission_of, telling_of
from cxguard.asgi.spooling import spool_order, tell_spooled
from cxguard.asgi.telling import FINISHED_IN_SCOPE, Teller
from cxguard.asgi.types import App, Message, Receive, Scope, Send
from cxguard.core.answer import Situation, Telling
from cxguard.core.conclude import Say
from cxguard.core.decide import Do
from cxguard.core.money import MoneyState
from cxguard.core.operation import ENDED, Operation, State, money_of
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.snapshot import Snapshot
from cxguard.engine.cold import StoredAnswer, Tombstone, kept_form
from cxguard.engine.ending import Told, end_run, keep_answer
from cxguard.engine.entering import Begun, Submission
from cxguard.engine.finishing import Fate
from cxguard.engine.handle import CURRENT, OperationHandle
from cxguard.engine.joining import begin_or_wait
from cxguard.engine.late import note_late_answers
from cxguard.engine.shop_reading import doubtful, read_shop_charge
from cxguard.engine.spool import Laid
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import BadRequest, LeaseLost, PaymentDeclined, StoreError, TransactionOpen
from cxguard.guard import Guard
from cxguard.logs import get_logger, where_raised
from cxguard.render.renderer import Renderer
from cxguard.rules import Arrival, Rule
from cxguard.rules.reads import reading_of

_log = get_logger("exchange")


class Exchange:
    """One request on a ruled path."""

    def __init__(self, guard: Guard, renderer: Renderer, app: App, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._app = app
        self._rule = rule
        self._scope = scope
        self._receive = receive
        self._send = send
        self._teller = Teller(guard, renderer, scope)
        self._ran = False
        self._said = False

    async def answer(self) -> None:
        """Read, enter, run or tell."""
        snapshot = Snapshot.from_scope(self._scope, body=b"")
        try:
            snapshot = replace(snapshot, body=await self._body())
            rule = self._guard.matcher.choose(self._rule, snapshot)
            arrival = Arrival(snapshot, self._scope, (rule or self._rule).params(snapshot.path, snapshot.root_path))
            identity = await identify(rule, arrival) if rule is not None else None
        except ClientGone:
            return
        except BadRequest as error:
            await self._refuse(snapshot, error)
            return
        except Exception as error:  # noqa: BLE001 - the shop's own callables may raise anything; nothing was opened yet
            await self._last_resort(error, snapshot, telling_of(self._rule, snapshot), situation=Situation.STORE_AWAY)
            return
        if identity is None:
            await self._unguarded(snapshot, counted=rule is not None)
        else:
            await self._outliving(self._enter_safely(identity))

    async def _body(self) -> bytes:
        rule = self._rule
        check_headers(self._scope)
        return await read_body(self._scope, self._receive, body_bytes_max=rule.body_bytes_max, body_seconds_max=rule.body_seconds_max)

    async def _outliving(self, run: Coroutine[Any, Any, None]) -> None:
        """The run is a task of the guard: whatever becomes of the client or the server's patience, it goes on."""
        task = asyncio.create_task(run)
        self._guard.runs.add(task)
        task.add_done_callback(self._guard.runs.discard)
        await asyncio.shield(task)

    async def _refuse(self, snapshot: Snapshot, error: BadRequest) -> None:
        self._guard.emit("request.refused", why=error.problem, status=error.status, method=snapshot.method, path=self._rule.match)
        await self._say(self._teller.refusal(error, telling_of(self._rule, snapshot), snapshot))

    async def _unguarded(self, snapshot: Snapshot, *, counted: bool) -> None:
        """The rule lets a request without a key pass: as if there were no guard, but counted."""
        if counted:
            self._guard.emit("key.missing", method=snapshot.method, path=self._rule.match, guarded=False)
        token = CURRENT.set(UnguardedOperation(tuple(self._guard.gateways.values())))
        try:
            await self._app(self._scope, _again(snapshot.body, self._receive), self._send)
        finally:
            CURRENT.reset(token)

    async def _enter_safely(self, identity: Identity) -> None:
        """Whatever breaks in here, nobody is shown a bare 500 about their money."""
        try:
            await self._enter(identity)
        except Exception as error:  # noqa: BLE001 - the last one to hear of it
            situation = Situation.UNKNOWN if self._ran else Situation.STORE_AWAY
            await self._last_resort(error, identity.snapshot, identity.telling, situation=situation)

    async def _last_resort(self, error: Exception, snapshot: Snapshot, telling: Telling, *, situation: Situation) -> None:
        _log.error("exchange.failed", rule=self._rule.name, **where_raised(error))
        if not self._said:
            await self._say(self._teller.situation(situation, telling, snapshot))

    async def _enter(self, identity: Identity) -> None:
        submission = None
        try:
            resumed = await resumed_by(self._guard, identity)
            if identity.resume_token and resumed is None:  # over, or not ours: nothing is opened in its place
                await self._say(self._teller.situation(Situation.NO_SUCH_ORDER, identity.telling, identity.snapshot))
                return
            submission = submission_of(self._guard, identity, resumed=resumed)
            begun = await self._begun(identity, submission)
        except StoreError as error:
            await self._without_store(identity, submission, error)
            return
        if begun.handle is not None:
            self._ran = True
            await _Running(self, identity, submission, begun.handle).run()
        else:
            await self._tell(identity, begun)

    async def _begun(self, identity: Identity, submission: Submission) -> Begun:
        """The same purchase may have had its end under another key, by an older copy: once that is known to be true, it is free."""
        guard, wait_seconds = self._guard, identity.rule.wait_seconds
        begun = await begin_or_wait(guard.engine, submission, wait_seconds=wait_seconds)
        await guard.engine.epochs.look()
        if begun.do is not Do.DUPLICATE or begun.operation.state not in ENDED or not guard.engine.epochs.doubts(begun.operation):
            return begun
        seen = await looked_at(guard, begun.operation)
        if guard.engine.epochs.doubts(seen):
            return replace(begun, operation=seen)
        return await begin_or_wait(guard.engine, submission, wait_seconds=wait_seconds)

    async def _without_store(self, identity: Identity, submission: Submission | None, error: StoreError) -> None:
        """Nothing is known and nothing runs: the order is spooled where it may be, else refused."""
        if self._guard.store_breaker is None:  # a breaker tells it once, not for each request
            self._guard.emit("store.unavailable", verb="open", why=str(error)[:200])
        anew = submission is not None and not identity.resume_token  # who goes on with an order of the store needs the store
        laid = await spool_order(self._guard, identity, submission, error) if submission is not None and anew else None
        if laid is not None:
            await self._say(tell_spooled(self._teller, laid, identity))
        else:
            await self._say(self._teller.situation(Situation.STORE_AWAY, identity.telling, identity.snapshot))

    async def _tell(self, identity: Identity, begun: Begun) -> None:
        """Nothing is run: replay, or say what the record says; of a purchase's second name, the record that speaks for it."""
        first = await followed(self._guard, begun.operation)
        if first is not begun.operation:
            begun = replace(begun, do=Do.DUPLICATE, operation=first)
        elif begun.do in (Do.REPLAY, Do.TELL):
            begun = await self._doubted(begun)
        operation, answer = begun.operation, self._teller.begun(begun, identity.telling, identity.snapshot)
        match begun.do:
            case Do.REPLAY:
                self._guard.emit("operation.replayed", operation, status=answer.status)
            case Do.MISMATCH:
                self._guard.emit("operation.mismatched", operation, status=answer.status)
            case Do.WAIT:
                self._guard.emit("operation.in_flight", operation, status=answer.status)
            case Do.DUPLICATE:
                self._guard.emit("operation.duplicate", operation, state=operation.state, money=operation.money)
        await self._say(answer)

    async def _doubted(self, begun: Begun) -> Begun:
        """An end of before the store lost its tail is asked about. Until that is answered it is told as unknown, whatever answer
        is stored."""
        seen = await looked_at(self._guard, begun.operation)
        if seen is begun.operation and not self._guard.engine.epochs.doubts(seen):
            return begun
        stands = seen.state is State.FINISHED and not self._guard.engine.epochs.doubts(seen)
        return replace(begun, do=begun.do if stands else Do.TELL, operation=seen, say=begun.say if stands else None)

    async def _say(self, answer: HandlerAnswer) -> None:
        self._said = True
        await send_answer(self._send, answer, head_only=self._scope["method"] == "HEAD")


class _Running:
    """The handler runs: its answer is held until the record says how the run ended."""

    def __init__(self, exchange: Exchange, identity: Identity, submission: Submission, handle: OperationHandle) -> None:
        self._exchange = exchange
        self._guard = exchange._guard
        self._identity = identity
        self._to = identity.telling, identity.snapshot
        self._submission = submission
        self._handle = handle
        self._capture = Capture(exchange._send, bytes_max=identity.rule.answer_bytes_max, completed=self._begin_settling)
        handle.in_request = True
        self._early: set[asyncio.Task[None]] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._answered = False

    async def run(self) -> None:
        """Run the app to its end; conclude; answer."""
        CURRENT.set(self._handle)  # this task is the run's own, so there is nothing to reset
        left = self._submission.deadline - self._guard.clock.monotonic()
        deadline = asyncio.get_running_loop().call_later(max(left, 0.0), self._soon, self._answer_at_deadline)
        try:
            raised = await self._run_app()
        except BaseException:  # the program ends: whoever comes next must not wait for a run that is no more
            self._guard.engine.operations.leases.drop(self._handle.work.lease)
            raise
        deadline.cancel()
        if self._settling is not None:
            self._settling.cancel()
        if self._early:
            await asyncio.wait(self._early)
        await self._conclude(raised=raised)

    async def _run_app(self) -> bool:
        """Whether it raised. A client that has gone does not stop it; a run without an end does."""
        receive = Replayed(self._identity.snapshot.body)
        scope = self._exchange._scope
        without_shortcuts(scope)
        scope["headers"] = uncompressed(scope["headers"])
        try:
            async with asyncio.timeout(self._identity.rule.run_seconds_max):
                await self._exchange._app(scope, receive, self._capture)
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            _log.warning("handler.raised", error="CancelledError", reference=self._handle.reference)
            return True  # the app cancelled itself: that leaves a charge as unknown as any other failure
        except Exception as error:  # noqa: BLE001 - whatever it was, the record decides what the shopper hears
            tell = _log.info if isinstance(error, PaymentDeclined) else _log.warning  # a card that is declined is no fault of anybody's
            tell("handler.raised", reference=self._handle.reference, **where_raised(error))
            return True
        finally:
            receive.end()
        return False

    def _begin_settling(self) -> None:
        """The answer is whole. If the app does not return soon (background tasks), it goes out before the end."""
        self._settling = asyncio.get_running_loop().call_later(self._identity.rule.settle_seconds, self._soon, self._answer_early)

    def _soon(self, answer: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(answer())
        self._early.add(task)

    async def _answer_early(self) -> None:
        """Store the answer, keep the lease, let it go. A process that dies now leaves "answered, not confirmed"."""
        answer = self._capture.answer()
        if answer is None or self._answered or self._reading(answer) is not Reading.SUCCEEDED or not self._may_say_success():
            return
        try:
            fate = await self._handle.finishing.look()
            if fate is Fate.NONE:
                await keep_answer(self._guard.engine, self._handle.work, kept_form(answer, self._identity.snapshot))
        except (StoreError, LeaseLost):
            return  # then it waits for the end like any other
        if fate in (Fate.NONE, Fate.COMMITTED):
            await self._give_once(answer)

    async def _answer_at_deadline(self) -> None:
        """Nobody waits longer than the rule's deadline; the run goes on, and the status page follows it."""
        if not self._capture.live:
            await self._give_once(self._exchange._teller.record(self._handle.work.operation, *self._to, at_work=True))

    async def _give_once(self, answer: HandlerAnswer) -> None:
        if not self._answered:
            self._answered = True
            await self._exchange._say(answer)

    def _may_say_success(self) -> bool:
        """While nothing is charged yet, what the app does after its answer may be the charge, and be declined."""
        operation, money = self._handle.work.operation, self._handle.money.state
        free = money is MoneyState.NONE and operation.amount_minor == 0
        return operation.charged_by == "shop" or money is MoneyState.CHARGED or free

    def _reading(self, answer: HandlerAnswer | None) -> Reading:
        rule, path, money = self._identity.rule, self._identity.snapshot.path, self._handle.money.state
        return reading_of(answer, cases=rule.cases, charged_by=rule.charged_by, path=path, money=money)

    async def _conclude(self, *, raised: bool) -> None:
        answer = self._capture.answer()
        live = self._capture.live and self._capture.phase is Phase.COMPLETE
        reading = self._reading(HandlerAnswer(self._capture.status) if live else answer)
        stored: StoredAnswer | None = Tombstone(self._capture.status) if live else self._kept_form(answer)
        if raised and reading is not Reading.SUCCEEDED:
            reading = Reading.FAILED
        try:
            told = await end_run(
                self._guard.engine,
                self._handle,
                self._submission.tenor,
                reading=reading,
                answer=stored,
                raised_after=raised and reading is Reading.SUCCEEDED,
            )
        except TransactionOpen as error:
            await self._left_open(error)
        except (LeaseLost, StoreError) as error:
            await self._not_written(error, reading, answer)
        else:
            await self._give(told, answer)

    def _kept_form(self, answer: HandlerAnswer | None) -> StoredAnswer | None:
        return kept_form(answer, self._identity.snapshot) if answer is not None else None

    async def _give(self, told: Told, answer: HandlerAnswer | None) -> None:
        """Send what was concluded, unless the answer has gone already."""
        good = told.instead or answer
        if told.conclusion.say is Say.HANDLER and told.operation.state is State.FINISHED:
            self._exchange._scope[FINISHED_IN_SCOPE] = told.operation
        if self._capture.live:
            await self._capture.finish_live()
        elif self._answered:
            return  # what was told at the deadline is what was told: another answer, though never sent, would be on record
        elif told.conclusion.say is Say.HANDLER and good is not None:
            await self._give_once(good)
        else:
            await self._give_once(await self._corrected(told))

    async def _corrected(self, told: Told) -> HandlerAnswer:
        """Our own answer in the place of the handler's."""
        other = await self._overtaken(told.operation) if told.conclusion.say is Say.NOT_KEPT else None
        return other or self._exchange._teller.concluded(told.conclusion.say, told.operation, *self._to)

    async def _overtaken(self, ended: Operation) -> HandlerAnswer | None:
        """An answer about the order that took the purchase over meanwhile, where *ended* has not charged anything."""
        try:
            other = await overtaker(self._guard, ended, self._submission.fresh.claims)
        except StoreError:
            return self._exchange._teller.situation(Situation.BASKET_BEING_PAID, *self._to)
        return self._exchange._teller.duplicate(other, *self._to) if other is not None else None

    async def _left_open(self, error: TransactionOpen) -> None:
        """The shop's own transaction holds the record, so nobody can say how the order ended, or write it down."""
        _log.error("transaction.left_open", reference=self._handle.reference, why=str(error))
        self._guard.emit("operation.flagged", self._handle.work.operation, why="transaction_open", status=self._capture.status)
        if self._capture.live:
            await self._capture.finish_live()
        elif not self._answered:
            await self._give_once(self._exchange._teller.uncertain(self._handle.work.operation, *self._to))

    async def _not_written(self, error: Exception, reading: Reading, answer: HandlerAnswer | None) -> None:
        """The end could not be written. What we know of the money becomes a note; what we say stays within what we know."""
        _log.warning("end.not_written", error=type(error).__name__, reference=self._handle.reference)
        work = self._handle.work
        asked = self._submission.tenor.ask is not None and doubtful(reading, self._capture.status)
        if work.operation.charged_by == "shop" and not asked:  # else its "no" counts as far as the hook has agreed to it already
            read_shop_charge(work, reading)
        there = await note_late_answers(self._guard.engine, work.operation)
        laid = await self._spooled(error) if there is None and not self._capture.live else None
        if self._capture.live:
            await self._capture.finish_live()
        elif self._answered:
            return
        elif laid is not None:
            await self._give_once(tell_spooled(self._exchange._teller, laid, self._identity))
        elif there is None and answer is not None and reading is Reading.SUCCEEDED and self._is_surely_sold():
            await self._give_once(answer)  # true, though not kept: a retry will be told that it is being looked into
        else:
            known = there or work.operation
            other = await self._overtaken(known) if known.state in ENDED and money_of(known).state is MoneyState.NONE else None
            await self._give_once(other or self._exchange._teller.uncertain(known, *self._to))

    def _is_surely_sold(self) -> bool:
        """Charged, as we know ourselves; and the shop's own writes do not hang on a transaction whose end nobody has seen."""
        finishing = self._handle.finishing
        return self._handle.money.state is MoneyState.CHARGED and finishing.last is None and not finishing.rolled_back

    async def _spooled(self, error: Exception) -> Laid | None:
        """Nothing was sent, for a reason of our own side, and the store is away: the order waits in the spool, under its name."""
        work, handle = self._handle.work, self._handle
        untouched = handle.money.state is MoneyState.NONE and (handle.store_failed or handle.deferral.outage)
        if not untouched or self._identity.resume_token or work.operation.id != self._submission.fresh.id:
            return None
        return await spool_order(self._guard, self._identity, self._submission, error)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then the server's own messages."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
