"""The status page's view: what is shown for each record, as page and as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from shown_orders import NOW, ORDERS, PAID, REFERENCE, RENDERER, URL, order

from cxguard.core.answer import Medium, MoneyTold, Situation
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, Refunded, Unknown
from cxguard.render.status import Extras, Mark, StatusView, Tone, status_view, tone_of

RESERVED = Charged(4999, "EUR", captured=False)
PART = (Note("n2", NoteKind.OUTCOME, NOW, gateway_key="k1", outcome=Charged(3000, "EUR")),)  # so much of it was taken


def view(operation: Operation, extras: Extras | None = None, *, locale: str = "en", now: float = NOW) -> StatusView:
    return status_view(operation, voice=RENDERER.voice, locale=locale, now=now, status_url=URL, extras=extras)


def page(operation: Operation, extras: Extras | None = None, **more: Any) -> str:
    return RENDERER.status(operation, medium=Medium.HTML, status_url=URL, now=NOW, extras=extras, **more).body.decode()


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (order(), "Not charged"),
        (order(Unknown("x")), "Being checked"),
        (order(PAID), "Paid: €49.99"),
        (order(Charged(4999, "EUR", captured=False)), "Reserved, not taken yet: €49.99"),
        (order(PAID, refund=Refunded(1000, "EUR")), "Paid: €49.99. Given back: €10.00"),
        (order(PAID, refund=Refunded(4999, "EUR"), state=State.CANCELLED), "Given back: €49.99"),
        (order(RESERVED, notes=PART, refund=Refunded(1000, "EUR")), "Paid: €30.00. Given back: €10.00"),
        (order(RESERVED, notes=PART, refund=Refunded(4000, "EUR")), "Paid: €49.99. Given back: €40.00"),
        (order(Declined(), state=State.FINISHED), "Not charged"),
        (order(state=State.RUNNING), "Being checked"),
        (order(Charged(500, "JPY")), "Paid: ¥500"),
    ],
)
def test_the_money_line_says_where_the_money_is(operation: Operation, line: str) -> None:
    """One line with exact amounts, from the folded money and not from what was asked for."""
    assert view(operation).money_line == line


@pytest.mark.parametrize("refund", [None, Refunded(4999, "EUR")])
def test_the_money_line_of_an_older_copy_says_that_it_is_being_checked(refund: Refunded | None) -> None:
    """What it knows may be undone since: beside "your payment is being checked" no line says that it is paid, or back."""
    assert view(order(PAID, refund=refund), Extras(doubted=True)).money_line == "Being checked"


@pytest.mark.parametrize("name", ORDERS)
def test_the_view_agrees_with_itself(name: str) -> None:
    """Paid is green, unknown warns, and what is final neither promises news nor offers to cancel."""
    shown = view(*ORDERS[name])
    assert shown.warns is (shown.answer.money is MoneyTold.UNKNOWN)
    if shown.final:
        assert shown.next_update is None
        assert not shown.can_cancel
    assert (shown.tone is Tone.GOOD) <= (shown.answer.money is MoneyTold.CHARGED)
    assert len(shown.steps) in (0, 3)


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("kept", [Mark.DONE, Mark.COMING, Mark.COMING]),
        ("unknown", [Mark.DONE, Mark.NOW, Mark.COMING]),
        ("unfinished", [Mark.DONE, Mark.DONE, Mark.NOW]),
        ("placed", [Mark.DONE, Mark.DONE, Mark.DONE]),
        ("cancelled", [Mark.DONE, Mark.STOPPED, Mark.DONE]),
        ("refunded", []),
    ],
)
def test_the_steps_show_how_far_it_is(name: str, marks: list[Mark]) -> None:
    """Received, paid, placed: each done, in progress, to come or stopped."""
    assert [mark for _, mark in view(*ORDERS[name]).steps] == marks


@pytest.mark.parametrize("situation", Situation)
def test_every_situation_has_a_tone(situation: Situation) -> None:
    """Only what is paid is green, and only what went wrong is red."""
    tone = tone_of(situation)
    assert (tone is Tone.BAD) <= (situation.value in _WENT_WRONG)


_WENT_WRONG = {
    *("declined", "not_kept", "key_missing", "key_malformed", "bad_request", "body_too_large"),
    *("body_too_slow", "owner_missing", "store_away", "no_such_order"),
}


def test_the_revision_changes_with_what_is_shown() -> None:
    """The page's script looks at one mark: it is the same as long as nothing that one reads has changed."""
    assert view(order()).revision == view(order(), now=NOW + 60).revision
    assert view(order()).revision != view(order(PAID)).revision
    assert view(order()).revision != view(order(), locale="de").revision


