"""What one event loop has open: batches that write, batches that read, each kind on connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import AskError, MovedError

from cxguard.errors import ConfigurationError, PartAway, StoreError, StoreUnavailable
from cxguard.stores.batch import Batcher
from cxguard.stores.redis.finding import address_of
from cxguard.stores.redis.health import Health, NotPrimary, again
from cxguard.stores.redis.partitions import tag
from cxguard.stores.redis.routes import Route
from cxguard.stores.redis.settings import Address, RedisSettings
from cxguard.stores.redis.wire import Answer, Words, code_of, refused, run_scripts

BATCH_MAX = 64  # scripts in one go: a few milliseconds of a server that serves others in between
MOVES_MAX = 3  # times that one call follows a partition from server to server
PATIENCE_FACTOR = 8  # times one answer's time: finding, connecting and checking may come before it
END_FACTOR = 2 * PATIENCE_FACTOR  # times one answer's time, for all that waits when the store is stopped
WAIT_SHARE = 0.6  # of an answer's time is for the replicas
FORGET = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOLIFE"})  # the server is not what it was


@dataclass(frozen=True, slots=True)
class Call:
    """One script, or one command, for one partition.

    Attributes:
        script: its name; empty: *words* are a plain command, keys included.
        words: what follows the keys.
    """

    partition: int
    script: str
    words: Sequence[str | bytes | int]


class Line:
    """The batches of one event loop: one for each server, so that one which does not answer holds up no other."""

    def __init__(self, settings: RedisSettings, health: Health) -> None:
        self._settings = settings
        self.writer = Lanes(settings, health, writes=True)
        self.reader = Lanes(settings, health, writes=False)
        self._keeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def keep(self) -> None:
        """Close everything when the loop ends: it cancels what still runs, and this does."""
        self._keeper = self._loop.create_task(self._kept())

    async def end(self) -> None:
        """Finish what was accepted, then close everything; from its own loop.

        Raises:
            StoreUnavailable: it took too long. Whoever waits is told; what is on its way may happen or not.
        """
        try:
            async with asyncio.timeout(END_FACTOR * self._settings.answer_seconds):
                await self.writer.drain()
                await self.reader.drain()
        except TimeoutError:
            raise StoreUnavailable("Redis does not answer, and was left with calls on their way: look before you act again") from None
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def finish(self) -> None:
        """Close everything, from any thread."""
        if self._keeper is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._keeper.cancel)

    async def _kept(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.writer.close()
            await self.reader.close()


class Lanes:
    """Batches of one kind, one for each server that is asked."""

    def __init__(self, settings: RedisSettings, health: Health, *, writes: bool) -> None:
        self.route = Route(settings, health)
        self._health = health
        self._settings = settings
        self._writes = writes
        self._lanes: dict[Address | None, Batcher[Call, Answer]] = {}

    async def ask(self, call: Call) -> Answer:
        """Send *call* with the next batch.

        Raises:
            PartAway: this server does not answer, or refuses us, while others do.
            StoreUnavailable: it may have happened, or not.
        """
        try:
            return await self._ask(call)
        except (StoreUnavailable, ConfigurationError) as error:
            if self._health.others_answer(self.route.home(call.partition)):
                raise PartAway(*error.args) from None
            raise

    async def _ask(self, call: Call) -> Answer:
        home = self.route.home(call.partition)
        lane = self._lanes.get(home)
        if lane is None:
            patience = PATIENCE_FACTOR * self._settings.answer_seconds
            lane = self._lanes[home] = Batcher(self._send, name="Redis", batch_max=BATCH_MAX, patience_seconds=patience)
        return await lane.ask(call)

    async def drain(self) -> None:
        for lane in tuple(self._lanes.values()):
            await lane.drain()

    async def close(self) -> None:
        await self.route.close()

    def _send(self, calls: list[Call]) -> asyncio.Future[Sequence[Answer]]:
        return asyncio.get_running_loop().create_task(self._answers(calls))

    async def _answers(self, calls: Sequence[Call]) -> Sequence[Answer]:
        """An answer for each, where the partition is now; an error is an answer too."""
        answers: dict[int, Answer] = {}
        left = list(range(len(calls)))
        for _ in range(MOVES_MAX):
            found = await self._once([calls[n] for n in left])
            answers.update(zip(left, found, strict=True))
            left = [n for n in left if isinstance(answers[n], MovedError | NotPrimary)]
            if not left:
                break
            for n in left:
                self._moved(calls[n].partition, answers[n])
        return [_told(answers[n]) for n in range(len(calls))]

    def _moved(self, partition: int, answer: MovedError | NotPrimary) -> None:
        asked = self.route.home(partition)
        if isinstance(answer, MovedError) and asked is not None:
            self.route.moved(partition, address_of(answer.host, answer.port, asked=asked))

    async def _once(self, calls: Sequence[Call]) -> list[Answer]:
        homes: dict[Address, list[int]] = {}
        answers: list[Answer] = [None] * len(calls)
        for n, call in enumerate(calls):
            try:
                homes.setdefault(await self.route.find_home(call.partition), []).append(n)
            except (StoreError, ConfigurationError) as error:
                answers[n] = error
        groups = list(homes.items())
        found = await asyncio.gather(*(self._ask_server(address, [calls[n] for n in group]) for address, group in groups))
        for (_, group), heard in zip(groups, found, strict=True):
            for n, answer in zip(group, heard, strict=True):
                answers[n] = answer
        return answers

    async def _ask_server(self, address: Address, calls: Sequence[Call]) -> list[Answer]:
        try:
            wire = await self.route.wire(address)
        except (StoreError, ConfigurationError) as error:
            return [again(error) for _ in calls]
        commands = [(call.script, self._words(call)) for call in calls]
        waiting = self._waiting()
        try:
            answers, waited = await run_scripts(wire, commands, after=waiting)
        except (StoreError, ConfigurationError) as error:
            await self.route.forget(wire)
            return [again(error) for _ in calls]
        if not all(code_of(answer) for answer in answers):
            self._health.heard(address)
        if any(code_of(answer) in FORGET for answer in answers):
            await self.route.forget(wire)
        if waiting and not self._is_replicated(waited):
            return [self._unreplicated(waited) if not code_of(answer) else answer for answer in answers]
        return await asyncio.gather(*(self._followed(address, *pair) for pair in zip(calls, answers, strict=True)))

    async def _followed(self, asked: Address, call: Call, answer: Answer) -> Answer:
        """A plain read of one key goes where the key has gone; a script finds its keys together, or does nothing."""
        if not isinstance(answer, AskError) or call.script:
            return answer
        try:
            wire = await self.route.wire(address_of(answer.host, answer.port, asked=asked))
            return (await wire.ask([("ASKING",), self._words(call)]))[1]
        except (StoreError, ConfigurationError) as error:
            return error

    def _words(self, call: Call) -> Words:
        if not call.script:
            return call.words
        home = tag(self._settings.prefix, call.partition)
        return (2, f"{home}m", f"{home}-", *call.words)

    def _waiting(self) -> list[Words]:
        """What asks, on the same connection, how many replicas have all that was written on it."""
        if not self._writes or not self._settings.replicas:
            return []
        return [("WAIT", self._settings.replicas, int(self._settings.answer_seconds * WAIT_SHARE * 1000))]

    def _is_replicated(self, waited: Sequence[Answer]) -> bool:
        return isinstance(waited[0], int) and waited[0] >= self._settings.replicas

    def _unreplicated(self, waited: Sequence[Answer]) -> StoreUnavailable:
        return StoreUnavailable(
            f"only {waited[0]} of {self._settings.replicas} replicas of this Redis have it: it may be lost; look before you act again"
        )


def _told(answer: Answer) -> Answer:
    return refused(answer) if code_of(answer) else answer
