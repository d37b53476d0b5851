"""One gateway and one server for each shop, started once; every test gets the gateway healthy and a basket of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from frameworks.ground import FRAMEWORKS, Framework, Gateway, Ground, fresh
from servers import Serve, Spawn, started


@pytest.fixture(scope="session")
def starters() -> Iterator[tuple[Serve, Spawn]]:
    with started() as both:
        yield both


@pytest.fixture(scope="session")
def payments(starters: tuple[Serve, Spawn], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway that all the shops share; one test runs at a time."""
    gateway = Gateway.started(starters[1], tmp_path_factory.mktemp("gateway"))
    with gateway.client:
        yield gateway


@pytest.fixture(scope="session", params=FRAMEWORKS, ids=lambda framework: framework.name)
def opened(
    request: pytest.FixtureRequest, starters: tuple[Serve, Spawn], payments: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    framework: Framework = request.param
    ground = Ground.opened(starters[0], payments, framework, tmp_path_factory.mktemp(framework.name))
    yield ground
    ground.server.stop()


@pytest.fixture
def shop(opened: Ground) -> Iterator[Ground]:
    """Each of the shops in turn, with a healthy gateway."""
    with ExitStack() as stack:
        yield replace(opened, stack=stack)
    opened.gateway.recover()


@pytest.fixture
def cart() -> str:
    """A basket that no other test has; the ledger names it."""
    return fresh("cart")
