"""One process with breakers that it shares with others: does what it reads, says what it sees. For tests and the benchmark.

    python tests/breaker_process.py STORE_URL NAMESPACE NAME [PATIENCE]

Reads lines: `fail N`, `well N` (calls one after the other, each over at once), `slow` (one that fails after a while),
`hold N` (N calls at once, which stay under way, once the pause is over), `end well|fail`, `tell` (a round with the store),
`probe` (asks until it gets one, each time when it was told to), `state`. Each is answered by a line of JSON; a line with
`label` comes whenever a breaker has got another one. Times are monotonic, the same in all processes of a machine.
PATIENCE is how many seconds a call waits for the store to lease it a probe; as long as always, where it is left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from cxguard.clock import SystemClock
from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.outcomes import Charged, Outcome, Unknown
from cxguard.engine.breaker_sharing import LEASE_SECONDS_MAX, Sharing
from cxguard.engine.breakers import Breakers, Rejected, Ticket
from cxguard.engine.hints import Hints
from cxguard.events import Bus, Event
from cxguard.stores.address import open_store

POLICY = BreakerPolicy(open_seconds=0.5, open_seconds_max=0.5, probe_pause_seconds=0.0, turn_seconds=0.0, probe_lease_seconds=2.0)
SLOW_SECONDS = 0.1
PROBE_TRIES = 200  # as far apart as each was told to wait
OUTCOMES: dict[str, Outcome] = {"well": Charged(1, "EUR"), "fail": Unknown("no answer in time")}


def say(**members: Any) -> None:
    sys.stdout.write(json.dumps(members) + "\n")
    sys.stdout.flush()


def on_event(event: Event) -> None:
    say(label=event.name.removeprefix("breaker."), revision=event.detail["revision"], at=time.monotonic())


class Process:
    def __init__(self, url: str, namespace: str, name: str, patience_seconds: float) -> None:
        clock, bus = SystemClock(), Bus()
        bus.listen(on_event)
        self.store = open_store(url, clock=clock)
        self.breakers = Breakers(POLICY, clock, bus=bus, jitter=lambda: 0.0)
        self.hints = Hints(self.store, clock, process=name)
        ways: dict[str, Any] = {"process": name, "hints": self.hints, "lease_seconds_max": patience_seconds}
        self.sharing = Sharing(self.breakers, self.store, clock, namespace=namespace, **ways)
        self.held: list[Ticket] = []

    async def ask(self) -> Ticket | Rejected:
        return await self.breakers.enter("cards", "charge", operation_id=f"o{time.monotonic_ns()}")

    async def enter(self) -> Ticket | None:
        answer = await self.ask()
        return answer if isinstance(answer, Ticket) else None

    async def calls(self, how: str, times: int) -> None:
        went = 0
        began = time.monotonic()
        for _ in range(times):
            ticket = await self.enter()
            if ticket is not None:
                ticket.settle(OUTCOMES[how], 0.1)
                went += 1
        say(went=went, began=began)

    async def slow(self) -> None:
        """A call that fails as one does when nobody answers, only sooner."""
        ticket = await self.enter()
        if ticket is not None:
            await asyncio.sleep(SLOW_SECONDS)
            ticket.settle(OUTCOMES["fail"], SLOW_SECONDS)
        say(went=int(ticket is not None))

    async def hold(self, times: int) -> None:
        for view in self.breakers.states():
            if view.label is Label.OPEN and view.until is not None:
                await asyncio.sleep(max(0.0, view.until - time.time()) + 0.02)
        got = [ticket for ticket in await asyncio.gather(*(self.enter() for _ in range(times))) if ticket is not None]
        self.held += got
        say(went=len(got), probes=sum(ticket.is_probe for ticket in got))

    def end(self, how: str) -> None:
        for ticket in self.held:
            ticket.settle(OUTCOMES[how], 0.1)
        say(ended=len(self.held))
        self.held = []

    async def probe(self) -> None:
        for _ in range(PROBE_TRIES):
            answer = await self.ask()
            if isinstance(answer, Ticket):
                self.held.append(answer)
                return say(probe=answer.is_probe, at=time.monotonic())
            await asyncio.sleep(answer.retry_after_seconds)
        return say(probe=False, at=time.monotonic())

    async def tell(self) -> None:
        self.sharing.wake()
        await self.sharing.look()
        say(away=self.sharing.away)

    def state(self) -> None:
        say(states=[[view.label.value, view.revision, view.apart] for view in self.breakers.states()])

    async def do(self, words: list[str]) -> None:
        match words:
            case ["fail" | "well" as how, times]:
                await self.calls(how, int(times))
            case ["slow"]:
                await self.slow()
            case ["hold", times]:
                await self.hold(int(times))
            case ["end", how]:
                self.end(how)
            case ["probe"]:
                await self.probe()
            case ["tell"]:
                await self.tell()
            case ["state"]:
                self.state()


async def main(url: str, namespace: str, name: str, patience_seconds: float = LEASE_SECONDS_MAX) -> None:
    process = Process(url, namespace, name, patience_seconds)
    await process.store.start()
    process.sharing.start()
    process.hints.start()
    await process.sharing.look()
    say(ready=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await process.do(line.decode().split())
    await process.sharing.stop()
    await process.hints.stop()
    await process.store.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], *map(float, sys.argv[4:])))
