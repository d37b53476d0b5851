"""What the guard itself says in answer to one request: from record or situation to a whole response."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from cxguard.asgi.types import Scope
from cxguard.core.answer import (
    About,
    Answer,
    MoneyTold,
    Situation,
    Telling,
    answer_for,
)
from cxguard.core.asks import asked_words
from cxguard.core.cards import carries_card
from cxguard.core.conclude import Say
from cxguard.core.decide import Do
from cxguard.core.money import MoneyState
from cxguard.core.notices import PROMISE_SECONDS
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.outcomes import Declined, NeedsShopper
from cxguard.core.reading import HandlerAnswer
from cxguard.core.refusal import answer_for_refusal
from cxguard.core.situation import money_told_of, situation_of_operation
from cxguard.core.snapshot import Snapshot, mount_of
from cxguard.core.spooling import spooled_money, spooled_situation
from cxguard.engine.cold import open_answer
from cxguard.engine.courier import STATUS_PURPOSE
from cxguard.engine.entering import Begun
from cxguard.engine.resume_links import resume_url
from cxguard.errors import BadRequest, HiddenMutation, SealError
from cxguard.guard import Guard
from cxguard.render.html import Confirm, confirm_form
from cxguard.render.rendered import Rendered, for_htmx
from cxguard.render.renderer import Renderer

SPOOLED_PURPOSE = "status of a spooled order"  # and of one that no other machine knows until it is forwarded
NEXT_UPDATE_SECONDS = PROMISE_SECONDS  # we promise to have looked by then, and the page says more whenever there is more
TOLD_IN_SCOPE = "cxguard.told"  # our own answer, for whoever counts what shoppers were told
FINISHED_IN_SCOPE = "cxguard.finished"  # the record that a handler's answer finished

REPLAYED = (b"idempotency-replayed", b"true")


class Teller:
    """Says what there is to say to one request."""

    def __init__(self, guard: Guard, renderer: Renderer, scope: Scope) -> None:
        self._guard = guard
        self._renderer = renderer
        self._scope = scope
        self._root = mount_of(scope)  # as it came: a mount inside the app writes its own into the same scope

    def refusal(self, error: BadRequest, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """A request that was refused before anything was opened."""
        answer = answer_for_refusal(error, specs=self._guard.specs)
        code = error.graphql_code if isinstance(error, HiddenMutation) else ""
        return self._say(answer, telling, snapshot, code=code)

    def situation(self, situation: Situation, telling: Telling, snapshot: Snapshot, operation: Operation | None = None) -> HandlerAnswer:
        """One row of the table, about *operation* if it is about one."""
        about = self.about(operation) if operation is not None else About()
        if situation is Situation.NOT_KEPT:
            about = About()  # the order is not kept: nothing has a reference or a page
        recorded = self._recorded(operation) if operation is not None else None
        answer = answer_for(situation, about, recorded=recorded, specs=self._guard.specs)
        return self._say(answer, telling, snapshot)

    def begun(self, begun: Begun, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """What a submit that is not run is told: a replay, a situation, or what the record says."""
        operation = begun.operation
        match begun.do:
            case Do.REPLAY:
                return self.replay(operation, telling, snapshot)
            case Do.MISMATCH:
                return self.situation(Situation.MISMATCH, telling, snapshot, operation)
            case Do.FOREIGN:
                return self.situation(Situation.BASKET_BEING_PAID, telling, snapshot)
            case Do.WAIT:
                return self.situation(Situation.IN_FLIGHT, telling, snapshot, operation)
            case Do.DUPLICATE:
                return self.duplicate(operation, telling, snapshot)
            case _ if begun.say is Say.NOT_KEPT:
                return self.situation(Situation.NOT_KEPT, telling, snapshot, operation)
            case _:
                return self.record(operation, telling, snapshot)

    def concluded(self, say: Say, operation: Operation, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """Our own answer in the place of the handler's, after a run."""
        match say:
            case Say.NOT_KEPT:
                return self.situation(Situation.NOT_KEPT, telling, snapshot, operation)
            case Say.DECLINED:
                return self.situation(Situation.DECLINED, telling, snapshot, operation)
            case _:
                return self.record(operation, telling, snapshot)

    def record(self, operation: Operation, telling: Telling, snapshot: Snapshot, *, at_work: bool = False) -> HandlerAnswer:
        """What the record says of itself."""
        doubted = self._guard.engine.epochs.doubts(operation)
        situation = situation_of_operation(operation, at_work=at_work, doubted=doubted)
        about = replace(self.about(operation), resume_url=self._resume_url(operation))
        recorded = money_told_of(operation, doubted=doubted)
        return self._say(answer_for(situation, about, recorded=recorded, specs=self._guard.specs), telling, snapshot)

    def uncertain(self, operation: Operation, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """The end of a run could not be written: say no more than what the record, or our own doubt, allows."""
        if operation.lease is not None or operation.state is State.RUNNING:
            paid = money_of(operation).state is MoneyState.CHARGED and not self._guard.engine.epochs.doubts(operation)
            return self.situation(Situation.PAID_UNFINISHED if paid else Situation.UNKNOWN, telling, snapshot, operation)
        return self.record(operation, telling, snapshot)

    def spooled(self, operation: Operation, telling: Telling, snapshot: Snapshot, *, situation: Situation | None = None) -> HandlerAnswer:
        """What is told of an order in the spool: it is saved, and what an earlier submit did is not known."""
        said = situation or spooled_situation(operation) or Situation.STORE_AWAY
        minutes = max(1, round((self._guard.clock.now() - operation.created_at) / 60))
        about = replace(self.about(operation, link=SPOOLED_PURPOSE), minutes=minutes)
        return self._say(answer_for(said, about, recorded=spooled_money(operation), specs=self._guard.specs), telling, snapshot)

    def duplicate(self, operation: Operation, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """The same purchase under another key: here is the order that it looks like."""
        recorded = self._recorded(operation)
        ended = operation.state is State.FINISHED and recorded is MoneyTold.CHARGED  # not of one that is being given back
        minutes = max(1, round((self._guard.clock.now() - operation.created_at) / 60))
        about = replace(self.about(operation), minutes=minutes)
        situation = Situation.DUPLICATE if ended else Situation.DUPLICATE_RUNNING
        return self._say(answer_for(situation, about, recorded=recorded, specs=self._guard.specs), telling, snapshot)

    def replay(self, operation: Operation, telling: Telling, snapshot: Snapshot) -> HandlerAnswer:
        """The stored answer once more; where only the fact of it was kept, the record's own words."""
        try:
            stored = open_answer(self._guard.engine.seal, operation)
        except SealError:
            stored = None  # its key is gone: the record still says what became of the order
        if not isinstance(stored, HandlerAnswer):
            return self.record(operation, telling, snapshot)
        self._scope[FINISHED_IN_SCOPE] = operation
        return replace(stored, headers=(*stored.headers, REPLAYED))

    def _recorded(self, operation: Operation) -> MoneyTold:
        return money_told_of(operation, doubted=self._guard.engine.epochs.doubts(operation))

    def about(self, operation: Operation, *, link: str = STATUS_PURPOSE) -> About:
        """What an answer can say about an order."""
        return About(
            reference=operation.reference,
            status_url=self.status_url(operation, link=link),
            next_update_at=next_update_at(operation),
            ends_at=operation.give_up_at,
            amount_minor=operation.amount_minor,
            currency=operation.currency,
            reason=asked_words(operation) or decline_reason(operation),
        )

    def _resume_url(self, operation: Operation) -> str | None:
        """Where the shopper goes on with an order that waits for them."""
        return bank_url(operation) or resume_url(self._guard.engine, self._guard.matcher.by_name(operation.rule), operation)

    def status_url(self, operation: Operation, *, link: str = STATUS_PURPOSE) -> str:
        """The order's status page: a path with an unguessable signed token."""
        seconds = self._guard.settings.link_seconds
        token = self._guard.engine.seal.sign_link(operation.id, now=self._guard.clock.now(), seconds=seconds, purpose=link)
        return f"{self._root}{self._guard.prefix}/orders/{token}"

    def _say(self, answer: Answer, telling: Telling, snapshot: Snapshot, *, code: str = "") -> HandlerAnswer:
        self._scope[TOLD_IN_SCOPE] = answer
        rendered = self._renderer.render(
            answer,
            telling,
            accept_language=accept_language(snapshot),
            now=self._guard.clock.now(),
            confirm=_confirm(answer, snapshot),
            code=code,
            root=self._root,
        )
        return as_answer(for_htmx(rendered) if snapshot.is_htmx else rendered)


def accept_language(snapshot: Snapshot) -> str:
    """The header; with several, as one list."""
    return ",".join(snapshot.header_all("accept-language"))


def _confirm(answer: Answer, snapshot: Snapshot) -> Confirm | None:
    """The shopper's own form once more, for "buy it again". Only plain forms can be sent back by a page, and no card in it."""
    if answer.situation is not Situation.DUPLICATE or not answer.about.reference:
        return None
    plain = snapshot.content_type.media_type == "application/x-www-form-urlencoded"
    if not plain or carries_card(snapshot) is not None:
        return None
    action = quote("/" + snapshot.path.lstrip("/\\")) + (f"?{snapshot.query}" if snapshot.query else "")  # of this site, whatever the path
    return confirm_form(action, snapshot.form().fields, reference=answer.about.reference)


def bank_url(operation: Operation) -> str | None:
    """The one more step at the bank, while the payment that waits for it is alive, and wanted."""
    alive = () if operation.cancel_asked else money_of(operation).unknown_keys
    told = [send.outcome for send in operation.sends if send.key in alive]
    told += [note.outcome for note in operation.notes if note.outcome is not None and note.gateway_key in alive]
    waiting = [outcome for outcome in told if isinstance(outcome, NeedsShopper)]
    return waiting[-1].resume_url or None if waiting else None


def decline_reason(operation: Operation) -> str:
    """The class of the issuer's latest no, for the wording."""
    own = [send.outcome for send in operation.sends if send.generation == operation.generation]
    noted = [note.outcome for note in operation.notes]
    return next((outcome.reason.value for outcome in reversed(own + noted) if isinstance(outcome, Declined)), "")


def next_update_at(operation: Operation) -> float | None:
    """By when the shopper hears from us: counted from the last change, so that a reload does not move the promise."""
    if operation.state in (State.FINISHED, State.CANCELLED):
        return None
    soon = operation.updated_at + NEXT_UPDATE_SECONDS
    return min(soon, operation.give_up_at) if operation.give_up_at is not None else soon


def as_answer(rendered: Rendered) -> HandlerAnswer:
    """A rendered response as the exchange sends it."""
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in rendered.headers)
    return HandlerAnswer(status=rendered.status, headers=headers, body=rendered.body)
