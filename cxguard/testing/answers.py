"""What a shop answered, seen from outside: what it says about the money, and whether two answers are one. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAIN_HEADERS = ("content-type", "content-language", "location", "etag", "link")
"""What a client acts upon; of the others, many are rightly new in each answer."""

BODY_CHARACTERS_SHOWN = 120


class Says(StrEnum):
    """What one answer says about the money."""

    PAID = "paid"
    NOT_PAID = "not paid"  # declined, or "you have not been charged"
    WAIT = "do not pay again"  # not known yet, and it says so
    NOTHING = "nothing"  # of the money: an error page, a bare conflict, no answer at all


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `status` is None where none came; `why` then says what happened instead. Header names are in lower case."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    why: str = ""

    @property
    def is_unfinished(self) -> bool:
        """Accepted, and still being worked on. What it says may be told anew each time."""
        return self.status == 202

    @property
    def is_success(self) -> bool:
        """A plain yes: 202 is "accepted", and no yes yet."""
        return self.status is not None and 200 <= self.status < 300 and not self.is_unfinished

    def __str__(self) -> str:
        if self.status is None:
            return f"no answer ({self.why})"
        text = " ".join(self.body.decode("utf-8", "replace").split())
        return f"{self.status} {text[:BODY_CHARACTERS_SHOWN]}".strip()


def read_answer(answer: Answer) -> Says:
    """The usual meaning: the member `money` where there is one, else the status.

    402 says "not paid", 202 "do not pay again", any other 2xx "paid", and all else nothing. Not for shops that answer a
    failure with a page and 200.
    """
    match _members(answer).get("money"):
        case "charged":
            return Says.PAID
        case "not_charged":
            return Says.NOT_PAID
        case "unknown":
            return Says.WAIT
    if answer.is_success:
        return Says.PAID
    return {402: Says.NOT_PAID, 202: Says.WAIT}.get(answer.status or 0, Says.NOTHING)


def is_paid(answer: Answer) -> bool:
    """Whether it is the end: paid, and nothing left to do."""
    return read_answer(answer) is Says.PAID and not answer.is_unfinished


def differences(first: Answer, second: Answer) -> Iterator[str]:
    """In what *second* is not *first* again: status, body, main headers."""
    if first.status != second.status:
        yield f"status {second.status} after {first.status}"
    if first.body != second.body:
        yield "another body"
    for name in MAIN_HEADERS:
        if first.headers.get(name) != second.headers.get(name):
            yield f"{name} {second.headers.get(name)!r} after {first.headers.get(name)!r}"


def _members(answer: Answer) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
