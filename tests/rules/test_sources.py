"""Sources: keys and other values read from a request, in order."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadBody, BadHeader, ConfigurationError, MalformedKey
from cxguard.rules import (
    Arrival,
    FoundKey,
    cookie,
    form_field,
    graphql_variable,
    header,
    json_field,
    path_field,
    per_purchase,
    resolve_key,
    resolve_source,
)
from cxguard.rules.sources import AnySource, Ask, Source

FORM = "application/x-www-form-urlencoded"
KEY = ("idempotency-key", "k-1")


def arrival(
    body: bytes = b"", *headers: tuple[str, str], content_type: str = "application/json", params: dict[str, str] | None = None
) -> Arrival:
    snapshot = Snapshot("POST", "/pay", "", (("content-type", content_type), *headers), body)
    return Arrival(snapshot, {"type": "http"}, params or {})


async def value(source: AnySource, request: Arrival) -> str | None:
    found = await resolve_source(source, request)
    return found.value if found else None


@pytest.mark.parametrize(
    ("source", "request_", "expected"),
    [
        (header("X-Order"), arrival(b"", ("x-order", "7")), "7"),
        (header("X-Order"), arrival(), None),
        (cookie("cart"), arrival(b"", ("cookie", "a=1; cart=7")), "7"),
        (cookie("cart"), arrival(), None),
        (json_field("cart_id"), arrival(b'{"cart_id": "c-7"}'), "c-7"),
        (json_field("cart.id"), arrival(b'{"cart": {"id": 7}}'), "7"),
        (json_field("items.1.sku"), arrival(b'{"items": [{}, {"sku": "x"}]}'), "x"),
        (json_field("items.2.sku"), arrival(b'{"items": [{}, {"sku": "x"}]}'), None),
        (json_field("items.x"), arrival(b'{"items": [1]}'), None),
        (json_field("a.b"), arrival(b'{"a": "text"}'), None),
        (json_field("a"), arrival(b'{"a": null}'), None),
        (json_field("a"), arrival(b"{}"), None),
        (json_field("a"), arrival(b""), None),
        (json_field("a"), arrival(b"a=1", content_type=FORM), None),
        (json_field("price"), arrival(b'{"price": 49.90}'), "49.90"),
        (json_field("a"), arrival(b'{"a": 7}', content_type="text/plain;charset=UTF-8"), "7"),
        (json_field("a"), arrival(b'\xef\xbb\xbf {"a": 7}', content_type=""), "7"),
        (json_field("a"), arrival(b'{"a": 7}', content_type=FORM), "7"),
        (json_field("a"), arrival(b"{a}=7", content_type="text/plain"), None),
        (form_field("cart"), arrival(b"cart=7", content_type=FORM), "7"),
        (form_field("cart"), arrival(b"", content_type=FORM), None),
        (form_field("cart"), arrival(b'{"cart": 7}'), None),
        (path_field("id"), arrival(params={"id": "7"}), "7"),
        (path_field("id"), arrival(), None),
        (graphql_variable("input.cartId"), arrival(b'{"query": "{a}", "variables": {"input": {"cartId": 7}}}'), "7"),
        (graphql_variable("cartId"), arrival(b'{"query": "{a}"}'), None),
    ],
)
@pytest.mark.asyncio
async def test_sources_of_a_request(source: Source, request_: Arrival, expected: str | None) -> None:
    """Each source reads its own place as text, and has nothing where there is nothing."""
    assert await value(source, request_) == expected


@pytest.mark.parametrize("body", [b'{"a": []}', b'{"a": {}}', b'{"a": true}'])
@pytest.mark.asyncio
async def test_values_that_name_nothing_are_refused(body: bytes) -> None:
    """A list, an object or a truth value is no key."""
    with pytest.raises(BadBody, match=r"json field a is a .*: send text or a whole number"):
        await value(json_field("a"), arrival(body))


@pytest.mark.asyncio
async def test_form_field_of_a_multipart_form() -> None:
    """A multipart form is read as well."""
    body = b'--b\r\nContent-Disposition: form-data; name="cart"\r\n\r\n7\r\n--b--\r\n'
    assert await value(form_field("cart"), arrival(body, content_type="multipart/form-data; boundary=b")) == "7"


# --- callables


def blocking(request: Arrival) -> str:
    return threading.current_thread().name


async def awaited(request: Arrival) -> str:
    return threading.current_thread().name


class AwaitedObject:
    async def __call__(self, request: Arrival) -> str:
        return threading.current_thread().name


@pytest.mark.asyncio
async def test_blocking_callables_run_in_a_thread() -> None:
    """A plain callable of the shop does not stop the event loop; an async one runs on it."""
    here = threading.current_thread().name
    assert await value(blocking, arrival()) != here
    assert await value(awaited, arrival()) == here
    assert await value(AwaitedObject(), arrival()) == here


@pytest.mark.asyncio
async def test_callers_own_thread_is_used() -> None:
    """Whoever has threads of their own can bring them."""
    used: list[Ask] = []

    async def in_thread(ask: Ask, request: Arrival) -> Any:
        used.append(ask)
        return ask(request)

    found = await resolve_source(blocking, arrival(), in_thread=in_thread)
    assert used == [blocking] and found is not None


@pytest.mark.asyncio
async def test_plain_callable_may_return_an_awaitable() -> None:
    """A lambda around an async function is awaited, too."""
    assert await value(lambda request: awaited(request), arrival()) == threading.current_thread().name


@pytest.mark.parametrize(
    ("gives", "text"),
    [(7, "7"), ("a", "a"), (None, None), (UUID(int=7), "00000000-0000-0000-0000-000000000007"), (Decimal("1.50"), "1.50")],
)
@pytest.mark.asyncio
async def test_callables_may_give_ids(gives: Any, text: str | None) -> None:
    """Numbers, text and UUIDs are ids; nothing is nothing."""

    async def ask(request: Arrival) -> Any:
        return gives

    assert await value(ask, arrival()) == text


@pytest.mark.parametrize("gives", [1.5, b"x", True, object()])
@pytest.mark.asyncio
async def test_callables_may_not_give_anything_else(gives: Any) -> None:
    """A float or bytes is refused by the callable's name."""

    async def basket_of(request: Arrival) -> Any:
        return gives

    with pytest.raises(BadBody, match="basket_of is a"):
        await value(basket_of, arrival())


