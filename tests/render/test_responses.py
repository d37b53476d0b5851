"""Answers on the wire: problem documents, pages and GraphQL, with the headers that each of them owes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from shown_orders import NOW, REFERENCE, RENDERER, URL

from cxguard.core.answer import SPECS, About, Answer, Audience, Medium, MoneyTold, Situation, Telling, answer_for, status_for
from cxguard.render.html import CONFIRM_FIELD, confirm_form, web_address
from cxguard.render.rendered import Rendered, see_other
from cxguard.render.renderer import Renderer
from cxguard.rules.shop import Shop

PLAIN = Telling(Medium.JSON)
READS = Telling(Medium.JSON, reads_202=True)
PAGE = Telling(Medium.HTML)
GRAPHQL = Telling(Medium.GRAPHQL)
ABOUT = About(reference=REFERENCE, status_url=URL, next_update_at=NOW + 900, amount_minor=4999, currency="EUR")
MEMBERS = {"situation", "reference", "money", "order_saved", "safe_to_retry", "status_url", "next_update_by", "contact", "message"}


def render(answer: Answer, telling: Telling, **more: Any) -> Rendered:
    return RENDERER.render(answer, telling, now=NOW, **more)


def document(rendered: Rendered) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(rendered.body)
    return read


@pytest.mark.parametrize("telling", [PLAIN, READS, PAGE, GRAPHQL])
@pytest.mark.parametrize("situation", Situation)
def test_every_answer_has_the_headers_of_all(situation: Situation, telling: Telling) -> None:
    """No answer of ours is stored or indexed; those with a body name their length and language."""
    rendered = render(answer_for(situation, ABOUT), telling)
    assert rendered.header("cache-control") == "no-store"
    assert rendered.header("x-robots-tag") == "noindex"
    names = [name for name, _ in rendered.headers]
    assert len(names) == len(set(names))
    assert rendered.header("content-length") == str(len(rendered.body))
    if rendered.status != 303:
        assert rendered.header("content-language") == "en"
        assert rendered.header("x-content-type-options") == "nosniff"
        assert rendered.header("referrer-policy") == "no-referrer"
        after = SPECS[situation].retry_after_seconds
        assert rendered.header("retry-after") == (None if after is None else str(after))


@pytest.mark.parametrize("telling", [PLAIN, READS])
@pytest.mark.parametrize("situation", Situation)
def test_json_has_the_same_members_for_errors_and_others(situation: Situation, telling: Telling) -> None:
    """An error is a problem document of RFC 9457, the rest plain JSON, both with all our members."""
    answer = answer_for(situation, ABOUT)
    rendered = render(answer, telling)
    read = document(rendered)
    assert rendered.status == status_for(answer, telling) == read["status"]
    assert rendered.header("content-type") == ("application/problem+json" if rendered.status >= 400 else "application/json")
    assert read.keys() >= MEMBERS | {"type", "title", "status", "detail"}
    assert read["type"] == f"urn:cxguard:problem:{SPECS[situation].problem}"
    assert read["message"] == f"{situation.value}@1"
    assert read["money"] == (answer.money.value if answer.money else None)


def test_a_kept_order_in_full() -> None:
    """The document of a kept order, member by member."""
    assert document(render(answer_for(Situation.KEPT, ABOUT), READS)) | {"detail": ""} == {
        "type": "urn:cxguard:problem:kept",
        "title": "Your order is saved. You have not been charged yet",
        "status": 202,
        "detail": "",
        "situation": "kept",
        "reference": REFERENCE,
        "money": "not_charged",
        "order_saved": True,
        "safe_to_retry": False,
        "status_url": URL,
        "next_update_by": "2026-11-22T21:45:00Z",
        "contact": {"phone": "+44 20 7946 0000", "hours": "9-18", "email": "help@fern.example"},
        "message": "kept@1",
    }


def test_unknown_to_a_plain_client_is_a_409_that_says_so() -> None:
    """A client that was not made for us gets an error status with the whole truth in it."""
    rendered = render(answer_for(Situation.UNKNOWN, ABOUT), PLAIN)
    assert (rendered.status, document(rendered)["money"]) == (409, "unknown")
    assert "do not pay again" in document(rendered)["detail"]


def test_the_language_is_the_requests() -> None:
    """Title and text follow `Accept-Language`, in every medium."""
    for telling in (PLAIN, GRAPHQL, PAGE):
        rendered = render(answer_for(Situation.NOT_KEPT), telling, accept_language="de-AT")
        assert rendered.header("content-language") == "de"
        assert "Wir können Ihre Bestellung gerade nicht annehmen" in rendered.body.decode()


def test_a_401_names_a_scheme() -> None:
    """RFC 9110 wants a challenge with every 401."""
    assert render(answer_for(Situation.OWNER_MISSING), PLAIN).header("www-authenticate") == "Session"


@pytest.mark.parametrize("situation", Situation)
def test_graphql_is_a_200_with_the_members_as_extensions(situation: Situation) -> None:
    """A GraphQL client gets null for its field, and an error that carries everything."""
    answer = answer_for(situation, ABOUT)
    rendered = render(answer, GRAPHQL, field="pay")
    read = document(rendered)
    assert (rendered.status, read["data"]) == (200, {"pay": None})
    (error,) = read["errors"]
    assert error["path"] == ["pay"]
    assert error["extensions"].keys() >= MEMBERS | {"code", "type", "title", "status"}
    assert error["extensions"]["code"] == situation.value.upper()
    assert error["extensions"]["status"] == status_for(answer, GRAPHQL)


def test_a_graphql_request_that_was_never_read_has_no_data() -> None:
    """Refused before its field is known: data is null, and clients find the code that they act on."""
    read = document(render(answer_for(Situation.BAD_REQUEST), GRAPHQL, code="PERSISTED_QUERY_NOT_FOUND"))
    assert read["data"] is None
    assert "path" not in read["errors"][0]
    assert read["errors"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize("situation", Situation)
def test_a_browser_is_led_to_the_status_page_or_told_at_once(situation: Situation) -> None:
    """What is on its way or has its end is a 303 to its page; the rest is a page with its status."""
    rendered = render(answer_for(situation, ABOUT), PAGE)
    if (SPECS[situation].status < 300 and situation is not Situation.DUPLICATE) or situation is Situation.IN_FLIGHT:
        assert rendered.status == 303
        assert rendered.header("location") == (f"{URL}?again" if situation is Situation.DUPLICATE_RUNNING else URL)
    else:
        assert rendered.status == SPECS[situation].status
        policy = rendered.header("content-security-policy") or ""
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("situation", Situation)
def test_a_page_has_nothing_inline(situation: Situation) -> None:
    """No inline script, style or handler, and nothing from another host: the policy would stop it."""
    body = render(answer_for(situation, replace(ABOUT, status_url=None)), PAGE).body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", body)
    assert not re.search(r'(src|href|action)="(https?:)?//', body)
    assert "Fern &amp; Co" in body
    assert 'href="tel:+442079460000"' in body


def test_a_machine_never_gets_a_page() -> None:
    """A webhook's sender that accepts HTML is answered in JSON."""
    rendered = render(answer_for(Situation.UNKNOWN, ABOUT), Telling(Medium.HTML, Audience.MACHINE))
    assert (rendered.status, rendered.header("content-type")) == (409, "application/problem+json")


