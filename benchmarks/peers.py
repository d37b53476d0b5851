"""The same little shop, gateway, shoppers and faults, without a guard, behind the peers, and behind cxguard: what became of the orders.

    python benchmarks/peers.py                      about ten minutes
    python benchmarks/peers.py --only cxguard-shop --only idemkit
    python benchmarks/peers.py --json

Each behind a shop of its own that runs as a process, with a gateway of its own. Shoppers come for eight seconds; about half
send their order more than once: at once, again when the answer is there, again when it takes long, or from a second tab. The
gateway charges and never answers for four seconds, and is down for two; in the silence the shop is killed and started again.
Whoever hears nothing definite presses the same button again. The gateway's ledger, the shop's books and what each shopper
was told are judged; then `cxguard conform` is run against it, started anew, with the gateway well.

The shop's handler is as careless as many: no answer from the gateway is told as a declined card. It is the same for all, but
for the one line that each way of cxguard asks for; peers have none. Nothing here fails: the table is read by people.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the shop, the shoppers and the servers are those of the tests

from fleet_shop import read_orders
from fleet_shoppers import AGAIN_SECONDS, Habit, Shopper, Street, Wish, street, wishes
from fleet_world import QUIET_SECONDS
from redis_servers import RedisServer

from cxguard.clock import SystemClock
from cxguard.demo.crowd.closing import Closing
from cxguard.demo.crowd.words import Word
from cxguard.demo.judge import Case, End, cases, count
from cxguard.demo.processes import Child
from cxguard.demo.run import gateway_process, read_ledger, set_control
from cxguard.testing.conform.cases import Conformance
from cxguard.testing.conform.http_file import read_http_file
from cxguard.testing.conform.judging import Verdict
from cxguard.testing.conform.service import Service
from cxguard.testing.shop_process import ShopProcess, free_port

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
SCRIPT = "healthy 2s, time_out_after 4s, healthy 1s, refuse 2s, healthy"
KILLED_AFTER_SECONDS = 5.0  # in the silence, when the first of those who met it have been told something
FOLLOWED_SECONDS_MAX = 30.0  # several leases: who has heard nothing definite by then is left without an answer
RESTING_SECONDS_MAX = 120.0  # then orders that are still being placed count as lost, or as in hand
LOOKING_AT_ONCE = 32
LEASE_SECONDS = 5.0  # of those that have leases; the default of both is 30
PATIENCE_SECONDS = 20.0  # of `cxguard conform` after a kill: two leases, a start, and a look of the queue
ANSWER_SECONDS = 0.1  # of the gateway, during `cxguard conform`: time to be killed in

REQUEST = """\
POST /pay
Content-Type: application/json
Idempotency-Key: {{key}}
x-shopper: ann

{"order": "{{$uuid}}", "amount": 4999, "source": "tok_ok"}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Something around the shop. *settings*: how it was set, for the reader."""

    name: str
    around: str
    settings: str


LEASE = f"lease {LEASE_SECONDS:g} s"
PEERS = (
    Peer("no guard", "none", "the shop alone"),
    Peer("idemkit", "idemkit", f"{version('idemkit')}: RedisBackend, scope=, require_key_for_mutations=True, {LEASE}"),
    Peer("asgi-idempotency-header", "snok", f"{version('asgi-idempotency-header')}: RedisBackend; no owner, lease or required key"),
    Peer("fastapi-idempotency-key", "fik", f"{version('fastapi-idempotency-key')}: SQLiteBackend, required=True; no owner or lease"),
    Peer("cxguard-shop", "shop", f"level 2, the shop charges: gateway_key, resolve=, rerun_safe=, later=, purchase=; SQLite, {LEASE}"),
    Peer("cxguard-charge", "charge", f"level 3, the guard charges: op.charge, later=, purchase=; SQLite, {LEASE}"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the orders behind one of them, in shoppers.

    Attributes:
        ended_unpaid: nothing stands, and they were told so truly: declined by the bank, cancelled, or not taken.
        in_hand: told "do not pay again" or "saved", and not paid yet when the run ended.
        by_tabs: of those charged twice, how many had sent their order from two tabs, under two keys.
        unanswered: never told anything about their order.
        stuck: waited for more, and the last press still got no word about the order: a conflict, an error, nothing.
        conform: the cases that `cxguard conform` failed.
    """

    name: str
    wanted: int
    paid_once: int
    ended_unpaid: int
    in_hand: int
    charged_twice: int
    by_tabs: int
    false_words: int
    lost: int
    unanswered: int
    stuck: int
    conform: Sequence[str]


