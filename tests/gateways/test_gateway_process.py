"""The gateway process itself: its control page, its door, and the barrier that tests kill processes at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxguard.demo.processes import ChildFailed, running

pytestmark = pytest.mark.server
BODY = {"amount_minor": 100, "currency": "EUR", "source": "tok_ok", "reference": "o-1"}


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=10)


@pytest.mark.asyncio
async def test_hold_stops_a_charge_in_its_very_middle(gateway_process: Any, key: str) -> None:
    """A held charge is in the ledger and not answered; released, it is answered."""
    gateway_process.post("/control/hold", count=1)
    async with _client() as client:
        paying = asyncio.create_task(client.post(gateway_process.url + "/payments", json=BODY, headers={"Idempotency-Key": key}))
        held = (await client.get(gateway_process.control_url + "/control/held")).json()["held"]
        assert [payment["id"] for payment in gateway_process.payments(key)] == held
        assert not paying.done()
        gateway_process.post("/control/release")
        assert (await paying).status_code == 201


@pytest.mark.asyncio
async def test_hold_before_the_charge(gateway_process: Any, key: str) -> None:
    """Held before the ledger was written, nothing is charged until the release."""
    gateway_process.post("/control/hold", count=1, at="before_charge")
    async with _client() as client:
        paying = asyncio.create_task(client.post(gateway_process.url + "/payments", json=BODY, headers={"Idempotency-Key": key}))
        assert (await client.get(gateway_process.control_url + "/control/held")).json()["held"]
        assert gateway_process.payments(key) == []
        gateway_process.post("/control/release")
        assert (await paying).status_code == 201


@pytest.mark.asyncio
async def test_only_as_many_are_held_as_were_asked_for(gateway_process: Any, key: str) -> None:
    """The barrier lets the others pass."""
    gateway_process.post("/control/hold", count=1)
    async with _client() as client:
        paying = [asyncio.create_task(client.post(gateway_process.url + "/payments", json=BODY)) for _ in range(2)]
        done, waiting = await asyncio.wait(paying, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(waiting)) == (1, 1)
        gateway_process.post("/control/release")
        assert [answer.status_code for answer in await asyncio.gather(*paying)] == [201, 201]


@pytest.mark.asyncio
async def test_control_stays_reachable_while_payments_are_refused(gateway_process: Any) -> None:
    """Who broke the gateway can mend it, and the judge can read on."""
    assert gateway_process.put(mode="refuse")["mode"] == "refuse"
    async with _client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(gateway_process.url + "/ledger")
        assert (await client.get(gateway_process.control_url + "/ledger")).status_code == 200
        gateway_process.put(mode="healthy")
        assert (await client.get(gateway_process.url + "/ledger")).status_code == 200


def test_script_plays_on_by_itself(gateway_process: Any) -> None:
    """A script's next phase comes without another word."""
    assert gateway_process.put(script="error 20ms, decline")["script"] == "error 0.02s, decline"
    for _ in range(500):
        if gateway_process.ask("GET", "/control", None)["mode"] == "decline":
            return
    raise AssertionError("the second phase never came")


def test_decline_mode_declines_good_cards(gateway_process: Any, key: str) -> None:
    """In `decline` the issuer's no is in the ledger."""
    gateway_process.put(mode="decline")
    answer = httpx.post(gateway_process.url + "/payments", json=BODY, headers={"Idempotency-Key": key}, trust_env=False)
    assert (answer.status_code, answer.json()["status"]) == (402, "declined")


@pytest.mark.parametrize(
    "members",
    [{"mode": "wat"}, {"script": "refuse, healthy"}, {"slow_seconds": -1}, {"slow_seconds": "x"}, {"mode": 7}, {"script": "a b c"}],
)
def test_unreadable_control_is_refused_and_changes_nothing(gateway_process: Any, members: dict[str, Any]) -> None:
    """A mistyped fault is a 400 with the reason."""
    answer = httpx.put(gateway_process.control_url + "/control", json=members, trust_env=False)
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    assert gateway_process.put()["mode"] == "healthy"


def test_control_page_works_without_scripts(gateway_process: Any) -> None:
    """A person breaks the gateway with a plain form."""
    with httpx.Client(trust_env=False, base_url=gateway_process.control_url, headers={"Accept": "text/html"}) as client:
        assert "<script" not in client.get("/control").text
        answer = client.post("/control", data={"mode": "error"}, follow_redirects=True)
        assert 'class="now error"' in answer.text
        assert client.post("/control", data={"script": "nonsense"}).status_code == 400


def test_form_of_another_site_is_refused(gateway_process: Any) -> None:
    """A page elsewhere cannot break the demo behind somebody's back."""
    headers = {"Origin": "https://elsewhere.example"}
    answer = httpx.post(gateway_process.control_url + "/control", data={"mode": "error"}, headers=headers, trust_env=False)
    assert answer.status_code == 403
    assert gateway_process.put()["mode"] == "healthy"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", {}, "invalid_json"),
        (b"[1]", {}, "invalid_json"),
        (b'{"amount_minor": 0, "currency": "EUR", "source": "tok_ok"}', {}, "invalid_amount"),
        (b'{"amount_minor": true, "currency": "EUR", "source": "tok_ok"}', {}, "invalid_amount"),
        (b'{"amount_minor": 1, "currency": "eur", "source": "tok_ok"}', {}, "invalid_currency"),
        (b'{"amount_minor": 1, "currency": "EUR", "source": "4242424242424242"}', {}, "unknown_source"),
        (b'{"amount_minor": 1, "currency": "EUR"}', {}, "invalid_request"),
        (b'{"amount_minor": 1, "currency": "EUR", "source": "tok_ok"}', {"Idempotency-Key": "x" * 256}, "invalid_key"),
    ],
)
def test_bad_charge_is_a_400_and_charges_nothing(gateway_process: Any, body: bytes, headers: dict[str, str], code: str) -> None:
    """The gateway works on nothing that it cannot read."""
    before = len(gateway_process.ledger()["payments"])
    answer = httpx.post(gateway_process.url + "/payments", content=body, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert len(gateway_process.ledger()["payments"]) == before


@pytest.mark.asyncio
async def test_ledger_outlives_a_kill(tmp_path: Path) -> None:
    """What was charged before a power cut is in the books after it."""
    arguments = ["--ledger", str(tmp_path / "g.db")]
    async with _client() as client:
        async with running("cxguard.demo.gateway", arguments, log=tmp_path / "log") as first:
            await client.post(first.url + "/payments", json=BODY)
            await first.kill()
        async with running("cxguard.demo.gateway", arguments, log=tmp_path / "log") as second:
            assert len((await client.get(second.url + "/ledger")).json()["payments"]) == 1


@pytest.mark.asyncio
async def test_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A wrong option ends the process, and the error shows the end of its log."""
    with pytest.raises(ChildFailed, match="No such option"):
        async with running("cxguard.demo.gateway", ["--nonsense"], log=tmp_path / "log"):
            raise AssertionError("it started")


@pytest.mark.asyncio
async def test_process_ends_with_its_parent(tmp_path: Path) -> None:
    """When standard input closes, as it does when a parent is killed, the process ends by itself."""
    arguments = ["--ledger", str(tmp_path / "g.db"), "--with-parent"]
    async with running("cxguard.demo.gateway", arguments, log=tmp_path / "log") as child:
        assert child.process.stdin is not None
        child.process.stdin.close()
        async with asyncio.timeout(10):
            await child.process.wait()
