"""What the shop's code gives as its answer, before any framework has sent it."""

from __future__ import annotations

import json
from typing import Any

from cxguard.core.reading import HandlerAnswer
from cxguard.engine.cold import replayable


def answer_of(given: Any, *, status: int) -> HandlerAnswer:
    """The answer as it is kept for replays.

    Args:
        given: a response of Starlette (FastAPI) or Django; anything else is a JSON body.
        status: for a JSON body.

    Raises:
        TypeError: neither. Nothing was written.
    """
    if isinstance(given, HandlerAnswer):
        return replayable(given)
    if not hasattr(given, "status_code"):
        return _json_answer(given, status=status)
    body = getattr(given, "content", getattr(given, "body", None))
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"a {type(given).__name__} has no body yet: give op.finish one that is whole (no stream), or what its JSON says")
    return replayable(HandlerAnswer(int(given.status_code), _headers(given), bytes(body)))


def _headers(given: Any) -> tuple[tuple[bytes, bytes], ...]:
    raw = getattr(given, "raw_headers", None)  # Starlette's; Django's has items
    if raw is not None:
        return tuple((bytes(name).lower(), bytes(value)) for name, value in raw)
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items())


def _json_answer(value: Any, *, status: int) -> HandlerAnswer:
    """As Starlette and FastAPI write it."""
    try:
        body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"the answer is no JSON ({error}): give op.finish your response, or plain texts, lists and dicts") from error
    headers = ((b"content-length", str(len(body)).encode()), (b"content-type", b"application/json"))
    return HandlerAnswer(status, headers, body)