async def run_peer(peer: Peer, folder: Path, *, orders: int, rate: float) -> Row:
    """One of them, through everything."""
    with ExitStack() as stack:
        environment = {"CONFORM_AROUND": peer.around, "PEERS_FOLDER": str(folder), **_settings(folder)}
        if peer.around in ("idemkit", "snok"):
            (folder / "redis").mkdir()
            redis = RedisServer(folder / "redis")
            stack.callback(redis.stop)
            environment["PEERS_REDIS"] = redis.url
        async with gateway_process(folder) as gateway:
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "peers_shop:app", "--port", str(port), "--log-level", "critical"]
            url, environment["CONFORM_GATEWAY"] = f"http://127.0.0.1:{port}", gateway.url
            evening = {**environment, "CONFORM_STORE": f"sqlite:///{folder}/guard.db"}
            async with ShopProcess(command, url=url, environment=evening) as shop:
                row = await _shopped(peer, gateway, shop, wishes(orders, rate=rate, seed=SEED), folder / "orders")
            fresh = {**environment, "CONFORM_STORE": f"sqlite:///{folder}/fresh.db"}  # its breakers know of no outage
            async with ShopProcess(command, url=url, environment=fresh) as shop:
                return await _conforming(row, gateway, shop)


def _settings(folder: Path) -> dict[str, str]:
    return {
        "CONFORM_ORDERS": str(folder / "orders"),
        "CONFORM_LEASE_SECONDS": str(LEASE_SECONDS),
        "CXGUARD_SECRET": secrets.token_hex(32),
        "CXGUARD_KEYS": secrets.token_hex(32),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}:{ROOT / 'tests'}",
    }


async def _shopped(peer: Peer, gateway: Child, shop: ShopProcess, wanted: Sequence[Wish], orders: Path) -> Row:
    where = street([shop.url])
    shoppers = [Shopper(wish, where) for wish in wanted]
    await set_control(gateway, {"script": SCRIPT})
    began = time.monotonic()
    try:
        await asyncio.gather(_killed(shop), *(shopper.pay(began) for shopper in shoppers))
        await _followed(shoppers)
        found = await _rested(gateway, shoppers, orders)
    finally:
        for client in where.clients:
            client.close()
    return _row(peer, shoppers, where, found)


async def _killed(shop: ShopProcess) -> None:
    await asyncio.sleep(KILLED_AFTER_SECONDS)
    await shop.kill()
    await shop.start()


async def _followed(shoppers: Sequence[Shopper]) -> None:
    """Until each has a definite word, or nobody waits any longer."""
    places = asyncio.Semaphore(LOOKING_AT_ONCE)
    give_up = time.monotonic() + FOLLOWED_SECONDS_MAX

    async def follow(shopper: Shopper) -> None:
        while shopper.waits and time.monotonic() < give_up:
            async with places:
                await shopper.look()
            if shopper.waits:
                await asyncio.sleep(AGAIN_SECONDS)

    await asyncio.gather(*(follow(shopper) for shopper in shoppers))


