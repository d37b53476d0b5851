"""Where the cases are played: a gateway process with its own ledger, a shop on a real uvicorn, and shoppers over HTTP."""

from __future__ import annotations

import json
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from servers import Process, Serve, Server, Spawn, between_looks

PATIENCE_SECONDS = 15.0
LOOPBACK: dict[str, Any] = {"trust_env": False, "timeout": 30.0, "verify": False}  # plain HTTP: no certificates are read
ASYNC = {"prefer": "respond-async"}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Framework:
    """One of the shops.

    Attributes:
        lifespan: it has one that can fail.
        background: it has work after the answer that the answer waits for.
        form: it has a form beside the JSON.
    """

    name: str
    module: str
    env: Mapping[str, str]
    lifespan: bool = True
    background: bool = True
    form: bool = True

    @property
    def graphql(self) -> bool:
        return self.name == "graphql"

    @property
    def app(self) -> str:
        return f"frameworks.apps.{self.module}:app"


FRAMEWORKS = (
    Framework("starlette", "starlette_shop", {}),
    Framework("fastapi", "fastapi_shop", {}),
    Framework("django-sync", "django_shop", {"SHOP_VIEWS": "sync"}, lifespan=False, background=False),
    Framework("django-async", "django_shop", {"SHOP_VIEWS": "async"}, lifespan=False, background=False),
    Framework("litestar", "litestar_shop", {}),
    Framework("quart", "quart_shop", {}, background=False),  # its background tasks are no part of the request
    Framework("wsgi", "wsgi_shop", {}, lifespan=False),
    Framework("graphql", "graphql_shop", {}, form=False),
)


def only(applies: Callable[[Framework], bool]) -> pytest.MarkDecorator:
    """Play the case only in the shops that it can arise in: what cannot arise is not skipped, it is not there."""
    return pytest.mark.parametrize("opened", [one for one in FRAMEWORKS if applies(one)], ids=lambda one: one.name, indirect=True)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway process, its ledger, and how to break it."""

    process: Process
    url: str
    control_url: str
    client: httpx.Client

    @classmethod
    def started(cls, spawn: Spawn, folder: Path) -> Gateway:
        command = [sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(folder / "gateway.db")]
        process = spawn(command, ready="control_url")
        facts = json.loads(process.ready_line)
        return cls(process, facts["url"], facts["control_url"], httpx.Client(**LOOPBACK))

    def mode(self, mode: str, **members: Any) -> None:
        """Healthy, or one of its faults."""
        self._ask("PUT", "/control", {"mode": mode, **members})

    @contextmanager
    def holding(self, count: int = 1, *, at: str = "after_charge") -> Iterator[None]:
        """Stop the next charges at the barrier; they go on when the block ends."""
        self._ask("POST", "/control/hold", {"count": count, "at": at})
        try:
            yield
        finally:
            self.release()

    def until_held(self, count: int = 1) -> None:
        """Wait until so many charges stand at the barrier."""
        assert len(self._ask("GET", f"/control/held?count={count}&seconds=15", None)["held"]) == count

    def release(self) -> None:
        self._ask("POST", "/control/release", {})

    def recover(self) -> None:
        """As it was at the beginning."""
        self.release()
        self.mode("healthy", lookups_too=False)

    def charges(self, cart: str) -> list[dict[str, Any]]:
        """What stands in the ledger for a basket."""
        return [
            line for line in self._ask("GET", "/ledger", None)["payments"] if line["reference"] == cart and line["status"] == "succeeded"
        ]

    def sends(self, cart: str) -> list[dict[str, Any]]:
        """Every request to charge that arrived for a basket."""
        return [line for line in self._ask("GET", "/ledger", None)["sends"] if line["reference"] == cart]

    def _ask(self, method: str, path: str, members: dict[str, Any] | None) -> dict[str, Any]:
        answer = self.client.request(method, self.control_url + path, json=members)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@dataclass(frozen=True, slots=True)
class Ground:
    """One shop, its gateway, and the folder in which both keep their files."""

    framework: Framework
    server: Server
    gateway: Gateway
    folder: Path
    root: str = ""
    stack: ExitStack = field(default_factory=ExitStack)  # closes the shoppers' connections

    @classmethod
    def opened(cls, serve: Serve, gateway: Gateway, framework: Framework, folder: Path, *, root: str = "", port: int = 0) -> Ground:
        """Start the shop; the same *folder* again is the same shop after a crash."""
        (folder / "sent").mkdir(exist_ok=True)
        options = ["--no-access-log", *(("--root-path", root) if root else ())]
        server = serve(framework.app, env=environment(framework, gateway, folder, root=root), port=port, options=options)
        return cls(framework, server, gateway, folder, root)

    def shopper(self, name: str = "ann") -> Shopper:
        """Somebody who has signed in."""
        shopper = self.stranger()
        answer = shopper.client.get(f"{self.root}/sign-in", params={"name": name})
        assert answer.status_code == 200, answer.text
        return shopper

    def stranger(self) -> Shopper:
        """Somebody without any cookie."""
        hooks = {"request": [self._through_proxy]}
        client = httpx.Client(base_url=self.server.url, event_hooks=hooks, **LOOPBACK)
        return Shopper(self, self.stack.enter_context(client))

    def _through_proxy(self, request: httpx.Request) -> None:
        """A proxy takes the mount off the path before the server sees it; the server was told of it (`--root-path`)."""
        request.url = request.url.copy_with(raw_path=request.url.raw_path.removeprefix(self.root.encode()))


def environment(framework: Framework, gateway: Gateway, folder: Path, *, root: str = "") -> dict[str, str]:
    store = f"sqlite:///{folder / 'guard.db'}"
    return {**framework.env, "GATEWAY_URL": gateway.url, "SHOP_STORE": store, "SHOP_FOLDER": str(folder), "SHOP_ROOT": root}


@dataclass(frozen=True, slots=True)
class Told:
    """What a shopper was told, whatever form it came in."""

    answer: httpx.Response
    status: int
    body: dict[str, Any]

    @property
    def paid(self) -> bool:
        """The shop's own success."""
        return self.status == 201 and "payment" in self.body

    @property
    def money(self) -> str:
        """The word about the money; the shop's own success says "charged"."""
        return "charged" if self.paid else str(self.body.get("money"))

    @property
    def situation(self) -> str:
        return str(self.body.get("situation"))


