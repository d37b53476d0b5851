"""Figures for Prometheus: `app.mount("/metrics", metrics(guard, token=...))`.

Each scrape reads counters and sums that the store keeps in the same commits as the orders, so every process of a shop tells
the same and nothing has to be added up; only the spool's and the breakers' lines are of the machine and the process that was
asked. A store that is away is a figure, too: the page is there, and says so.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cxguard.engine.breaker_cells import BreakerView
from cxguard.engine.report import Line, Report, build_report
from cxguard.engine.spool import SpoolFigures
from cxguard.errors import ConfigurationError, StoreError
from cxguard.guard import Guard
from cxguard.stores.base import Tally

TOKEN_CHARS_MIN = 16
CLOSED = """\
The figures tell what the shop sells, so they need a token. Write:

app.mount("/metrics", metrics(guard, token=os.environ["METRICS_TOKEN"]))

and in prometheus.yml: authorization: {credentials_file: /etc/prometheus/shop.token}
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one scrape has read.

    Attributes:
        tally, report, store_now: None when the store did not answer.
        now: this machine's clock, which the spool runs on.
    """

    now: float
    breakers: tuple[BreakerView, ...] = ()
    spool: SpoolFigures | None = None
    tally: Tally | None = None
    report: Report | None = None
    store_now: float = 0.0


def metrics(guard: Guard, *, token: str | None) -> ASGIApp:
    """The figures of *guard* as Prometheus and OpenMetrics read them: an ASGI app to mount under any path.

    Args:
        token: what the scraper sends as `Authorization: Bearer ...`; at least 16 characters. None: every request is refused.

    Raises:
        ConfigurationError: the token is short, or `prometheus-client` is not installed.
    """
    if token is not None and len(token) < TOKEN_CHARS_MIN:
        raise ConfigurationError(
            f"a token of {len(token)} characters can be guessed: `python -c 'import secrets; print(secrets.token_hex())'`"
        )
    try:
        import prometheus_client  # noqa: F401 - looked for at the start, and not at the first scrape
    except ImportError as error:
        raise ConfigurationError("metrics(guard) needs prometheus-client: pip install 'cxguard[metrics]'") from error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await _answer(guard, Request(scope), token))(scope, receive, send)

    return app


async def _answer(guard: Guard, request: Request, token: str | None) -> Response:
    if token is None:
        return PlainTextResponse(CLOSED, 403)
    if request.method not in ("GET", "HEAD"):
        return PlainTextResponse("only GET\n", 405, {"allow": "GET, HEAD"})
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
        return PlainTextResponse("the token is missing or another one\n", 401, {"www-authenticate": "Bearer"})
    text, content_type = written(await measured(guard), accept=request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})


async def measured(guard: Guard) -> Measured:
    """Read everything once. Never raises for a store that is away."""
    now = guard.clock.now()
    try:
        await guard.start()
        tally, report = await guard.store.tally(guard.namespace), await build_report(guard.store, namespace=guard.namespace)
        store_now = await guard.store.clock()
    except StoreError:
        tally, report, store_now = None, None, 0.0
    breakers = guard.engine.breakers.states() if guard.started else ()
    return Measured(now, breakers, await _spool(guard), tally, report, store_now)


async def _spool(guard: Guard) -> SpoolFigures | None:
    if guard.spool is None or not guard.started:
        return None
    try:
        return await guard.spool.figures()
    except StoreError:  # its disk is full or gone; the doctor says more
        return None


def written(measured: Measured, *, accept: str = "") -> tuple[bytes, str]:
    """The text of one scrape in the format that *accept* asks for, and its content type."""
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept)
    return encoder(_Registry(measured)), content_type


class _Registry:
    """What an encoder asks for its families."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Any]:
        found = self._measured
        yield _gauge("store_away", "1 while the store does not answer", [((), float(found.tally is None))])
        yield from _of_breakers(found.breakers)
        if found.spool is not None:
            yield from _of_spool(found.spool, found.now)
        if found.tally is not None:
            yield from _of_tally(found.tally, found.store_now)
        if found.report is not None:
            yield from _of_report(found.report)


Samples = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, meaning: str, samples: Samples, labels: tuple[str, ...] = ()) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"cxguard_{name}", meaning, labels=labels), samples)


def _counter(name: str, meaning: str, samples: Samples, labels: tuple[str, ...] = ()) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"cxguard_{name}", meaning, labels=labels), samples)


def _filled(family: Any, samples: Samples) -> Any:
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _of_breakers(breakers: Iterable[BreakerView]) -> Iterator[Any]:
    labels = ("gateway", "kind", "method", "state")
    states = [((each.gateway, each.kind, each.method, str(each.label)), 1.0) for each in breakers]
    yield _gauge("breaker", "how each gateway's breaker stands, as this process knows it", states, labels)


def _of_spool(figures: SpoolFigures, now: float) -> Iterator[Any]:
    age = max(0.0, now - figures.oldest_at) if figures.oldest_at is not None else 0.0
    yield _gauge("spool_orders", "orders that wait on this machine for the store to come back", [((), figures.orders)])
    yield _gauge("spool_facts", "facts about payments that wait there", [((), figures.facts)])
    yield _gauge("spool_bytes", "what they take of the disk", [((), figures.used_bytes)])
    yield _gauge("spool_oldest_seconds", "since when the oldest of them waits", [((), age)])


def _of_tally(tally: Tally, now: float) -> Iterator[Any]:
    operations = [(key, float(count)) for key, count in sorted(tally.operations.items())]
    unpaid = [((currency,), float(amount)) for currency, amount in sorted(tally.unpaid_minor.items())]
    late = max(0.0, now - tally.oldest_due_at) if tally.oldest_due_at is not None else 0.0
    yield _gauge("operations", "records in the store", operations, ("state", "money"))
    yield _gauge("queued_unpaid_minor", "accepted amounts of queued orders, in minor units", unpaid, ("currency",))
    yield _gauge("queue_overdue_seconds", "for how long the most overdue order has been due", [((), late)])


def _of_report(report: Report) -> Iterator[Any]:
    stages = [((str(each.stage),), float(each.reached.sessions)) for each in report.stages]
    shown = [(_labels(line), float(line.shown)) for line in report.lines]
    lost = [(_labels(line), max(0.0, line.impact.lost)) for line in report.lines if line.impact.told]
    spooled = [((became,), float(count)) for became, count in report.spooled.items()]
    yield _counter("sessions", "visits that reached a stage of the funnel", stages, ("stage",))
    yield _counter("errors_shown", "error messages that shoppers met", shown, _LABELS)
    yield _gauge("purchases_lost", "purchases that an error cost, where that can be told from chance", lost, _LABELS)
    yield _counter("spool_moves", "orders that the spools of all machines took in, forwarded and refused", spooled, ("became",))
    yield _counter("session_facts_dropped", "facts about visits that were lost: the figures lack them", [((), float(report.dropped))])


_LABELS = ("stage", "message", "cause", "by")


def _labels(line: Line) -> tuple[str, ...]:
    return (str(line.stage), line.message, str(line.cause), str(line.by))
