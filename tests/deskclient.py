"""A browser without scripts in front of the desk: reads pages, sends their forms."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser

import httpx
from deskworld import DeskWorld
from starlette.requests import Request

SAME = {"sec-fetch-site": "same-origin"}


def who(request: Request) -> str | None:
    return request.headers.get("x-staff")


class Forms(HTMLParser):
    """Every form of a page: its address and its fields."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self._fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._fields = self.forms.setdefault(given["action"], {})
        elif tag == "input" and given.get("type") != "radio" and "name" in given:
            self._fields[given["name"]] = given.get("value", "")


@dataclass
class DeskClient:
    """Somebody at the desk of *world*."""

    world: DeskWorld
    client: httpx.AsyncClient

    async def get(self, path: str, **options: object) -> httpx.Response:
        return await self.client.get(f"/ops{path}", **options)  # type: ignore[arg-type]

    async def forms(self, path: str) -> dict[str, dict[str, str]]:
        parser = Forms()
        parser.feed((await self.get(path)).text)
        return parser.forms

    async def press(self, reference: str, action: str, **fields: str) -> httpx.Response:
        """Fill in the form of *action* on the order's page, and send it."""
        form = (await self.forms(f"/orders/{reference}"))[f"/ops/orders/{reference}/{action}"]
        return await self.post(f"/orders/{reference}/{action}", {"why": "because", **form, **fields})

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        return await self.client.post(f"/ops{path}", data=fields, headers=SAME | headers)