# --- keys

CHAIN = header("Idempotency-Key") | json_field("cart_id") | cookie("basket")


@pytest.mark.parametrize(
    ("source", "request_", "expected"),
    [
        (header("Idempotency-Key"), arrival(b"", KEY), FoundKey("k-1", True, "header Idempotency-Key")),
        (header("Idempotency-Key"), arrival(b"", ("idempotency-key", '"k-1"')), FoundKey("k-1", True, "header Idempotency-Key")),
        (json_field("cart_id"), arrival(b'{"cart_id": 7}'), FoundKey("7", False, "json field cart_id")),
        (CHAIN, arrival(b"{}", KEY), FoundKey("k-1", True, "header Idempotency-Key")),
        (CHAIN, arrival(b'{"cart_id": 7}', KEY), FoundKey("k-1", True, "header Idempotency-Key", ("cart_id", "7"))),
        (CHAIN, arrival(b'{"cart_id": 7}'), FoundKey("7", False, "json field cart_id", ("cart_id", "7"))),
        (
            CHAIN,
            arrival(b'{"cart_id": 7}', ("cookie", "basket=b")),
            FoundKey("7", False, "json field cart_id", ("cart_id", "7", "basket", "b")),
        ),
        (CHAIN, arrival(b"{}"), None),
        (per_purchase("GET /done"), arrival(b"{}"), FoundKey("", False, "per purchase")),
        (header("Idempotency-Key") | per_purchase("GET /done"), arrival(b"{}"), FoundKey("", False, "per purchase")),
        (header("Idempotency-Key") | per_purchase("GET /done"), arrival(b"{}", KEY), FoundKey("k-1", True, "header Idempotency-Key")),
        (
            header("Idempotency-Key") | json_field("cart_id") | per_purchase("GET /done"),
            arrival(b'{"cart_id": 7}', KEY),
            FoundKey("k-1", True, "header Idempotency-Key", ("cart_id", "7")),
        ),
        (header("X-One") | header("X-Two"), arrival(b"", ("x-one", "1"), ("x-two", "2")), FoundKey("1", True, "header X-One")),
    ],
)
@pytest.mark.asyncio
async def test_keys(source: AnySource, request_: Arrival, expected: FoundKey | None) -> None:
    """The first part gives the key; what names the basket joins the purchase, whether it gave the key or not."""
    assert await resolve_key(source, request_) == expected


@pytest.mark.asyncio
async def test_one_basket_is_one_purchase_with_and_without_a_header() -> None:
    """The same basket names the same purchase, whether the client sent a key of its own or not."""
    source = header("Idempotency-Key") | json_field("cart_id")
    keys = [await resolve_key(source, arrival(b'{"cart_id": 7}', *headers)) for headers in ((), (KEY,))]
    assert keys[0] is not None and keys[1] is not None and keys[0].basket == keys[1].basket != ()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (arrival(b"{}", ("idempotency-key", "")), MalformedKey),
        (arrival(b"{}", ("idempotency-key", "a" * 256)), MalformedKey),
        (arrival(b"{}", ("idempotency-key", "a\x01")), MalformedKey),
        (arrival(b"{}", KEY, ("idempotency-key", "k-2")), BadHeader),
        (arrival(b'{"cart_id": ""}'), MalformedKey),
        (arrival(b'{"cart_id": []}'), BadBody),
        (arrival(b'{"cart_id": 7', KEY), BadBody),
    ],
)
@pytest.mark.asyncio
async def test_refused_keys(request_: Arrival, error: type[Exception]) -> None:
    """A key that cannot be one is refused, never passed over for the next part."""
    with pytest.raises(error):
        await resolve_key(CHAIN, request_)


def test_nothing_follows_per_purchase() -> None:
    """A part behind `per_purchase` would never be asked: refused when it is written."""
    with pytest.raises(ConfigurationError, match='write it last, as in header\\("Idempotency-Key"\\) \\| per_purchase'):
        header("a") | per_purchase("GET /done") | json_field("b")


def test_chains_join() -> None:
    """Chains and callables can be joined in any grouping, to the same chain."""
    a, b, c = header("a"), cookie("b"), json_field("c")
    assert ((a | b) | c) == (a | (b | c))
    assert (a | blocking).parts == (a, blocking)


@pytest.mark.asyncio
async def test_cancelling_is_not_swallowed() -> None:
    """A request that is cancelled while the shop looks something up is cancelled."""
    began = asyncio.Event()

    async def for_ever(request: Arrival) -> str:
        began.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(resolve_source(for_ever, arrival()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
