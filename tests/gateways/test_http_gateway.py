"""The HTTP adapter over real sockets: against the gateway process, and against servers that break the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import Charge, Gateway
from cxguard.gateways.http import ANSWER_BYTES_MAX, HttpGateway, Phase, classify

pytestmark = pytest.mark.server
SHORT = 0.3  # seconds until a hanging gateway is given up


@asynccontextmanager
async def adapter(url: str, **options: Any) -> AsyncIterator[HttpGateway]:
    gateway = HttpGateway("http:test", url, **options)
    try:
        yield gateway
    finally:
        await gateway.aclose()


def charge(source: str = "tok_ok", **changed: Any) -> Charge:
    return Charge(**{"amount_minor": 4999, "currency": "EUR", "source": source, "order_id": "o-1", **changed})


# every cell: the error, then what it means unsent and sent
CELLS = [
    (httpx.ConnectError, "again", "unknown"),
    (httpx.ConnectTimeout, "again", "unknown"),
    (httpx.PoolTimeout, "again", "unknown"),
    (httpx.ProxyError, "again", "unknown"),
    (TimeoutError, "again", "unknown"),
    (httpx.UnsupportedProtocol, "never", "unknown"),
    (httpx.InvalidURL, "never", "unknown"),
    (httpx.LocalProtocolError, "never", "unknown"),
    (httpx.WriteTimeout, "unknown", "unknown"),
    (httpx.WriteError, "unknown", "unknown"),
    (httpx.ReadTimeout, "unknown", "unknown"),
    (httpx.ReadError, "unknown", "unknown"),
    (httpx.CloseError, "unknown", "unknown"),
    (httpx.RemoteProtocolError, "unknown", "unknown"),
    (httpx.DecodingError, "unknown", "unknown"),
    (httpx.TooManyRedirects, "unknown", "unknown"),
    (OSError, "unknown", "unknown"),
]


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize(("kind", "unsent", "sent"), CELLS)
def test_classify_every_cell(kind: type[Exception], unsent: str, sent: str, phase: Phase) -> None:
    """Surely not charged needs an error of connecting and no byte written; everything else is unknown."""
    outcome = classify(kind("x"), phase)
    told = "unknown" if isinstance(outcome, Unknown) else "again" if outcome.retryable else "never"
    assert told == (unsent if phase is Phase.UNSENT else sent)


def test_it_is_a_gateway() -> None:
    """The adapter has every member that the protocol asks for."""
    assert isinstance(HttpGateway("http:test", "http://127.0.0.1:1"), Gateway)


@pytest.mark.asyncio
async def test_charge_is_charged_and_found(gateway_process: Any, key: str) -> None:
    """A charge that was answered is charged, and the look-up says the same."""
    async with adapter(gateway_process.url) as gateway:
        told = await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert isinstance(told, Charged) and (told.amount_minor, told.currency, told.captured) == (4999, "EUR", True)
        assert await gateway.find(key, timeout_seconds=5) == told


@pytest.mark.asyncio
async def test_same_key_charges_once(gateway_process: Any, key: str) -> None:
    """The gateway key travels: a repeated charge is replayed, not made again."""
    async with adapter(gateway_process.url) as gateway:
        first = await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert await gateway.charge(charge(), key=key, timeout_seconds=5) == first
    assert len(gateway_process.payments(key)) == 1


@pytest.mark.asyncio
async def test_same_key_for_another_amount_is_unknown(gateway_process: Any, key: str) -> None:
    """A mismatch is about an earlier send that may stand."""
    async with adapter(gateway_process.url) as gateway:
        await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert await gateway.charge(charge(amount_minor=1), key=key, timeout_seconds=5) == Unknown(
            "unreadable status, HTTP 422 key_mismatch"
        )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("tok_declined", Declined(DeclineReason.GENERIC, "card_declined")),
        ("tok_insufficient_17", Declined(DeclineReason.FUNDS, "insufficient_funds")),
        ("tok_expired", Declined(DeclineReason.EXPIRED, "expired_card")),
        ("tok_nonsense", NotCharged("refused: HTTP 400 unknown_source")),
    ],
)
async def test_test_cards(gateway_process: Any, key: str, source: str, outcome: Outcome) -> None:
    """Each test card is refused for its own reason, and a card that does not exist is no decline."""
    async with adapter(gateway_process.url) as gateway:
        assert await gateway.charge(charge(source), key=key, timeout_seconds=5) == outcome


@pytest.mark.asyncio
async def test_declined_is_found_as_declined(gateway_process: Any, key: str) -> None:
    """The look-up repeats the issuer's no."""
    async with adapter(gateway_process.url) as gateway:
        await gateway.charge(charge("tok_expired"), key=key, timeout_seconds=5)
        assert await gateway.find(key, timeout_seconds=5) == Declined(DeclineReason.EXPIRED, "expired_card")


@pytest.mark.asyncio
async def test_unknown_key_is_not_found(gateway_process: Any, key: str) -> None:
    """Not found stays unknown: a late request may still land."""
    async with adapter(gateway_process.url) as gateway:
        assert await gateway.find(key, timeout_seconds=5) == Unknown("not_found")


