"""The status endpoints against the OpenAPI document that we ship: schemathesis writes the requests and judges the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import schemathesis
import yaml
from fuzz_budget import thrown
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import ROOT
from shopworld import World, Worlds, charging_handler, rule

from cxguard.core.answer import MoneyTold, Situation
from cxguard.dashboard import dashboard
from cxguard.stores.base import Query
from cxguard.testing import Fault, FaultyStore
from cxguard.testing.fake_gateway import Does

RAW = yaml.safe_load((ROOT / "docs" / "status.openapi.yaml").read_text("utf-8"))
SCHEMA = schemathesis.openapi.from_dict(RAW)
OPERATIONS = {found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)}
BASE = "http://shop.example/_cxguard"
JSON = {"accept": "application/json"}
CHECKS = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
MODES = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
_PAGE = {"description": "a page", "content": {"text/html": {}}}
_TEXTS = {"type": "object", "minProperties": 1, "additionalProperties": {"type": ["string", "object", "array"]}}
_READ = {"description": "read", "content": {"application/json": {"schema": _TEXTS}}}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}
DESK = {
    "openapi": "3.1.0",
    "info": {"title": "the desk", "version": "1"},
    "paths": {
        "/now.json": {"get": {"responses": {"200": _READ, "401": _PAGE}}},
        "/orders/{name}/live.json": {"get": {"parameters": [_NAME], "responses": {"200": _READ, "401": _PAGE, "404": _PAGE}}},
    },
}


async def place(op: Any) -> None:
    """How a kept order is placed: never, here."""


class Ground:
    """A shop with orders in several states, and the tokens of their links."""

    def __init__(self) -> None:
        self.runner, self.stack = asyncio.Runner(), AsyncExitStack()
        self.world: World = self.runner.run(self._made())

        self.desk = dashboard(self.world.guard, auth=lambda request: request.headers.get("x-staff") or None)
        found = self.runner.run(self.world.store.search(Query("shop"))).operations
        self.ids, self.references = [one.id for one in found], [one.reference for one in found]

    async def _made(self) -> World:
        world = await Worlds(self.stack)(charging_handler, rule(later=place, terms="1", client_reads_202=True), faulty=True)
        ends = {"paid": Does.CHARGE, "no": Does.DECLINE, "lost": Does.UNKNOWN, "bank": Does.NEEDS_SHOPPER, "kept": Does.NOT_CHARGED}
        for key, does in ends.items():
            world.gateway.will(*[does] * (3 if does is Does.NOT_CHARGED else 1))
            await world.pay(key=key, cart=key)
        return world

    @property
    def faulty(self) -> FaultyStore:
        assert isinstance(self.world.store, FaultyStore)
        return self.world.store

    def tokens_of(self, ids: list[str], *, seconds: float = 60) -> list[str]:
        """Links to orders, for so long."""
        seal, ends = self.world.guard.engine.seal, self.world.clock.now() + seconds
        return [seal.sign_token(id, expires_at=ends, purpose="status") for id in ids]

    def send(self, app: Any, sent: dict[str, Any]) -> httpx.Response:
        """What *app* answers to a request that somebody else wrote."""
        known = {name: sent[name] for name in ("method", "url", "headers", "params", "data", "json", "cookies") if sent.get(name)}

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False)) as client:
                return await client.request(**known)

        return self.runner.run(ask())

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    made = Ground()
    yield made
    made.close()


def asked(ground: Ground, data: st.DataObject, operation: Any) -> tuple[Any, httpx.Response]:
    """One request as schemathesis writes it, good or bad, most of the time to an order that there is, or was."""
    case = data.draw(operation.as_strategy(generation_mode=data.draw(MODES)))
    links = [*ground.tokens_of([*ground.ids, "f" * 64]), *ground.tokens_of(ground.ids[:1], seconds=-1)]
    token = data.draw(st.none() | st.sampled_from(links))
    if token is not None:
        case.path_parameters["token"] = token
    return case, ground.send(ground.world.app, case.as_transport_kwargs(base_url=BASE, headers=JSON))


@pytest.mark.parametrize("name", OPERATIONS)
@thrown(40)
@given(data=st.data())
def test_every_answer_is_as_the_document_says(ground: Ground, name: str, data: st.DataObject) -> None:
    """Its status, its content type, its headers, and each member of it; and never a 5xx."""
    case, response = asked(ground, data, OPERATIONS[name])
    case.validate_response(response, checks=[not_a_server_error, *CHECKS])


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_while_the_store_is_away_is_as_the_document_says(ground: Ground, name: str) -> None:
    """503, a problem, and nobody is told that there is no such order."""
    ground.faulty.decide = lambda verb: Fault.NOT_DONE
    try:
        body = {"body": {"what": "other"}} if name == "say" else {}
        case = OPERATIONS[name].Case(path_parameters={"token": ground.tokens_of(["a" * 64])[0]}, **body)
        response = ground.send(ground.world.app, case.as_transport_kwargs(base_url=BASE, headers=JSON))
    finally:
        ground.faulty.heal()
    case.validate_response(response, checks=CHECKS)
    assert (response.status_code, response.json()["situation"]) == (503, Situation.STORE_AWAY)


def test_the_document_knows_every_word_for_the_money() -> None:
    """Whoever generates a client from it meets no word that is not there."""
    told = RAW["components"]["schemas"]["Answer"]["properties"]["money"]["enum"]
    assert set(told) == {*(each.value for each in MoneyTold), None}


@pytest.mark.parametrize("path", DESK["paths"])
@thrown(30)
@given(data=st.data())
def test_the_desks_own_json_is_what_its_script_reads(ground: Ground, path: str, data: st.DataObject) -> None:
    """Texts, also for figures; a 404 is a page; without a name, 401."""
    operation = schemathesis.openapi.from_dict(DESK)[path]["GET"]
    case = data.draw(operation.as_strategy(generation_mode=data.draw(MODES)))
    if data.draw(st.booleans()) and "name" in case.path_parameters:
        case.path_parameters["name"] = data.draw(st.sampled_from(ground.references))
    sent = case.as_transport_kwargs(base_url="http://shop.example", headers={"x-staff": data.draw(st.sampled_from(["anna", "anna", ""]))})
    response = ground.send(ground.desk, sent)
    case.validate_response(response, checks=[not_a_server_error, *CHECKS])
    assert (response.status_code == 401) is (not sent["headers"]["x-staff"])