def test_the_duplicate_page_offers_the_order_and_the_second_purchase() -> None:
    """The form is sent again as it was, duplicates kept, with the reference that confirms."""
    form = confirm_form("/pay?x=1", [("item", "1"), ("item", '"><b>'), (CONFIRM_FIELD, "old")], reference=REFERENCE)
    rendered = render(answer_for(Situation.DUPLICATE, replace(ABOUT, minutes=4)), PAGE, confirm=form)
    body = rendered.body.decode()
    assert '<form method="post" action="/pay?x=1">' in body
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', body)
    assert fields == [("item", "1"), ("item", "&#34;&gt;&lt;b&gt;"), (CONFIRM_FIELD, REFERENCE)]
    assert f'href="{URL}"' in body
    assert "from 4 minutes ago" in body
    assert "form-action 'self' https:" in (rendered.header("content-security-policy") or "")


def test_only_a_duplicate_offers_to_buy_again() -> None:
    """A confirmation that came with another answer is not shown."""
    body = render(answer_for(Situation.MISMATCH, ABOUT), PAGE, confirm=confirm_form("/pay", [], reference="x")).body.decode()
    assert "<form" not in body


HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}{shop}[[x]]\u2028"


def test_hostile_text_is_shown_as_text() -> None:
    """Markup, templates and placeholders in any value stay what they are: characters."""
    renderer = Renderer(Shop(name=HOSTILE, phone=HOSTILE, hours=HOSTILE, email=HOSTILE))
    about = About(reference=HOSTILE, currency=HOSTILE, amount_minor=1, hint=HOSTILE, reason=HOSTILE, resume_url="javascript:alert(1)")
    form = confirm_form(HOSTILE, [(HOSTILE, HOSTILE)], reference=HOSTILE)
    for situation in Situation:
        body = renderer.render(answer_for(situation, about, recorded=MoneyTold.UNKNOWN), PAGE, now=NOW, confirm=form).body.decode()
        assert "<script>" not in body
        assert "49}}" not in body
        assert "javascript:" not in body


