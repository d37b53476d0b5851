"""Which server has a partition, and a checked connection to it.

What is known may be old: a failover, a move of slots, a server that has left. So a place where a call has failed is looked
for anew, and a server is examined before the first call that follows a partition to it: what it was ten seconds ago says
nothing of the partition that it has taken over since.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from cxguard.errors import ConfigurationError, StoreError, StoreUnavailable
from cxguard.stores.redis.finding import Finder
from cxguard.stores.redis.health import Health, again, examine, require_fit
from cxguard.stores.redis.partitions import tag
from cxguard.stores.redis.settings import Address, Kind, RedisSettings
from cxguard.stores.redis.wire import Wire, Words, code_of, refused

LAYOUT = 1  # of keys and records: one that is higher was made by a newer cxguard
DOWN_SECONDS = 0.25  # after a failed look or connection: who asks meanwhile hears it at once, and waits for no time-out
STOPPED = "the Redis store was stopped: nothing was sent"

T = TypeVar("T")


class Route:
    """The connections of one event loop, made when they are needed.

    Args:
        health: what all routes of the store have found out.
    """

    def __init__(self, settings: RedisSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._finder = Finder(settings, health)
        self._homes: dict[int, Address] = {}
        self._in_doubt = True  # something has failed since the homes were found
        self._found_at = float("-inf")
        self._wires: dict[Address, Wire] = {}
        self._checked: dict[Address, float] = {}
        self._down: dict[Address | None, tuple[float, StoreError | ConfigurationError]] = {}
        self._locks: defaultdict[Address | None, asyncio.Lock] = defaultdict(asyncio.Lock)  # one connects; the others find it connected
        self._ended = False

    def home(self, partition: int) -> Address | None:
        """Where the partition was last, or None when nobody has asked yet."""
        return self._homes.get(partition)

    async def find_home(self, partition: int) -> Address:
        """Which server has the partition now.

        Raises:
            StoreUnavailable: nobody says.
        """
        if self._must_find(partition):
            async with self._locks[None]:
                if self._must_find(partition):
                    await self._guarded(None, self._find_homes)
        if partition not in self._homes:
            raise StoreUnavailable("no server of this Redis Cluster has this part of the data: run `redis-cli --cluster check`")
        return self._homes[partition]

    async def wire(self, address: Address) -> Wire:
        """A connection to a server that was found fit within the last `check_seconds`.

        Raises:
            StoreUnavailable, StoreUnfit, ConfigurationError: as `examine` and `require_fit` say.
        """
        wire = self._fit_wire(address)
        if wire is not None:
            return wire
        async with self._locks[address]:
            ready = self._fit_wire(address)  # the one before us has made it
            return ready if ready is not None else await self._guarded(address, partial(self._checked_wire, address))

    async def open_wire(self, address: Address) -> Wire:
        """A connection of its own, for a subscription: whoever asks closes it."""
        wire = Wire(address, self._settings)
        await wire.connect()
        return wire

    def moved(self, partition: int, address: Address) -> None:
        """A server said where the partition is now. Where one has moved, no server may be what it was."""
        self._homes[partition] = address
        self._checked.clear()

    async def forget(self, wire: Wire) -> None:
        """The connection is broken, or the server is not what it was: find out anew at the next call."""
        self._doubt(wire.address)
        if self._wires.get(wire.address) is wire:
            del self._wires[wire.address]
        await wire.close()

    async def close(self) -> None:
        """Close every connection, and make no other."""
        self._ended = True
        while self._wires:
            await self._wires.popitem()[1].close()

    async def start(self) -> None:
        """Connect to every server, make the layout on first use, and learn how many partitions there are."""
        first = await self.find_home(0)
        await self._read_layout(await self._connected(first))
        await self._find_homes()
        for partition in range(self._health.partitions):
            await self.wire(await self.find_home(partition))

    def _must_find(self, partition: int) -> bool:
        if not self._in_doubt and partition in self._homes:
            return False
        return asyncio.get_running_loop().time() - self._found_at >= DOWN_SECONDS

    async def _find_homes(self) -> None:
        found = await self._finder.find(range(self._health.partitions or 1), near=tuple(self._wires))
        if found != self._homes:
            self._checked.clear()
        self._homes, self._in_doubt, self._found_at = found, False, asyncio.get_running_loop().time()

    def _doubt(self, address: Address) -> None:
        self._in_doubt = self._settings.kind is not Kind.SERVER
        self._finder.doubt(address)

    async def _guarded(self, address: Address | None, call: Callable[[], Awaitable[T]]) -> T:
        if self._ended:
            raise StoreUnavailable(STOPPED)
        now = asyncio.get_running_loop().time()
        down = self._down.get(address)
        if down is not None and now < down[0]:
            raise again(down[1])
        try:
            done = await call()
        except (StoreError, ConfigurationError) as failed:
            self._down[address] = (asyncio.get_running_loop().time() + DOWN_SECONDS, failed)
            if address is not None:
                await self._left(address)
            raise
        self._down.pop(address, None)
        return done

    async def _left(self, address: Address) -> None:
        self._doubt(address)
        wire = self._wires.pop(address, None)
        if wire is not None:
            await wire.close()

    def _fit_wire(self, address: Address) -> Wire | None:
        wire, now = self._wires.get(address), asyncio.get_running_loop().time()
        if wire is None or wire.closed or now - self._checked.get(address, float("-inf")) >= self._settings.check_seconds:
            return None
        return wire

    async def _connected(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None or wire.closed:
            wire = Wire(address, self._settings)
            await wire.connect()
            if self._ended:
                await wire.close()
                raise StoreUnavailable(STOPPED)
            self._wires[address] = wire
        return wire

    async def _checked_wire(self, address: Address) -> Wire:
        wire = await self._connected(address)
        report = await examine(wire)
        require_fit(report, self._settings)
        here = [partition for partition, home in self._homes.items() if home == address and partition < self._health.partitions]
        self._health.saw(report, await self._lives(wire, here))
        self._checked[address] = asyncio.get_running_loop().time()
        return wire

    async def _lives(self, wire: Wire, partitions: Sequence[int]) -> dict[int, str]:
        """The life of each partition: a word that is gone when its data is gone, and then another."""
        keys = [tag(self._settings.prefix, partition) + "m" for partition in partitions]
        set_life: list[Words] = [("HSETNX", key, "life", secrets.token_hex(8)) for key in keys]
        answers = await wire.ask([*set_life, *self._layout_words(partitions), *(("HGET", key, "life") for key in keys)])
        found = answers[len(answers) - len(keys) :]
        return {partition: life.decode() for partition, life in zip(partitions, found, strict=True) if isinstance(life, bytes)}

    def _layout_words(self, partitions: Sequence[int]) -> list[Words]:
        if 0 not in partitions:
            return []
        key = tag(self._settings.prefix, 0) + "m"
        return [("HSETNX", key, "layout", LAYOUT), ("HSETNX", key, "partitions", self._health.partitions)]

    async def _read_layout(self, wire: Wire) -> None:
        """See, or say for the first time, how many partitions there are.

        Raises:
            ConfigurationError: another number was asked for, or a newer cxguard made it.
        """
        require_fit(await examine(wire), self._settings)
        key, wanted = tag(self._settings.prefix, 0) + "m", self._settings.partitions_wanted
        answers = await wire.ask(
            [
                ("HSETNX", key, "layout", LAYOUT),
                ("HSETNX", key, "partitions", wanted),
                ("HMGET", key, "layout", "partitions"),
            ]
        )
        bad = next((answer for answer in answers if code_of(answer)), None)
        if bad is not None:
            raise refused(bad)
        layout, partitions = (int(each) for each in answers[2])
        if layout > LAYOUT:
            raise ConfigurationError(f"this Redis was laid out by a newer cxguard ({layout}, this one knows {LAYOUT}): update cxguard here")
        if wanted != partitions:
            raise ConfigurationError(f"the number of partitions is for good: write ?partitions={partitions} behind this Redis's address")
        self._health.partitions = partitions
