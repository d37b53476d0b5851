"""An answer as JSON: a problem document for errors, the same members as plain JSON for the others.

Source: RFC 9457 (problem details for HTTP APIs).
"""

from __future__ import annotations

import json
from typing import Any

from cxguard.core.answer import Answer
from cxguard.render.figures import iso_time
from cxguard.render.rendered import Rendered, answered
from cxguard.render.words import Voice, Words

PROBLEM_TYPE = "urn:cxguard:problem:"


def render_json(answer: Answer, words: Words, *, voice: Voice, status: int) -> Rendered:
    """*answer* for a program, with the *status* that it understands (`status_for`)."""
    document = {**problem(answer, words, status=status), **members(answer, words, voice=voice)}
    content_type = "application/problem+json" if status >= 400 else "application/json"
    return answered(status, encode(document), content_type, locale=words.locale, retry_after_seconds=answer.retry_after_seconds)


def problem(answer: Answer, words: Words, *, status: int) -> dict[str, Any]:
    """RFC 9457's own members."""
    return {"type": PROBLEM_TYPE + answer.problem, "title": words.title, "status": status, "detail": words.detail}


def members(answer: Answer, words: Words, *, voice: Voice) -> dict[str, Any]:
    """Ours beside them. Those of the first block are always there; null: not known, or there is none."""
    about = answer.about
    always = {
        "situation": answer.situation.value,
        "reference": about.reference,
        "money": answer.money.value if answer.money else None,
        "order_saved": answer.order_saved,
        "safe_to_retry": answer.safe_to_retry,
        "status_url": about.status_url,
        "next_update_by": None if about.next_update_at is None else iso_time(about.next_update_at),
        "contact": voice.contact(),
        "message": words.label,
    }
    sometimes = {"resume_url": about.resume_url, "hint": about.hint}
    return always | {name: value for name, value in sometimes.items() if value}


def encode(document: dict[str, Any]) -> bytes:
    """UTF-8, without needless blanks."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
