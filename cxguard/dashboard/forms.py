"""What a form of the desk sends: bounded, and with a token that only this person's own page carries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from cxguard.engine.engine import Engine
from cxguard.errors import BadBody, BodyTooLarge, BodyTooSlow, UnsupportedMedia

BODY_BYTES_MAX = 16_384  # a reason, a number, and some names
BODY_SECONDS_MAX = 10.0
FIELDS_MAX = 20
TOKEN_FIELD, SEEN_FIELD, WHY_FIELD = "token", "seen", "why"
TOKEN_SECONDS = 12 * 3600.0  # a shift: nobody's half-written reason goes stale over lunch
_PURPOSE = "desk-form"


def form_token(engine: Engine, actor: str) -> str:
    """What each form carries: another site cannot know it, and another person's does not fit."""
    return engine.seal.sign_token(actor, expires_at=engine.clock.now() + TOKEN_SECONDS, purpose=_PURPOSE)


def token_fits(engine: Engine, actor: str, token: str) -> bool:
    """Whether *token* was made for *actor*, and not too long ago."""
    return engine.seal.read_token(token, now=engine.clock.now(), purpose=_PURPOSE) == actor


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of an urlencoded form; of a name that came twice, the last.

    Raises:
        UnsupportedMedia, BodyTooLarge, BodyTooSlow, BadBody: it cannot be one of ours.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise UnsupportedMedia("send the form as application/x-www-form-urlencoded, as the page does")
    body = await _body(request)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, encoding="utf-8", errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise BadBody("the form cannot be read: open the page again, and send it from there") from error


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise BodyTooLarge(f"a form of the desk has at most {BODY_BYTES_MAX} bytes: say it in fewer words")
    except TimeoutError:
        raise BodyTooSlow(f"the form did not arrive within {BODY_SECONDS_MAX:g} seconds: send it again") from None
    except ClientDisconnect as error:
        raise BadBody("the connection ended before the form was whole: send it again") from error
    return bytes(body)