@pytest.mark.asyncio
async def test_hang_after_the_charge_is_unknown_then_found(gateway_process: Any, key: str) -> None:
    """The money was taken and the answer never came: unknown, until the look-up tells."""
    gateway_process.put(mode="time_out_after")
    async with adapter(gateway_process.url) as gateway:
        told = await gateway.charge(charge(), key=key, timeout_seconds=SHORT)
        assert isinstance(told, Unknown) and "Timeout" in told.why
        assert isinstance(await gateway.find(key, timeout_seconds=5), Charged)


@pytest.mark.asyncio
async def test_hang_before_the_charge_is_unknown_and_not_found(gateway_process: Any, key: str) -> None:
    """From outside, a hang without a charge looks the same as one with it."""
    gateway_process.put(mode="time_out_before")
    async with adapter(gateway_process.url) as gateway:
        assert isinstance(await gateway.charge(charge(), key=key, timeout_seconds=SHORT), Unknown)
        assert await gateway.find(key, timeout_seconds=5) == Unknown("not_found")


@pytest.mark.asyncio
async def test_late_charge_lands_after_the_caller_left(gateway_process: Any, key: str) -> None:
    """A slow gateway charges although nobody waits any more: repeating the key gets that very charge."""
    gateway_process.put(mode="slow", slow_seconds=2 * SHORT)
    async with adapter(gateway_process.url) as gateway:
        assert isinstance(await gateway.charge(charge(), key=key, timeout_seconds=SHORT), Unknown)
        assert isinstance(await gateway.charge(charge(), key=key, timeout_seconds=5), Charged)
    assert len(gateway_process.payments(key)) == 1


@pytest.mark.asyncio
async def test_refused_connection_is_not_charged(gateway_process: Any, key: str) -> None:
    """Nothing was written, so it may be tried again; but a look-up that could not be made says nothing."""
    gateway_process.put(mode="refuse")
    async with adapter(gateway_process.url) as gateway:
        unsent = NotCharged("not sent: ConnectError", retryable=True, reroutable=True)
        assert await gateway.charge(charge(), key=key, timeout_seconds=5) == unsent
        assert await gateway.find(key, timeout_seconds=5) == Unknown("could not ask, not sent: ConnectError")
        assert await gateway.cancel(key, timeout_seconds=5) == Unknown("could not ask, not sent: ConnectError")
    assert gateway_process.payments(key) == []


@pytest.mark.asyncio
async def test_kept_connections_are_cut_when_the_door_shuts(gateway_process: Any, key: str) -> None:
    """A pooled connection of a gateway that went away is not written into, and works again when it is back."""
    async with adapter(gateway_process.url) as gateway:
        await gateway.charge(charge(), key=key, timeout_seconds=5)
        gateway_process.put(mode="refuse")
        assert not isinstance(await gateway.charge(charge(), key=key + "2", timeout_seconds=5), Charged)
        gateway_process.put(mode="healthy")
        assert isinstance(await gateway.charge(charge(), key=key + "2", timeout_seconds=5), Charged)


@pytest.mark.asyncio
async def test_server_error_is_unknown(gateway_process: Any, key: str) -> None:
    """A 500 may come after a charge, even where this gateway's did not."""
    gateway_process.put(mode="error")
    async with adapter(gateway_process.url) as gateway:
        assert await gateway.charge(charge(), key=key, timeout_seconds=5) == Unknown("HTTP 500")
        assert await gateway.find(key, timeout_seconds=5) == Unknown("HTTP 500")


@pytest.mark.asyncio
async def test_cancelled_key_charges_nothing_any_more(gateway_process: Any, key: str) -> None:
    """After a cancel by key, a late request under it is turned away."""
    async with adapter(gateway_process.url) as gateway:
        assert await gateway.cancel(key, timeout_seconds=5) == NotCharged("cancelled")
        assert await gateway.charge(charge(), key=key, timeout_seconds=5) == NotCharged("key_cancelled")
        assert await gateway.find(key, timeout_seconds=5) == NotCharged("cancelled")


@pytest.mark.asyncio
async def test_cancel_after_the_charge_tells_the_charge(gateway_process: Any, key: str) -> None:
    """What had happened already is told, not undone."""
    async with adapter(gateway_process.url) as gateway:
        told = await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert await gateway.cancel(key, timeout_seconds=5) == told


@pytest.mark.asyncio
async def test_capture_of_a_reservation(gateway_process: Any, key: str) -> None:
    """A reservation is authorised until it is captured, once."""
    async with adapter(gateway_process.url) as gateway:
        reserved = await gateway.charge(charge(capture=False), key=key, timeout_seconds=5)
        assert isinstance(reserved, Charged) and not reserved.captured
        for _ in range(2):
            taken = await gateway.capture(reserved.payment_id, key=key + "c", amount_minor=4999, currency="EUR", timeout_seconds=5)
            assert isinstance(taken, Charged) and taken.captured
    assert [payment["captured_minor"] for payment in gateway_process.payments(key)] == [4999]