@pytest.mark.parametrize(
    ("url", "kept"),
    [("https://a/", True), ("/x", True), ("javascript:x", False), (" https://a", False), ("data:x", False), (None, False), ("", False)],
)
def test_links_lead_to_pages_only(url: str, kept: bool) -> None:
    """A link is a web address or a path of this site."""
    assert web_address(url) == (url if kept else None)


@pytest.mark.parametrize("url", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a\r\nset-cookie: x", "/a\\b"])
def test_a_redirect_stays_on_this_site(url: str) -> None:
    """No made-up address sends a shopper elsewhere, or another header along."""
    with pytest.raises(ValueError, match="a path of this site"):
        see_other(url)


def test_the_messages_of_asgi() -> None:
    """A response turns into start and body, with latin-1 header pairs."""
    start, body = see_other("/x").to_asgi()
    assert start["status"] == 303
    assert (b"location", b"/x") in start["headers"]  # type: ignore[operator]
    assert body == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize(("name", "kind"), [("cxguard.css", "text/css; charset=utf-8"), ("status.js", "text/javascript; charset=utf-8")])
def test_assets_are_small_and_may_be_kept(name: str, kind: str) -> None:
    """Style and script are served with their type, and never change under one address."""
    asset = RENDERER.asset(name)
    assert asset is not None
    assert asset.header("content-type") == kind
    assert "immutable" in (asset.header("cache-control") or "")
    assert len(asset.body) < 10_000
    assert b"http" not in asset.body.replace(b"https", b"http") or name == "cxguard.css"


@pytest.mark.parametrize("name", ["", "nothing.css", "../renderer.py", "__init__.py", "/etc/passwd"])
def test_nothing_else_is_served(name: str) -> None:
    """Only the names in the list are assets."""
    assert RENDERER.asset(name) is None


def test_an_unknown_link_says_nothing_about_orders() -> None:
    """Unknown, expired and forged links get one answer, without a word on money."""
    for medium in (Medium.HTML, Medium.JSON):
        rendered = RENDERER.no_such_order(medium=medium, now=NOW)
        assert rendered.status == 404
        assert b"help@fern.example" in rendered.body
    read = document(RENDERER.no_such_order(medium=Medium.JSON, now=NOW))
    assert (read["money"], read["reference"]) == (None, None)
