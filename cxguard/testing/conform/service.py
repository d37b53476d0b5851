"""The service under test, over HTTP, and whoever counts its effects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag

import httpx

from cxguard.errors import ConfigurationError
from cxguard.testing.answers import Answer, is_paid
from cxguard.testing.conform.http_file import Sendable

AGAIN_SECONDS = 0.2  # between two tries of somebody who waits for the end
KEPT_ANSWERS = 50  # of one case, the newest


@dataclass(frozen=True, slots=True)
class Service:
    """Where requests go. A connection for each: none outlives a killed server.

    Attributes:
        effects: an address, with a JSON pointer (RFC 6901) as its fragment, to a list that grows by one with each effect,
            or to a number: `http://127.0.0.1:9000/ledger#/payments`. Empty: nobody counts.
        timeout_seconds: for one answer.
    """

    url: str
    effects: str = ""
    timeout_seconds: float = 30.0

    async def send(self, request: Sendable) -> Answer:
        """One request, and what came back."""
        try:
            async with asyncio.timeout(self.timeout_seconds), self._client() as client:
                response = await client.request(
                    request.method, self.url.rstrip("/") + request.path, headers=list(request.headers), content=request.body
                )
        except TimeoutError:
            return Answer(None, why=f"none after {self.timeout_seconds:g} s")
        except httpx.TransportError as error:
            return Answer(None, why=f"{type(error).__name__} {error}".strip())
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content)

    async def send_until_paid(self, request: Sendable, *, patience_seconds: float) -> list[Answer]:
        """The same request again and again, until it has succeeded or patience has ended. "Paid, we are finishing it" (202) is
        no end yet."""
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(patience_seconds):
                while not answers or not is_paid(answers[-1]):
                    answers = [*answers[-KEPT_ANSWERS:], await self.send(request)]
                    await asyncio.sleep(0.0 if is_paid(answers[-1]) else AGAIN_SECONDS)
        except TimeoutError:
            return answers
        return answers

    async def count(self) -> int | None:
        """How many effects there are by now; None if nobody counts.

        Raises:
            ConfigurationError: whoever counts does not say.
        """
        if not self.effects:
            return None
        address, pointer = urldefrag(self.effects)
        try:
            async with self._client() as client:
                found = (await client.get(address)).raise_for_status().json()
            return counted(at_pointer(found, unquote(pointer)))
        except (httpx.HTTPError, json.JSONDecodeError, LookupError, ValueError) as error:
            problem = f"{type(error).__name__} {error}".strip()
            raise ConfigurationError(
                f"effects cannot be counted at {self.effects}: {problem}. "
                "Write the address of a JSON document, with a pointer to a list or a number in it: --effects http://host/ledger#/payments"
            ) from error

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(trust_env=False, timeout=self.timeout_seconds)


def at_pointer(document: Any, pointer: str) -> Any:
    """The part of *document* that a JSON pointer names.

    Raises:
        LookupError, ValueError: there is none.
    """
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else _member(document, name)
    return document


def counted(found: Any) -> int:
    """A list's length, or a number.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(found, list):
        return len(found)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise ValueError("neither a list nor a whole number stands there")


def _member(document: Any, name: str) -> Any:
    if not isinstance(document, Mapping):
        raise LookupError(f"there is no {name!r}")
    return document[name]