def test_a_promise_that_has_passed_is_not_repeated() -> None:
    """A kept order's end, and our next word, are named while they lie ahead."""
    soon = Extras(next_update_at=NOW + 900)
    assert "by 23:30 UTC, the order ends and you will not be charged" in view(order()).words.detail
    assert "21:45 UTC" in str(view(order(), soon).next_update)
    late = view(order(), soon, now=NOW + 7201)
    assert late.next_update is None
    assert "UTC" not in late.words.detail


def test_the_pages_assets_follow_the_mount() -> None:
    """Under a `root_path`, style and script are looked for below it."""
    body = RENDERER.status(order(), medium=Medium.HTML, status_url=URL, now=NOW, root="/shop").body.decode()
    assert re.findall(r'(?:href|src)="(/[^"?]*)\?v=', body) == ["/shop/_cxguard/assets/cxguard.css", "/shop/_cxguard/assets/status.js"]


def test_the_page_has_all_that_a_shopper_needs() -> None:
    """State, money, reference, contact, progress, cancel and the question are on the page of a kept order."""
    body = page(*ORDERS["kept"])
    for needed in (REFERENCE, "Not charged", "€49.99", "+44 20 7946 0000", "help@fern.example", "not confirmed yet"):
        assert needed in body
    assert 'aria-current="step"' not in body
    assert 'aria-current="step"' in page(*ORDERS["unknown"])
    assert f'<form method="post" action="{URL}/cancel">' in body
    assert f'href="{URL}?say#say"' in body
    assert "You sent this order once more" in body
    assert '<time datetime="2026-11-22T23:30:00Z">23:30 UTC</time>' in body
    assert '<meta name="robots" content="noindex">' in body


@pytest.mark.parametrize("name", ORDERS)
def test_without_scripts_the_page_reloads_until_the_end(name: str) -> None:
    """Only while something may change, and never while the shopper is writing."""
    operation, extras = ORDERS[name]
    body = page(operation, extras)
    reloads = re.search(r'<noscript><meta http-equiv="refresh" content="\d+"></noscript>', body) is not None
    assert reloads is (name not in ("placed", "cancelled", "refunded", "saying"))


def test_the_question_is_a_form() -> None:
    """Choices and a short text, sent to the order's own address."""
    body = page(*ORDERS["saying"])
    assert f'<form method="post" action="{URL}/say">' in body
    assert re.findall(r'name="what" value="(\w+)"', body) == ["error", "slow", "unsure", "twice", "other"]
    assert 'maxlength="500"' in body
    assert "Thank you" in page(*ORDERS["said"])


def test_links_that_the_edge_gives_are_shown() -> None:
    """The step at the bank and the shop's own answer are buttons."""
    assert '<a class="button" href="https://bank.example/step">' in page(*ORDERS["bank"])
    assert f'<a class="button" href="{URL}/answer">' in page(*ORDERS["placed"])
    assert "javascript:" not in page(order(), Extras(resume_url="javascript:alert(1)"))


def test_the_page_speaks_the_requests_language_or_the_orders() -> None:
    """`Accept-Language` goes first; without one, the language that the order was made in."""
    assert '<html lang="fr">' in page(order(locale="de"), accept_language="fr")
    assert '<html lang="de">' in page(order(locale="de"))


@pytest.mark.parametrize("name", ORDERS)
def test_the_same_as_json(name: str) -> None:
    """A program gets the state with 200, whatever it is, and the addresses that the page links to."""
    operation, extras = ORDERS[name]
    rendered = RENDERER.status(operation, medium=Medium.JSON, status_url=URL, now=NOW, extras=extras)
    read = json.loads(rendered.body)
    shown = view(operation, extras)
    assert (rendered.status, rendered.header("content-type"), rendered.header("cache-control")) == (200, "application/json", "no-store")
    assert (read["situation"], read["final"], read["revision"]) == (shown.answer.situation, shown.final, shown.revision)
    assert (read["reference"], read["money_line"]) == (REFERENCE, shown.money_line)
    assert (read["cancel_url"] == f"{URL}/cancel") is shown.can_cancel