@dataclass(frozen=True, slots=True)
class Shopper:
    """Speaks to one shop as its front end does."""

    ground: Ground
    client: httpx.Client

    def pay(self, cart: str, *, door: str = "pay", key: str | None = "", amount: int = 1000, card: str = "tok_ok", **headers: str) -> Told:
        """One submit of a basket. The key is the basket's own, unless told otherwise; None: without one."""
        order = {"cart": cart, "amount": amount, "currency": "EUR", "card": card}
        path, content = written(self.ground, door, order)
        sent = {"content-type": "application/json", "accept": "application/json", **headers}
        if key is not None:
            sent["idempotency-key"] = key or f"key-{cart}"
        return self.told(self.client.post(path, content=content, headers={name.replace("_", "-"): value for name, value in sent.items()}))

    def post(self, content: Any, *, door: str = "pay", **headers: str) -> Told:
        """Any body, with a good key."""
        sent = {"content-type": "application/json", "accept": "application/json", "idempotency-key": fresh("k"), **headers}
        path, _ = written(self.ground, door, {})
        return self.told(self.client.post(path, content=content, headers={name.replace("_", "-"): value for name, value in sent.items()}))

    def checkout(self, cart: str, *, card: str = "tok_ok", **headers: str) -> httpx.Response:
        """Open the form, as a browser does, and send it."""
        page = self.client.get(f"{self.ground.root}/checkout", headers={"accept": "text/html"})
        name, value = page.text.split('name="')[1].split('"')[0], page.text.split('value="')[1].split('"')[0]
        fields = {"cart": cart, "amount": "1000", "currency": "EUR", "card": card, name: value}
        sent = {"accept": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.client.post(f"{self.ground.root}/checkout", data=fields, headers=sent)

    def told(self, answer: httpx.Response) -> Told:
        """Read an answer as the front end of this shop does."""
        document = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if not self.ground.framework.graphql or "type" in document or not ({"data", "errors"} & set(document)):
            return Told(answer, answer.status_code, document)
        errors = document.get("errors") or []
        if errors:
            extensions = errors[0].get("extensions", {})
            return Told(answer, extensions.get("status", 500), extensions)
        return Told(answer, 201, next(iter(document["data"].values())))

    def status(self, told: Told) -> dict[str, Any]:
        """What the status page of the order says now."""
        return dict(self.client.get(told.body["status_url"], headers={"accept": "application/json"}).json())


_MUTATIONS = {"pay": "pay", "pay-now": "payNow", "shop-pay": "shopPay"}


def written(ground: Ground, door: str, order: dict[str, Any]) -> tuple[str, bytes]:
    """Path and body of one submit, as this shop wants them."""
    if not ground.framework.graphql:
        return f"{ground.root}/{door}", json.dumps(order).encode()
    variables = "$cart: String!, $amount: Int!, $currency: String!, $card: String!"
    members = "cart: $cart, amount: $amount, currency: $currency, card: $card"
    query = f"mutation Buy({variables}) {{ {_MUTATIONS[door]}({members}) {{ cart payment }} }}"
    return f"{ground.root}/graphql", json.dumps({"query": query, "variables": order}).encode()


def fresh(word: str) -> str:
    """A name that no other test uses."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


def until(look: Callable[[], T], *, wanted: Callable[[T], bool]) -> T:
    """Look until it is as wanted. Each look is a request of its own, so this waits for the shop, and not for a time."""
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < ends_at, f"still {seen!r}"
        between_looks()


def raw_request(
    ground: Ground, shopper: Shopper, content: bytes, *, lines: tuple[bytes, ...] = (), length: int | None = None, door: str = "pay"
) -> bytes:
    """The bytes of a submit, for what no client library would send."""
    path, _ = written(ground, door, {})
    cookies = "; ".join(f"{name}={value}" for name, value in shopper.client.cookies.items())
    head = [
        f"POST {path} HTTP/1.1".encode(),
        b"host: 127.0.0.1",
        b"content-type: application/json",
        b"accept: application/json",
        f"cookie: {cookies}".encode(),
        f"content-length: {len(content) if length is None else length}".encode(),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + content


def connected(ground: Ground) -> socket.socket:
    return socket.create_connection(("127.0.0.1", ground.server.port), timeout=15.0)


def read_raw(connection: socket.socket) -> httpx.Response:
    """One answer with a JSON body on a raw connection."""
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = stream.read(length)
    return httpx.Response(status, json=json.loads(body)) if body[:1] == b"{" else httpx.Response(status, content=body)
