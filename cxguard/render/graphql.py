"""An answer inside a GraphQL response: an error whose extensions carry the members.

The status is 200 whatever happened, as the servers and clients of GraphQL over HTTP with `application/json` expect it;
the HTTP status that would have been told stands in the extensions.
"""

from __future__ import annotations

from typing import Any

from cxguard.core.answer import Answer
from cxguard.render.json import PROBLEM_TYPE, encode, members
from cxguard.render.rendered import Rendered, answered
from cxguard.render.words import Voice, Words


def render_graphql(answer: Answer, words: Words, *, voice: Voice, status: int, field: str | None = None, code: str = "") -> Rendered:
    """*answer* for a GraphQL client.

    Args:
        field: the response name of the ruled mutation (its alias, if it has one); None: the request never got that far.
        code: `extensions.code` where clients act on one of their own, `PERSISTED_QUERY_NOT_FOUND` for instance.
    """
    extensions = {
        "code": code or answer.situation.value.upper(),
        "type": PROBLEM_TYPE + answer.problem,
        "title": words.title,
        "status": status,
        **members(answer, words, voice=voice),
    }
    error: dict[str, Any] = {"message": words.detail, "extensions": extensions}
    if field is not None:
        error["path"] = [field]
    document = {"data": None if field is None else {field: None}, "errors": [error]}
    after = answer.retry_after_seconds
    return answered(200, encode(document), "application/json", locale=words.locale, retry_after_seconds=after)
