"""One order's page: everything that is known about it, and what this person may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from cxguard.core.desk import Action, Hands, Said, keys_for, sayable
from cxguard.core.money import Money, MoneyState
from cxguard.core.operation import Operation, money_of
from cxguard.core.reading import HandlerAnswer
from cxguard.dashboard.reading import name_of
from cxguard.dashboard.words import MAY_BE_OLDER, Moment, SendLine, amount_words, money_sentence, send_lines, timeline
from cxguard.engine.casefile import CaseFile
from cxguard.engine.cold import KeptResult, open_answer, open_member
from cxguard.engine.engine import Engine
from cxguard.errors import SealError
from cxguard.render.renderer import Renderer
from cxguard.render.status import Extras, status_view

SAID_WORDS: Mapping[Said, str] = {
    Said.CHARGED: "It was charged",
    Said.DECLINED: "The issuer declined it",
    Said.NOT_CHARGED: "Surely not charged: no payment is there, and none can come",
    Said.REFUNDED: "The money went back",
}
ACTION_WORDS: Mapping[Action, str] = {
    Action.TAKE: "Take in hand",
    Action.GIVE_BACK: "Give back",
    Action.REQUEUE: "Put back into the queue",
    Action.RESOLVE: "Say what became of the payment",
    Action.FINISH: "Mark as placed",
    Action.CANCEL: "Cancel the order",
    Action.REMARK: "Write a remark",
}
ORDER_OF_ACTIONS = (Action.TAKE, Action.GIVE_BACK, Action.RESOLVE, Action.REQUEUE, Action.FINISH, Action.CANCEL, Action.REMARK)


@dataclass(frozen=True, slots=True)
class Told:
    """What the shopper's own page says, in the shopper's language."""

    situation: str
    label: str
    title: str
    paragraphs: tuple[Markup, ...]
    locale: str


@dataclass(frozen=True, slots=True)
class Button:
    """One action: offered, or why not. `needs_why`: it takes a reason."""

    action: Action
    title: str
    says: str
    allowed: bool
    needs_why: bool


@dataclass(frozen=True, slots=True)
class OrderPage:
    """All that the page shows."""

    file: CaseFile
    name: str
    operation: Operation
    money: Money
    money_line: str
    figures: tuple[tuple[str, str], ...]
    told: Told
    moments: tuple[Moment, ...]
    sends: tuple[SendLine, ...]
    buttons: tuple[Button, ...]
    words_to_say: tuple[tuple[Said, str], ...]
    keys: tuple[str, ...]
    amount: str
    contact: str
    answer: str
    now: float
    mine: bool = field(default=False)

    @property
    def money_told(self) -> MoneyState:
        """Where the money is, as far as anybody may be told."""
        return MoneyState.UNKNOWN if self.file.doubted else self.money.state


def order_page(file: CaseFile, *, engine: Engine, renderer: Renderer) -> OrderPage:
    """The page of one order, as one person sees it."""
    operation = file.operation
    money = money_of(operation)
    can_say = sayable(file.case)
    return OrderPage(
        file=file,
        name=name_of(operation),
        operation=operation,
        money=money,
        money_line=MAY_BE_OLDER if file.doubted else money_sentence(operation, money),
        figures=_figures(operation, money),
        told=_told(file, renderer),
        moments=timeline(operation),
        sends=send_lines(operation.sends),
        buttons=tuple(_button(file, action) for action in ORDER_OF_ACTIONS),
        words_to_say=tuple((said, SAID_WORDS[said]) for said in can_say),
        keys=keys_for(operation, can_say[0]) if can_say else (),
        amount=amount_words(operation.amount_minor, operation.currency),
        contact=_contact(engine, operation),
        answer=_answer(engine, operation),
        now=file.now,
        mine=file.case.hands is Hands.MINE,
    )


def _button(file: CaseFile, action: Action) -> Button:
    offer = file.offers[action]
    return Button(action, ACTION_WORDS[action], offer.says, offer.allowed, needs_why=action is not Action.GIVE_BACK)


def _figures(operation: Operation, money: Money) -> tuple[tuple[str, str], ...]:
    currency = money.currency or operation.currency
    figures = (
        ("Accepted", operation.amount_minor),
        ("Reserved", money.authorised_minor or None),
        ("Charged", money.captured_minor or None),
        ("Given back", money.refunded_minor or None),
    )
    return tuple((label, amount_words(amount, currency)) for label, amount in figures if amount is not None)


def _told(file: CaseFile, renderer: Renderer) -> Told:
    operation = file.operation
    locale = renderer.locale(operation.locale)
    extras = Extras(at_work=file.case.hands is not Hands.NOBODY, doubted=file.doubted)
    view = status_view(operation, voice=renderer.voice, locale=locale, now=file.now, status_url="", extras=extras, specs=renderer.specs)
    words = view.words
    return Told(view.answer.situation.value.replace("_", " "), words.label, words.title, words.paragraphs, words.locale)


def _contact(engine: Engine, operation: Operation) -> str:
    """How the shopper can be reached, opened for this page only."""
    if operation.contact is None:
        return ""
    try:
        return open_member(engine.seal, operation, "contact", operation.contact).decode("utf-8", "replace")
    except SealError as error:
        return f"cannot be read here: {error}"


def _answer(engine: Engine, operation: Operation) -> str:
    """What kind of answer is stored; never the answer itself, which is the shopper's."""
    try:
        stored = open_answer(engine.seal, operation)
    except (SealError, ValueError) as error:
        return f"cannot be read here: {error}"
    match stored:
        case None:
            return ""
        case HandlerAnswer():
            return f"HTTP {stored.status}, {len(stored.body):,} bytes"
        case KeptResult():
            return "the result of a function"
        case _:
            return f"HTTP {stored.status}, passed live and not kept"