@pytest.mark.asyncio
async def test_refund_once_per_key_and_never_more_than_there_is(gateway_process: Any, key: str) -> None:
    """A repeated refund key gives back once; a second refund of everything is refused."""
    async with adapter(gateway_process.url) as gateway:
        paid = await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert isinstance(paid, Charged)

        async def refund(refund_key: str) -> Outcome:
            return await gateway.refund(paid.payment_id, key=refund_key, amount_minor=4999, currency="EUR", timeout_seconds=5)

        back = await refund(key + "r")
        assert isinstance(back, Refunded) and back.amount_minor == 4999
        assert await refund(key + "r") == back
        assert await refund(key + "s") == NotCharged("refused: HTTP 422 amount_not_available")
        assert await gateway.find(key, timeout_seconds=5) == Refunded(4999, "EUR")


@pytest.mark.asyncio
async def test_without_keys_each_send_charges(keyless_process: Any, key: str) -> None:
    """The gateway without keys is the one that charges twice; the look-up still shows a charge."""
    async with adapter(keyless_process.url, keyed=False) as gateway:
        await gateway.charge(charge(), key=key, timeout_seconds=5)
        await gateway.charge(charge(), key=key, timeout_seconds=5)
        assert isinstance(await gateway.find(key, timeout_seconds=5), Charged)
        assert isinstance(await gateway.cancel(key, timeout_seconds=5), Unknown)
    assert len(keyless_process.payments(key)) == 2


@asynccontextmanager
async def answering(raw: bytes, *, close: bool = True) -> AsyncIterator[str]:
    """A server that answers whatever comes with *raw*, and closes (or hangs)."""

    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(raw)
            await writer.drain()
            if not close:
                await reader.read(-1)  # until the caller goes
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*serving)


def http(body: bytes, *, status: str = "200 OK", length: int | None = None, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body) if length is None else length}\r\n{more}connection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "RemoteProtocolError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ncontent-len", "RemoteProtocolError"),
        (http(b'{"status": "succ', length=500), "RemoteProtocolError"),
        (http(b"<html>Welcome</html>"), "unreadable answer"),
        (http(b"not gzip", more="content-encoding: gzip\r\n"), "DecodingError"),
        (http(b"", status="302 Found", more="location: http://127.0.0.1:1/\r\n"), "HTTP 302"),
        (http(b"x" * (ANSWER_BYTES_MAX + 1)), "longer than"),
        (http(b'{"status":"succeeded","amount_minor":1,"currency":"USD"}'), "asked for 4999 EUR, told 1 USD"),
    ],
)
async def test_broken_answers_are_unknown(raw: bytes, why: str) -> None:
    """Whatever breaks after the request was written leaves the money unknown, and says how it broke."""
    async with answering(raw) as url, adapter(url) as gateway:
        told = await gateway.charge(charge(), key="k", timeout_seconds=5)
    assert isinstance(told, Unknown) and why in told.why


@pytest.mark.asyncio
async def test_answer_that_never_ends_is_unknown_in_time() -> None:
    """An answer that drips is given up within the attempt's time, headers or not."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", close=False) as url, adapter(url) as gateway:
        assert isinstance(await gateway.charge(charge(), key="k", timeout_seconds=SHORT), Unknown)


@pytest.mark.asyncio
async def test_connection_that_is_never_accepted_is_not_charged() -> None:
    """A full backlog looks like a dead network: the connection never stands, so nothing was written."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    try:
        async with adapter(f"http://127.0.0.1:{listener.getsockname()[1]}") as gateway:
            told = await gateway.charge(charge(), key="k", timeout_seconds=SHORT)
        assert isinstance(told, NotCharged) and told.retryable
    finally:
        for opened in (*fillers, listener):
            opened.close()


@pytest.mark.asyncio
async def test_wrong_address_is_not_charged_and_not_repeated() -> None:
    """A port that cannot work is said so at once: no retry will mend it."""
    async with adapter("http://127.0.0.1:port") as gateway:
        assert await gateway.charge(charge(), key="k", timeout_seconds=1) == NotCharged("not sent: InvalidURL", reroutable=True)


@pytest.mark.asyncio
async def test_cancellation_is_not_swallowed(gateway_process: Any, key: str) -> None:
    """A caller that is cancelled in the middle of a charge stays cancelled."""
    gateway_process.post("/control/hold", count=1)
    async with adapter(gateway_process.url) as gateway:
        running = asyncio.create_task(gateway.charge(charge(), key=key, timeout_seconds=30))
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(gateway_process.control_url + "/control/held")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_each_event_loop_has_a_client_of_its_own(gateway_process: Any, key: str) -> None:
    """The same adapter serves one loop after another."""
    gateway = HttpGateway("http:test", gateway_process.url)

    async def once() -> Outcome:
        try:
            return await gateway.charge(charge(), key=key, timeout_seconds=5)
        finally:
            await gateway.aclose()

    assert asyncio.run(once()) == asyncio.run(once())
