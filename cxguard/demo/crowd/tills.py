"""Two ways to shop over HTTP, with one shape: a browser without scripts, and an app."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import httpx

from cxguard.clock import Clock
from cxguard.demo.crowd.plans import Plan
from cxguard.demo.crowd.understanding import NO_ANSWER, Heard, hidden_fields, understand_json, understand_page
from cxguard.demo.crowd.words import Told, Transcript, Word

ANSWER_SECONDS_MAX = 20.0  # then even a calm shopper gives up on the answer
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loopback without TLS: loading certificates for each shopper costs 20 ms


class Till(Protocol):
    """What a shopper can do. Every answer goes into her transcript."""

    sent: asyncio.Event
    """Set when the request to pay was written: from then on it is the shop's."""

    async def fill_basket(self) -> None: ...

    async def reload(self) -> None:
        """Load the checkout again: a new form token, or a new idempotency key."""
        ...

    async def pay(self) -> Heard: ...

    async def arrive(self) -> None:
        """Return when what was sent so far has reached the shop."""
        ...

    async def look(self, heard: Heard) -> Heard: ...

    async def cancel(self, heard: Heard) -> Heard: ...

    async def aclose(self) -> None: ...


class _Visit:
    """A session of one shopper at the shop."""

    def __init__(self, shop_url: str, plan: Plan, transcript: Transcript, *, clock: Clock, headers: Mapping[str, str]) -> None:
        self.sent = asyncio.Event()
        self._plan = plan
        self._transcript = transcript
        self._clock = clock
        self._client = httpx.AsyncClient(
            base_url=shop_url, headers={"Accept-Language": "en", **headers}, timeout=ANSWER_SECONDS_MAX, trust_env=False, verify=_NO_TLS
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def arrive(self) -> None:
        """A shop that takes its requests one after another has read ours when it answers a later one.

        A server that hears of a request and of the end of its connection in the same moment drops it unread.
        """
        try:
            await self._client.get("/shop.css")
        except httpx.HTTPError:
            return

    async def _hear(self, ask: Callable[[], Awaitable[Heard]]) -> Heard:
        """Ask, and write down what was said. A broken connection says nothing; a shopper who leaves hears nothing."""
        asked_at = self._clock.now()
        try:
            heard = await ask()
        except httpx.HTTPError as error:
            heard = Heard(Word.NOTHING, type(error).__name__)
        told = Told(asked_at, self._clock.now(), heard.word, heard.text, heard.reference)
        self._transcript.told.append(told)
        return heard

    async def _note_sent(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            self.sent.set()


class Browser(_Visit):
    """Pages and forms, no scripts."""

    def __init__(self, shop_url: str, plan: Plan, transcript: Transcript, *, clock: Clock) -> None:
        super().__init__(shop_url, plan, transcript, clock=clock, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})
        self._form: dict[str, str] = {}

    async def fill_basket(self) -> None:
        page = await self._client.get("/")
        fields = {**hidden_fields(page.text), "product": self._plan.product, "quantity": "1"}
        await self._client.post("/basket", data=fields, follow_redirects=True)
        await self.reload()

    async def reload(self) -> None:
        page = await self._client.get("/checkout", follow_redirects=True)
        fields = hidden_fields(page.text)
        if "basket_id" in fields:
            self._form = fields | {"email": f"shopper{self._plan.number}@example.org", "source": self._plan.source}

    async def pay(self) -> Heard:
        heard = await self._hear(self._submit)
        return await self._hear(self._my_orders) if heard.basket_gone else heard

    async def look(self, heard: Heard) -> Heard:
        return await self._hear(lambda: self._page(heard.follow_url))

    async def cancel(self, heard: Heard) -> Heard:
        async def send() -> Heard:
            answer = await self._client.post(heard.cancel_url, data=dict(heard.cancel_fields or {}), follow_redirects=True)
            return understand_page(answer.status_code, answer.text, url=str(answer.url))

        return await self._hear(send) if heard.cancel_url else heard

    async def _submit(self) -> Heard:
        answer = await self._client.post("/checkout/pay", data=self._form, extensions={"trace": self._note_sent})
        if answer.is_redirect:
            return await self._page(answer.headers["location"])
        return understand_page(answer.status_code, answer.text, url=str(answer.url))

    async def _page(self, url: str) -> Heard:
        answer = await self._client.get(url, follow_redirects=True)
        return understand_page(answer.status_code, answer.text, url=str(answer.url))

    async def _my_orders(self) -> Heard:
        page = (await self._client.get("/orders")).text
        return Heard(Word.PAID, "My orders: paid") if "/orders/FC-" in page else Heard(Word.NOTHING, "My orders: none")


class App(_Visit):
    """A client of the JSON API that knows what a 202 is: it follows `status_url`."""

    def __init__(self, shop_url: str, plan: Plan, transcript: Transcript, *, clock: Clock) -> None:
        super().__init__(shop_url, plan, transcript, clock=clock, headers={"Accept": "application/json"})
        self._basket: dict[str, Any] = {}
        self._key = ""

    async def fill_basket(self) -> None:
        await self._client.get("/api/products")
        answer = await self._client.put("/api/basket", json={"items": [{"product": self._plan.product}]})
        self._basket = {name: answer.json()[name] for name in ("basket_id", "amount_minor", "currency")}
        await self.reload()

    async def reload(self) -> None:
        self._key = f"{self._plan.number}-{uuid.uuid4().hex}"

    async def pay(self) -> Heard:
        heard = await self._hear(self._submit)
        return await self._hear(self._my_orders) if heard.basket_gone else heard

    async def look(self, heard: Heard) -> Heard:
        return await self._hear(lambda: self._json("GET", heard.follow_url))

    async def cancel(self, heard: Heard) -> Heard:
        return await self._hear(lambda: self._json("POST", f"{heard.follow_url}/cancel")) if heard.follow_url else heard

    async def _submit(self) -> Heard:
        order = {**self._basket, "source": self._plan.source, "email": f"shopper{self._plan.number}@example.org"}
        headers = {"Idempotency-Key": self._key, "Prefer": "respond-async"}
        answer = await self._client.post("/api/checkout", json=order, headers=headers, extensions={"trace": self._note_sent})
        return understand_json(answer.status_code, answer.content, url=str(answer.url))

    async def _json(self, method: str, url: str) -> Heard:
        answer = await self._client.request(method, url)
        return understand_json(answer.status_code, answer.content, url=str(answer.url))

    async def _my_orders(self) -> Heard:
        orders = (await self._client.get("/api/orders")).json()
        return Heard(Word.PAID, "My orders: paid", reference=orders[0]["number"]) if orders else NO_ANSWER