async def _rested(gateway: Child, shoppers: Sequence[Shopper], orders: Path) -> list[Case]:
    """What became of each, when the books rest: who was told "paid, we are finishing your order" has lost nothing yet."""
    transcripts = [shopper.transcript for shopper in shoppers]
    closing = Closing(SystemClock(), seconds_max=RESTING_SECONDS_MAX, quiet_seconds=QUIET_SECONDS)
    before = None
    while True:
        found = cases(await read_ledger(gateway), transcripts, order_payments=read_orders(orders))
        verdict = count(found)
        if closing.is_over or not (verdict.lost or verdict.open):
            return found
        if verdict != before:
            closing.news()
        before = verdict
        await asyncio.sleep(AGAIN_SECONDS)


def _row(peer: Peer, shoppers: Sequence[Shopper], where: Street, found: Sequence[Case]) -> Row:
    verdict = count(found)
    tabs = {shopper.wish.number for shopper in shoppers if shopper.wish.habit is Habit.TWO_TABS}
    return Row(
        name=peer.name,
        wanted=verdict.wanted,
        paid_once=verdict.paid_once,
        ended_unpaid=verdict.declined + verdict.cancelled_told,
        in_hand=verdict.open,
        charged_twice=verdict.charged_twice,
        by_tabs=sum(case.end is End.CHARGED_TWICE and case.shopper in tabs for case in found),
        false_words=verdict.false_declines + verdict.false_paid + len(set(where.differing)),
        lost=verdict.lost,
        unanswered=sum(shopper.transcript.last_word is None for shopper in shoppers),
        stuck=sum(shopper.waits and shopper.transcript.told[-1].word is Word.NOTHING for shopper in shoppers),
        conform=(),
    )


async def _conforming(row: Row, gateway: Child, shop: ShopProcess) -> Row:
    """The same shop, asked by `cxguard conform`."""
    await set_control(gateway, {"script": "slow", "slow_seconds": ANSWER_SECONDS})
    service = Service(shop.url, effects=f"{gateway.facts['control_url']}/ledger#/payments")
    conformance = Conformance(service, read_http_file(REQUEST)[0], process=shop, patience_seconds=PATIENCE_SECONDS)
    failed = [one async for one in conformance.run() if one.verdict is not Verdict.PASS]
    for one in failed:
        print(f"peers: {row.name}, {one.case}: {one.why}", file=sys.stderr, flush=True)
    return Row(**{**asdict(row), "conform": [one.case for one in failed]})


_COLUMNS = (
    *("", "wanted", "paid once", "ended unpaid", "in hand"),
    *("charged twice", "of them by two tabs", "false words", "lost", "no answer", "key stuck"),
)


def show(rows: Sequence[Row], peers: Sequence[Peer], console: Console) -> None:
    """The table, and how each was set."""
    table = Table(title="what became of the orders, in shoppers", show_lines=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name else "left")
    table.add_column("cxguard conform fails")
    for row in rows:
        told = (row.wanted, row.paid_once, row.ended_unpaid, row.in_hand)
        figures = (*told, row.charged_twice, row.by_tabs, row.false_words, row.lost, row.unanswered, row.stuck)
        table.add_row(row.name, *map(str, figures), ", ".join(row.conform) or "none: it passes")
    console.print(table)
    for peer in peers:
        console.print(f"{peer.name}: {peer.settings}")


@click.command()
@click.option("--only", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="One of them; may be given more than once.")
@click.option("--orders", default=200, show_default=True, help="Shoppers, each with one order.")
@click.option("--rate", default=25.0, show_default=True, help="Shoppers a second.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(only: tuple[str, ...], orders: int, rate: float, as_json: bool) -> None:
    """The same shop, shoppers and faults, without a guard, behind the peers, and behind cxguard."""
    peers = [peer for peer in PEERS if not only or peer.name in only]
    rows = []
    for peer in peers:
        print(f"peers: {peer.name}", file=sys.stderr, flush=True)
        with TemporaryDirectory() as folder:
            rows.append(asyncio.run(run_peer(peer, Path(folder), orders=orders, rate=rate)))
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(rows, peers, Console(width=160))


if __name__ == "__main__":
    main()
