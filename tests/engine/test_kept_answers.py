"""What `op.finish` is given as the answer, as it is kept for whoever asks again."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from starlette.responses import JSONResponse, RedirectResponse, StreamingResponse

from cxguard.core.reading import HandlerAnswer
from cxguard.engine.answers import answer_of


def test_responses_of_frameworks_are_kept_as_they_are_sent() -> None:
    """Starlette's and Django's responses, and JSON as FastAPI writes it; cookies and dates are not for a repeat."""
    starlette = JSONResponse({"ä": 1}, status_code=201)
    starlette.set_cookie("session", "secret")
    assert answer_of(starlette, status=200) == answer_of({"ä": 1}, status=201)
    page = HttpResponse("sold", content_type="text/html; charset=utf-8", status=200, headers={"X-Order": "o1"})
    assert answer_of(page, status=500) == HandlerAnswer(200, ((b"x-order", b"o1"), (b"content-type", b"text/html; charset=utf-8")), b"sold")
    assert answer_of(RedirectResponse("/thanks", status_code=303), status=200).header("location") == "/thanks"


@pytest.mark.parametrize("given", [StreamingResponse(iter([b"x"])), {"at": object()}, float("nan")])
def test_what_cannot_be_kept_is_refused(given: Any) -> None:
    """A stream has no body to keep, and neither has what is no JSON."""
    with pytest.raises(TypeError, match=r"op\.finish"):
        answer_of(given, status=200)
