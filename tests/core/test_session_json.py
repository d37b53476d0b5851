"""A session's bytes: short, and read by the version before and the one after."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cxguard.core.message import Message
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Fact, Reached, Session, Stage, fold
from cxguard.core.session_json import session_from_bytes, session_to_bytes

BASKET = Basket(4999, "EUR", 2)


def exposed(id: str = "x", **members: Any) -> Exposed:
    plain = {"session": "s", "stage": Stage.PAY, "at": 2.0, "message": Message(text="Désolé"), "cause": Cause.ISSUER, "by": By.SHOP}
    return Exposed(**({"id": id, "status": 402} | plain | members))


FACTS: list[Fact] = [
    Reached("s", Stage.PAY, 1.0, BASKET, "de", "fr", "mobile"),
    exposed("x", basket=BASKET, market="de", language="fr", device="mobile", field_name="card", reference="K7"),
    exposed("y", at=3.0),
    Bought("s", 4.0, 4999, "EUR", "K7"),
]
WHOLE = fold(None, FACTS)


def told(session: Session) -> Any:
    return json.loads(session_to_bytes(session))


def test_all_that_is_known_comes_back() -> None:
    """How often a message was shown, and of each exposure the visitor's market, language and device."""
    assert session_from_bytes(session_to_bytes(WHOLE)) == WHOLE
    assert (WHOLE.shown[0].times, WHOLE.exposures[0].language, WHOLE.exposures[0].device) == (2, "fr", "mobile")


def test_bytes_are_short_and_say_their_format() -> None:
    """One of a million sessions: letters as they are, no blanks, and nothing about what is not known."""
    written = session_to_bytes(WHOLE)
    assert "Désolé".encode() in written and b'": ' not in written and b", " not in written
    assert told(WHOLE)["v"] == 1
    assert set(told(WHOLE)["exposures"][1]) == {"id", "stage", "at", "message", "cause", "by", "status"}


def test_half_a_character_spoils_no_session() -> None:
    """A cookie may hold it."""
    assert json.loads(session_to_bytes(Session(id="s\ud800")))["id"] == "s?"


@pytest.mark.parametrize(
    "longer",
    [
        lambda value: value["about"],
        lambda value: value["bought"],
        lambda value: value["basket"],
        lambda value: value["shown"][0],
        lambda value: value["exposures"][0]["message"],
        lambda value: value["exposures"][0]["about"],
        lambda value: value["exposures"][0]["basket"],
    ],
)
def test_what_a_newer_version_says_more_is_passed_over(longer: Any) -> None:
    """At the end of each list."""
    value = told(WHOLE)
    longer(value).append("moon")
    assert session_from_bytes(json.dumps(value).encode()) == WHOLE


def test_exposure_of_an_older_version_has_no_status() -> None:
    """Nobody knows it any more."""
    value = told(WHOLE)
    del value["exposures"][0]["status"]
    assert session_from_bytes(json.dumps(value).encode()).exposures[0].status == 0
