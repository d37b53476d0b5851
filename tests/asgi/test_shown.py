"""What an answer showed: causes, fields, devices and languages, row by row."""

from __future__ import annotations

import pytest

from cxguard.asgi.shown import CAUSES, device_of, language_of, refused_field, shop_cause
from cxguard.core.answer import Situation
from cxguard.core.reading import HandlerAnswer
from cxguard.core.session import Cause

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148"


def test_every_situation_has_a_cause_or_is_no_error() -> None:
    """A new answer of ours cannot go unseen."""
    assert set(CAUSES) == set(Situation)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        *((200, Cause.VALIDATION), (303, Cause.VALIDATION), (400, Cause.VALIDATION), (401, Cause.OTHER), (402, Cause.ISSUER)),
        *((404, Cause.DEAD_LINK), (408, Cause.SLOW), (409, Cause.STOCK_PRICE), (410, Cause.DEAD_LINK), (422, Cause.VALIDATION)),
        *((429, Cause.OTHER), (500, Cause.OUR_OUTAGE), (503, Cause.OUR_OUTAGE), (504, Cause.SLOW)),
    ],
)
def test_a_shops_error_has_its_cause_by_status(status: int, cause: Cause) -> None:
    """The shop's status says as much about the cause as it can."""
    assert shop_cause(status) is cause


@pytest.mark.parametrize(
    ("status", "body", "field"),
    [
        (422, b'{"detail": [{"loc": ["body", "card"], "msg": "wrong", "type": "value_error"}]}', "card"),
        (400, b'{"errors": {"email": ["Enter a valid address."]}}', "email"),
        (400, b'{"errors": {"4111 1111": ["what a person typed"]}}', ""),
        (400, b'{"detail": "no"}', ""),
        (400, b"[]", ""),
        (400, b"{", ""),
        (409, b'{"errors": {"email": []}}', ""),
    ],
)
def test_the_refused_field_is_named(status: int, body: bytes, field: str) -> None:
    """A validation error names its field, never a value."""
    assert refused_field(HandlerAnswer(status, body=body)) == field


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        (PHONE, "phone"),
        ("Mozilla/5.0 (Linux; Android 15; Pixel 9) Mobile Safari/537.36", "phone"),
        ("Mozilla/5.0 (Linux; Android 15; SM-X910) Safari/537.36", "tablet"),
        ("Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X)", "tablet"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0", "computer"),
        ("facebookexternalhit preview", "bot"),
        ("Mozilla/5.0 AppleWebKit/537.36 (compatible; bingbot/2.0)", "bot"),
        ("node-fetch/3.3", ""),
        ("", ""),
    ],
)
def test_devices_are_classes(user_agent: str, device: str) -> None:
    """Four classes, and nothing that tells one visitor from another."""
    assert device_of(user_agent) == device


@pytest.mark.parametrize(("header_value", "language"), [("de-AT,de;q=0.9", "de"), ("EN;q=1", "en"), ("", ""), ("*", "*")])
def test_languages_are_primary_tags(header_value: str, language: str) -> None:
    """The first language, without its region."""
    assert language_of(header_value) == language
