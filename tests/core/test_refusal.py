"""Refused requests: each error has its answer, with a word for the engineer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.answer import SPECS, MoneyTold, Situation
from cxguard.core.refusal import answer_for_refusal
from cxguard.errors import (
    BadBody,
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    HeadersTooLarge,
    MalformedKey,
    MissingKey,
    OwnerMissing,
    SeveralMutations,
    UnsupportedMedia,
)


@pytest.mark.parametrize(
    ("kind", "situation", "status", "problem"),
    [
        (MissingKey, Situation.KEY_MISSING, 400, "key-missing"),
        (MalformedKey, Situation.KEY_MALFORMED, 400, "key-malformed"),
        (OwnerMissing, Situation.OWNER_MISSING, 401, "owner-missing"),
        (BodyTooLarge, Situation.BODY_TOO_LARGE, 413, "body-too-large"),
        (BodyTooSlow, Situation.BODY_TOO_SLOW, 408, "body-too-slow"),
        (BadBody, Situation.BAD_REQUEST, 400, "bad-body"),
        (HeadersTooLarge, Situation.BAD_REQUEST, 431, "headers-too-large"),
        (UnsupportedMedia, Situation.BAD_REQUEST, 415, "unsupported-media"),
        (SeveralMutations, Situation.BAD_REQUEST, 400, "graphql-several-mutations"),
        (BadRequest, Situation.BAD_REQUEST, 400, "bad-request"),
    ],
)
def test_each_refusal_has_its_answer(kind: type[BadRequest], situation: Situation, status: int, problem: str) -> None:
    """A refused request is told as such, with the error's text as a hint. Of the money nothing is said: it charged nothing, and an
    earlier one under the same key may have."""
    answer = answer_for_refusal(kind("send it once"))
    assert (answer.situation, answer.status, answer.problem) == (situation, status, problem)
    assert answer.about.hint == "send it once"
    assert (answer.money, answer.safe_to_retry) == (MoneyTold.UNKNOWN, False)


def test_the_shops_own_row_goes_before_the_errors_status() -> None:
    """A shop that answers bad requests with 422 gets 422 for all of them."""
    specs = {**SPECS, Situation.BAD_REQUEST: replace(SPECS[Situation.BAD_REQUEST], status=422)}
    assert answer_for_refusal(UnsupportedMedia("send a form"), specs=specs).status == 422
