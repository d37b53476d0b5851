"""Wild signatures: of links, sessions, webhooks and sign-ins only the right one counts, and no other breaks anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import string
import time
from typing import Any

import pytest
from fuzz_budget import thrown
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import TimestampSigner
from shopworld import KEYS
from starlette.requests import Request

from cxguard.core.outcomes import Charged
from cxguard.core.snapshot import Snapshot
from cxguard.dashboard import BasicAuth, password_hash
from cxguard.errors import WebhookRefused
from cxguard.gateways.base import Charge
from cxguard.gateways.http_answers import HttpAnswer, HttpMapping, read_capture, read_charge, read_list, read_look_up, read_refund
from cxguard.gateways.stripe import StripeGateway
from cxguard.rules import Arrival
from cxguard.rules.owners import signed_session
from cxguard.seal import Seal

SECRET = "a secret of the tests"
NOW = 1_800_000_000.0
letters = st.sampled_from(string.ascii_letters + string.digits + "-_.:=+/ ;,\xe9\xff\x00")
edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.text(letters, max_size=3)), min_size=1, max_size=3)


def edited(text: str, changes: list[tuple[int, int, str]]) -> str:
    """*text* with some letters changed, lost or put in."""
    for at, length, instead in changes:
        at %= len(text) + 1
        text = text[:at] + instead + text[at + length :]
    return text


@thrown(300)
@given(edits)
def test_only_a_links_own_letters_open_it(changes: list[tuple[int, int, str]]) -> None:
    """Any other writing of a token reads as none, and raises nothing."""
    seal = Seal(KEYS)
    token = seal.sign_token("a" * 64, expires_at=NOW + 60, purpose="status")
    other = edited(token, changes)
    assert seal.read_token(other, now=NOW, purpose="status") == ("a" * 64 if other == token else None)


def session(cookie: str, framework: str = "starlette") -> Any:
    """Whose session the cookie is."""
    name = "sessionid" if framework == "django" else "session"
    snapshot = Snapshot("POST", "/pay", "", (("cookie", f"{name}={cookie}"),), b"")
    return signed_session("visitor_id", secret=SECRET, framework=framework).read(Arrival(snapshot))


SIGNED = TimestampSigner(SECRET).sign(base64.b64encode(json.dumps({"visitor_id": "ann"}).encode())).decode()


@thrown(300)
@given(edits)
def test_a_changed_session_is_nobodys(changes: list[tuple[int, int, str]]) -> None:
    """Of a cookie that is not letter by letter the signed one nothing is read; no framework's reader raises."""
    other = edited(SIGNED, changes)
    assert session(SIGNED) == "ann"
    if ";" not in other and other.strip() != SIGNED:
        assert session(other) is None
    for framework in ("django", "quart"):
        assert session(other, framework) is None


@thrown(100)
@given(st.binary(max_size=40), st.sampled_from(["", "."]))
def test_a_signed_session_of_any_content_is_read_or_nobodys(content: bytes, packed: str) -> None:
    """Whoever has the secret may have signed anything: rubbish, packed or not, is nobody's."""
    payload = packed.encode() + base64.urlsafe_b64encode(content)
    found = session(TimestampSigner(SECRET).sign(payload).decode())
    assert found is None or isinstance(found, str | int)


def signature_of(body: bytes, at: int) -> str:
    return hmac.new(b"whsec_1", f"{at}.".encode() + body, hashlib.sha256).hexdigest()


@thrown(200)
@given(edits, st.sampled_from(["t={t},v1={s}", "v1={s},t={t}", "t={t},v1={s},v1=x", "t={t}", "v1={s}", "t=x,v1={s}", "t={t},v1=é"]))
def test_a_webhook_with_any_other_signature_is_refused(changes: list[tuple[int, int, str]], form: str) -> None:
    """Changed, halved, not even ASCII: refused, and never an error of another kind."""
    gateway = StripeGateway("stripe:shop:test", api_key="sk_test_1", webhook_secret="whsec_1")
    body, at = b'{"type":"payment_intent.succeeded"}', int(time.time())
    good = f"t={at},v1={signature_of(body, at)}"
    assert gateway.read_webhook(body, {"stripe-signature": good}) is None, "an event of ours it is not"
    told = edited(form.format(t=at, s=signature_of(body, at)), changes)
    if signature_of(body, at) not in told or str(at) not in told:
        with pytest.raises(WebhookRefused):
            gateway.read_webhook(body, {"stripe-signature": told})
    with pytest.raises(WebhookRefused):
        gateway.read_webhook(body + b" ", {"Stripe-Signature": good})


DOOR = BasicAuth({"anna": password_hash("right")})


def asked(header: bytes) -> str | None:
    request = Request({"type": "http", "headers": [(b"authorization", header)]})
    return asyncio.run(DOOR(request))


@thrown(15)  # a guess costs what guesses ought to cost
@given(st.binary(max_size=30) | st.sampled_from([b"anna:wrong", b"anna", b"", b":", b"anna:right\x00", "anna:é".encode()]), st.booleans())
def test_no_other_sign_in_opens_the_desk(credentials: bytes, wrapped: bool) -> None:
    """Whatever stands in the header: nobody, unless it is the right name with its password."""
    header = b"Basic " + (base64.b64encode(credentials) if wrapped else credentials)
    assert asked(header) == ("anna" if wrapped and credentials == b"anna:right" else None)


CHARGE = Charge(1000, "EUR", source="tok_ok")


@thrown(150)
@given(st.text(max_size=12) | st.sampled_from(["-1", "1e9", "nan", "inf", "9" * 400, "１２", "Wed, 21 Oct 2099 07:28:00 GMT", "0"]))
def test_any_retry_after_of_a_gateway_is_a_pause_or_none(retry_after: str) -> None:
    """What asks for silence is no reason to be silent for ever."""
    answer = HttpAnswer(429, b"{}", retry_after)
    outcome = read_charge(answer, asked=CHARGE, key="k", mapping=HttpMapping(refuses_before_working=frozenset({429})))
    pause = getattr(outcome, "retry_after_seconds", None)
    assert pause is None or 0 <= pause <= 86_400


ODD = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=6) | st.just([]) | st.just({})
PAID = {"status": "succeeded", "id": "p1", "amount_minor": 1000, "currency": "EUR", "key": "k", "created_at": 5, "metadata": {}}


MEMBERS = [*PAID, "error", "resume_url", "decline_code"]


@thrown(250)
@given(st.dictionaries(st.sampled_from(MEMBERS), ODD, max_size=3), st.sampled_from([200, 201, 402, 404, 409]))
def test_no_answer_of_a_gateway_breaks_its_reader(wild: dict[str, Any], status: int) -> None:
    """Members of any kind: charged only where amount, currency and key are those that were asked for."""
    mapping, row = HttpMapping(), {**PAID, **wild}
    answer = HttpAnswer(status, json.dumps(row).encode())
    charged = read_charge(answer, asked=CHARGE, key="k", mapping=mapping)
    if isinstance(charged, Charged):
        assert (row["amount_minor"], row["currency"], row["key"] or "k") == (1000, "EUR", "k")
    read_look_up(answer, key="k", mapping=mapping)
    read_capture(answer, amount_minor=1, currency="EUR", key="k", mapping=mapping)
    read_refund(answer, amount_minor=1, currency="EUR", key="k", mapping=mapping)
    listed = read_list(HttpAnswer(200, json.dumps({"payments": [row, row]}).encode()), mapping=mapping)
    assert listed is None or all(one.created_at == one.created_at for one in listed[0])
