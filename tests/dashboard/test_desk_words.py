"""The desk's words: where the money is, what happened, and when."""

from __future__ import annotations

import pytest

from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.dashboard.rendering import ago, when
from cxguard.dashboard.words import MONEY_WORDS, STATE_WORDS, money_sentence, outcome_words, send_lines, state_words, timeline, why_words

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


def record(*sends: Send, state: State = State.HELD, **members: object) -> Operation:
    names = dict.fromkeys(("id", "namespace", "rule", "owner", "reference", "fingerprint"), "x")
    base = {"created_at": NOW - 60, "updated_at": NOW, "amount_minor": 4999, "currency": "EUR", "kept": True} | members
    return Operation(**names, state=state, sends=sends, **base)  # type: ignore[arg-type]


def send(outcome: Outcome, key: str = "k", number: int = 1, kind: SendKind = SendKind.CHARGE, of: str | None = None) -> Send:
    return Send(number, "http:shop:live", key, "charge", 1, kind, 4999, "EUR", NOW - 30, outcome=outcome, of=of)


REFUND = {"number": 2, "kind": SendKind.REFUND, "of": "k", "key": "r"}
SENTENCES = [
    (record(state=State.QUEUED), "Surely not charged. €49.99 is to be charged when the order is placed."),
    (record(), "Surely not charged."),
    (record(send(Unknown("?"))), "A charge of €49.99 may have happened. Nothing is charged by another way until that is known."),
    (record(send(Charged(4999, "EUR"))), "€49.99 was charged."),
    (record(send(Charged(4999, "EUR", captured=False))), "€49.99 is reserved, and not taken yet."),
    (record(send(Charged(4999, "EUR")), send(Refunded(1000, "EUR"), **REFUND)), "€49.99 was charged. €10.00 of it went back."),
    (record(send(Charged(4999, "EUR")), send(Unknown("?"), **REFUND)), "€49.99 was charged. A refund is on its way and has no answer yet."),
    (record(send(Charged(4999, "EUR")), send(Refunded(4999, "EUR"), **REFUND)), "€49.99 went back. No charge stands."),
    (record(send(Declined())), "The issuer declined. Nothing was charged."),
    (
        record(send(Charged(4999, "EUR")), send(Charged(4999, "EUR"), key="l", number=2)),
        "€99.98 was charged. 2 charges stand: all but one have to go back.",
    ),
    (record(send(Unknown("?")), amount_minor=None), "A charge may have happened. Nothing is charged by another way until that is known."),
]


@pytest.mark.parametrize(("operation", "sentence"), SENTENCES)
def test_where_the_money_is(operation: Operation, sentence: str) -> None:
    """One or two sentences with exact figures, for every state of the money."""
    assert money_sentence(operation, money_of(operation)) == sentence


def test_every_state_has_a_word() -> None:
    """No state of work or money is shown as a code."""
    assert STATE_WORDS.keys() == set(State)
    assert MONEY_WORDS.keys() == set(MoneyState)


@pytest.mark.parametrize(
    ("waiting_for", "words"),
    [(WaitingFor.AGENT, "Held for a person"), (WaitingFor.SHOPPER, "Held for the shopper"), (WaitingFor.GATEWAY, "Held for the gateway")],
)
def test_held_says_for_whom(waiting_for: WaitingFor, words: str) -> None:
    """A held order names whom it waits for."""
    assert state_words(record(waiting_for=waiting_for)) == words


OUTCOMES = [
    (Charged(4999, "EUR", payment_id="pay_1"), "charged €49.99 (payment pay_1)"),
    (Charged(500, "JPY", captured=False), "reserved ¥500"),
    (Declined(DeclineReason.FUNDS), "declined (funds)"),
    (NotCharged("gateway_down"), "not charged (the gateway was down)"),
    (NeedsShopper("3ds"), "waits for the shopper at the bank"),
    (Unknown("no answer in time"), "no word yet (no answer in time)"),
    (Unknown(""), "no word yet"),
    (Refunded(4999, "EUR", refund_id="re_1"), "gave back €49.99 (refund re_1)"),
    (None, ""),
]


@pytest.mark.parametrize(("outcome", "words"), OUTCOMES)
def test_answers_in_words(outcome: Outcome | None, words: str) -> None:
    """Each outcome reads as a person would say it."""
    assert outcome_words(outcome) == words


def test_unknown_code_is_read_as_it_is() -> None:
    """A reason that the table does not have loses its underscores, and nothing else."""
    assert why_words("a_reason_of_tomorrow") == "a reason of tomorrow"


def test_timeline_is_newest_first_and_whole() -> None:
    """History and facts stand in one line of time; what a person said stands once, with its proof."""
    history = (
        Entry(NOW - 50, "payment.sent", "host:1", {"gateway": "http:shop:live", "kind": "charge", "number": 1}),
        Entry(NOW - 40, "order.held", "host:1", {"why": "charge_unknown"}),
        Entry(NOW - 20, "payment.resolved", "desk:anna", {"reason": "seen", "outcome": "charged"}),
        Entry(NOW - 10, "order.requeued", "desk:anna", {"reason": "go on"}),
    )
    notes = (
        Note("1", NoteKind.OUTCOME, NOW - 20, "desk:anna", gateway_key="k", outcome=Charged(4999, "EUR"), text="seen"),
        Note("2", NoteKind.CANCEL, NOW - 5, "status page"),
        Note("3", NoteKind.SERVED, NOW - 4, "middleware"),
        Note("4", NoteKind.REMARK, NOW - 3, "desk:boris", text="called"),
    )
    lines = [(moment.text, moment.who, moment.quote) for moment in timeline(record(history=history, notes=notes))]
    assert lines == [
        ("Remark", "boris", "called"),
        ("The shopper saw the confirmation page", "", ""),
        ("Cancelling was asked for", "status page", ""),
        ("Put back into the queue", "anna", "go on"),
        ("Said at the desk: charged €49.99", "anna", "seen"),
        ("Held: the charge has no answer", "", ""),
        ("Charge sent to http:shop:live (send 1)", "", ""),
        ("Order opened", "", ""),
    ]


def test_event_of_a_newer_version_is_still_a_line() -> None:
    """An event that the desk has no words for reads as its name."""
    moments = timeline(record(history=(Entry(NOW, "order.teleported"),)))
    assert moments[0].text == "Order teleported"


def test_open_sends_are_marked() -> None:
    """A call without an answer stands out among the others."""
    assert [line.open for line in send_lines((send(Unknown("?")), send(Declined(), number=2)))] == [True, False]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NOW, "0 s ago"),
        (NOW - 59, "59 s ago"),
        (NOW - 61, "1 min ago"),
        (NOW - 7_300, "2 h ago"),
        (NOW - 90_000, "1 day ago"),
        (NOW + 61, "in 1 min"),
        (None, "–"),
    ],
)
def test_how_long_ago(at: float | None, words: str) -> None:
    """One unit is enough to see what is urgent."""
    assert ago(at, NOW) == words


def test_moments_are_short_and_exact() -> None:
    """A moment of today has seconds, one of another day its date; the machine-readable time is whole."""
    assert when(NOW - 1, NOW) == '<time datetime="2027-01-15T07:59:59Z">07:59:59</time>'
    assert when(NOW - 86_400, NOW) == '<time datetime="2027-01-14T08:00:00Z">14 Jan 08:00</time>'
