"""What a handler's answer means: one reading, which breaker, false-decline guard, exposures and replay all share.

By default the status says it. Many shops answer every failure with 200, or redirect in all cases: their rule has
cases of its own, and what they do not cover is read with care. Where a rule says what success looks like, nothing
else is success: then a 200 that no case covers may be a "no payment was taken" page over a charge.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

UNPACKED_CODINGS = frozenset({"gzip", "deflate"})  # what the standard library undoes
ANSWER_BYTES_READ_MAX = 4 * 1024 * 1024  # of a compressed answer, once unpacked: four times the largest that is kept


class Reading(StrEnum):
    """What the handler's answer says about the charge."""

    SUCCEEDED = "succeeded"  # charged
    DECLINED = "declined"  # the issuer said no
    REJECTED = "rejected"  # nothing was tried
    FAILED = "failed"  # nobody knows


@dataclass(frozen=True, slots=True)
class HandlerAnswer:
    """What the shop's code answered, as values. Header names in lower case, as ASGI has them."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        wanted = name.encode("latin-1")
        return next((value.decode("latin-1") for known, value in self.headers if known.lower() == wanted), None)

    def content(self) -> bytes:
        """The body, unpacked if the app compressed it; empty if that cannot be undone."""
        return self._unpacked() or b""

    @property
    def unreadable(self) -> bool:
        """Whether it was compressed in a way that cannot be undone here, so that no case can look into it."""
        return self._unpacked() is None

    def text(self) -> str:
        """The body as text; bytes that are none become marks."""
        return self.content().decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON, or None if it is none."""
        try:
            return json.loads(self.content())
        except (ValueError, RecursionError):
            return None

    def _unpacked(self) -> bytes | None:
        return _unpacked(self.body, encoding=(self.header("content-encoding") or "").strip().lower())


Matcher: TypeAlias = Callable[[HandlerAnswer], bool]
Case: TypeAlias = tuple[Matcher, Reading]

REJECTED_STATUSES = frozenset({400, 401, 403, 404, 405, 409, 413, 415, 422, 429})


def read_status(status: int) -> Reading:
    """The default reading, by status alone. No answer at all is `FAILED`, too: pass 0."""
    if 200 <= status <= 299:
        return Reading.SUCCEEDED
    if status == 402:
        return Reading.DECLINED
    return Reading.REJECTED if status in REJECTED_STATUSES else Reading.FAILED


def read(answer: HandlerAnswer | None, cases: Sequence[Case] = ()) -> Reading:
    """Say what *answer* means: the first case that holds, else the status.

    Args:
        answer: None when there was none: an exception, a crash, an app that returned without a word.
        cases: a rule's own. With one for success among them, an answer that none covers never succeeds by its status; nor does one
            into which none can look.
    """
    if answer is None:
        return Reading.FAILED
    for matcher, reading in cases:
        if _holds(matcher, answer):
            return reading
    default = read_status(answer.status)
    described = any(reading is Reading.SUCCEEDED for _, reading in cases)
    if default is Reading.SUCCEEDED and (described or (bool(cases) and answer.unreadable)):
        return Reading.FAILED
    return default


def _holds(matcher: Matcher, answer: HandlerAnswer) -> bool:
    return bool(matcher(answer))


def _unpacked(body: bytes, *, encoding: str) -> bytes | None:
    if encoding in ("", "identity"):
        return body
    if encoding not in UNPACKED_CODINGS:
        return None
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, ANSWER_BYTES_READ_MAX)
    except zlib.error:
        return None
