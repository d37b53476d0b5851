"""The page of gateways: a person's word about a breaker, for all processes, with who and why."""

from __future__ import annotations

import pytest
from deskclient import DeskClient

from cxguard.core.breaker import Label
from cxguard.engine.breaker_cells import BreakerView
from cxguard.engine.breakers import Rejected

pytestmark = pytest.mark.asyncio
NAME = {"gateway": "fake:test", "kind": "charge", "method": ""}
OPEN = {**NAME, "label": "open", "minutes": "60", "why": "bank holiday"}


async def token(desk: DeskClient) -> str:
    assert not isinstance(desk.world.guard.engine.breakers.admit("fake:test", "charge"), Rejected)
    return (await desk.forms("/gateways"))["/ops/gateways"]["token"]


def view(desk: DeskClient) -> BreakerView:
    return next(each for each in desk.world.guard.engine.breakers.states() if each.kind == "charge")


async def test_forced_open_with_who_why_and_until(desk: DeskClient) -> None:
    """Nothing is sent from then on; the page says so, and what was decided is on record."""
    answer = await desk.post("/gateways", {"token": await token(desk), **OPEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/ops/gateways")
    seen = view(desk)
    assert (seen.label, seen.forced_by, seen.forced_reason) == (Label.OPEN, "anna", "bank holiday")
    assert seen.until == desk.world.clock.now() + 3600.0
    text = (await desk.get("/gateways")).text
    assert "by hand of anna: bank holiday" in text
    assert "fake:test charge" in text
    opened = [event.detail for event in desk.world.heard if event.name == "breaker.opened"]
    assert [(detail["forced"], detail["by"]) for detail in opened] == [(True, "anna")]


async def test_forced_closed_and_released(desk: DeskClient) -> None:
    """Let through, then left to itself again; both on record."""
    proof = await token(desk)
    await desk.post("/gateways", {"token": proof, **OPEN, "label": "closed"})
    assert (view(desk).label, view(desk).forced_by) == (Label.CLOSED, "anna")
    await desk.post("/gateways", {"token": proof, **NAME, "label": ""})
    assert view(desk).forced_by == ""
    text = (await desk.get("/gateways")).text
    assert text.index("released") < text.index("forced closed")


@pytest.mark.parametrize(
    "changes",
    [{"label": "half-open"}, {"why": "  "}, {"minutes": "7"}, {"minutes": "-60"}, {"gateway": "elsewhere"}, {"kind": "<b>"}],
    ids=["half-open", "no reason", "no such time", "a time that was", "no such gateway", "no such kind"],
)
async def test_half_a_word_changes_nothing(desk: DeskClient, changes: dict[str, str]) -> None:
    """The page comes back with the reason, and the breaker is as it was."""
    answer = await desk.post("/gateways", {"token": await token(desk), **OPEN, **changes})
    assert answer.status_code == 422
    assert "othing was done" in answer.text
    assert view(desk).forced_by == ""


async def test_a_form_from_elsewhere_changes_nothing(desk: DeskClient) -> None:
    """Another site cannot know the token, and a browser says where the form came from."""
    proof = await token(desk)
    assert (await desk.post("/gateways", {**OPEN, "token": "guessed"})).status_code == 403
    assert (await desk.post("/gateways", {**OPEN, "token": proof}, **{"sec-fetch-site": "cross-site"})).status_code == 403
    assert view(desk).forced_by == ""


async def test_what_was_typed_is_kept_when_it_was_refused(desk: DeskClient) -> None:
    """The reason stands in its field again."""
    answer = await desk.post("/gateways", {"token": await token(desk), **OPEN, "minutes": "7", "why": 'a "bank" holiday'})
    assert "a &#34;bank&#34; holiday" in answer.text


async def test_without_any_call_the_page_says_so(desk: DeskClient) -> None:
    """Nothing to decide about yet."""
    assert "No gateway was called" in (await desk.get("/gateways")).text
