"""Which server has a partition, and a checked connection to it: one server, whoever Sentinel names, or a cluster's primaries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

from redis.crc import key_slot

from cxguard.errors import ConfigurationError, StoreError, StoreUnavailable
from cxguard.stores.redis.health import Health, again, examine, require_fit
from cxguard.stores.redis.partitions import tag
from cxguard.stores.redis.settings import Address, Kind, RedisSettings
from cxguard.stores.redis.wire import Wire, Words, code_of, refused

LAYOUT = 1  # of keys and records: one that is higher was made by a newer cxguard
DOWN_SECONDS = 0.25  # after a failed connection: who asks meanwhile hears it at once, and waits for no time-out


class Route:
    """The connections of one event loop, made when they are needed.

    Args:
        health: what all routes of the store have found out.
    """

    def __init__(self, settings: RedisSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._homes: dict[int, Address] = {}
        self._wires: dict[Address, Wire] = {}
        self._checked: dict[Address, float] = {}
        self._down: dict[Address | None, tuple[float, StoreError]] = {}
        self._lock = asyncio.Lock()  # one connects; the others find it connected

    def home(self, partition: int) -> Address | None:
        """Where the partition was last, or None when nobody has asked yet."""
        return self._homes.get(partition)

    async def find_home(self, partition: int) -> Address:
        """Which server has the partition now.

        Raises:
            StoreUnavailable: nobody says.
        """
        if partition not in self._homes:
            async with self._lock:
                if partition not in self._homes:
                    await self._guarded(None, self._find_homes)
        if partition not in self._homes:
            raise StoreUnavailable("no server of this Redis Cluster has this part of the data: run `redis-cli --cluster check`")
        return self._homes[partition]

    async def wire(self, address: Address) -> Wire:
        """A connection to a server that was found fit within the last `check_seconds`.

        Raises:
            StoreUnavailable, StoreUnfit, ConfigurationError: as `examine` and `require_fit` say.
        """
        async with self._lock:
            wire, now = self._wires.get(address), asyncio.get_running_loop().time()
            if wire is None or wire.closed or now - self._checked.get(address, float("-inf")) >= self._settings.check_seconds:
                await self._guarded(address, lambda: self._checked_wire(address))
            return self._wires[address]

    async def open_wire(self, address: Address) -> Wire:
        """A connection of its own, for a subscription: whoever asks closes it."""
        wire = Wire(address, self._settings)
        await wire.connect()
        return wire

    def moved(self, partition: int, address: Address) -> None:
        """A server said where the partition is now."""
        self._homes[partition] = address

    async def forget(self, address: Address) -> None:
        """The connection is broken, or the server is not what it was: find out anew at the next call."""
        wire = self._wires.pop(address, None)
        if self._settings.kind is not Kind.SERVER:
            self._homes.clear()
        if wire is not None:
            await wire.close()

    async def close(self) -> None:
        for address in tuple(self._wires):
            await self.forget(address)

    async def start(self) -> None:
        """Connect to every server, make the layout on first use, and learn how many partitions there are."""
        first = await self.find_home(0)
        await self._read_layout(await self._connected(first))
        self._homes.clear()
        for partition in range(self._health.partitions):
            await self.wire(await self.find_home(partition))

    async def _guarded(self, address: Address | None, call: Callable[[], Awaitable[None]]) -> None:
        now = asyncio.get_running_loop().time()
        down = self._down.get(address)
        if down is not None and now < down[0]:
            raise again(down[1])
        try:
            await call()
        except StoreError as failed:
            self._down[address] = (asyncio.get_running_loop().time() + DOWN_SECONDS, failed)
            if address is not None:
                await self.forget(address)
            raise
        self._down.pop(address, None)

    async def _connected(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None or wire.closed:
            wire = Wire(address, self._settings)
            await wire.connect()
            self._wires[address] = wire
        return wire

    async def _checked_wire(self, address: Address) -> None:
        wire = await self._connected(address)
        report = await examine(wire)
        require_fit(report, self._settings)
        here = [partition for partition, home in self._homes.items() if home == address and partition < self._health.partitions]
        self._health.saw(report, await self._lives(wire, here))
        self._checked[address] = asyncio.get_running_loop().time()

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
        answers = await wire.ask([
            ("HSETNX", key, "layout", LAYOUT),
            ("HSETNX", key, "partitions", wanted),
            ("HMGET", key, "layout", "partitions"),
        ])
        bad = next((answer for answer in answers if code_of(answer)), None)
        if bad is not None:
            raise refused(bad)
        layout, partitions = (int(each) for each in answers[2])
        if layout > LAYOUT:
            raise ConfigurationError(f"this Redis was laid out by a newer cxguard ({layout}, this one knows {LAYOUT}): update cxguard here")
        if wanted != partitions:
            raise ConfigurationError(f"the number of partitions is for good: write ?partitions={partitions} behind this Redis's address")
        self._health.partitions = partitions

    async def _find_homes(self) -> None:
        partitions = range(self._health.partitions or 1)
        match self._settings.kind:
            case Kind.SERVER:
                self._homes = dict.fromkeys(partitions, self._settings.addresses[0])
            case Kind.SENTINEL:
                self._homes = dict.fromkeys(partitions, await self._ask_sentinels())
            case Kind.CLUSTER:
                self._homes = await self._ask_cluster(partitions)

    async def _ask_sentinels(self) -> Address:
        words: Words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._settings.service)
        for address in self._settings.addresses:
            answer = await self._ask_somebody(Wire(address, self._settings, to_sentinel=True), words)
            if isinstance(answer, list):
                return Address(answer[0].decode(), int(answer[1]))
        names = ", ".join(f"{host}:{port}" for host, port in self._settings.addresses)
        raise StoreUnavailable(f"no Sentinel knows a primary of {self._settings.service!r} (asked {names}): ask again in a moment")

    async def _ask_cluster(self, partitions: Sequence[int]) -> dict[int, Address]:
        for address in dict.fromkeys((*self._wires, *self._settings.addresses)):
            answer = await self._ask_somebody(Wire(address, self._settings), ("CLUSTER", "SLOTS"))
            if isinstance(answer, list) and answer:
                return _homes_of(answer, partitions, prefix=self._settings.prefix, asked=address)
        raise StoreUnavailable("no server of this Redis Cluster answers: ask again in a moment")

    async def _ask_somebody(self, wire: Wire, words: Words) -> object:
        """One question to whoever may know; None when there is no answer."""
        try:
            await wire.connect()
            (answer,) = await wire.ask([words])
        except StoreUnavailable:
            return None
        finally:
            await wire.close()
        return answer


def _homes_of(slots: Sequence[Sequence[object]], partitions: Sequence[int], *, prefix: str, asked: Address) -> dict[int, Address]:
    homes = {}
    for partition in partitions:
        slot = key_slot(tag(prefix, partition).encode())
        for first, last, primary, *_ in slots:
            assert isinstance(first, int) and isinstance(last, int) and isinstance(primary, list), "as CLUSTER SLOTS answers"
            if first <= slot <= last:
                host = (primary[0] or b"").decode() or asked.host
                homes[partition] = Address(host, int(primary[1]))
    return homes
