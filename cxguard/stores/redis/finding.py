"""Who says which server has which partition: the address itself, the Sentinels, or the servers of a cluster.

Whoever is asked may be dead, silent, cut off from the others or long out of the cluster, and may answer all the same. So no
single one is believed because it comes first: the Sentinels' newest word counts, a cluster's server that calls its own
cluster broken is heard only when nobody knows better, and whoever has just failed is asked last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from redis.crc import key_slot

from cxguard.errors import ConfigurationError, StoreUnavailable
from cxguard.stores.redis.health import Health
from cxguard.stores.redis.partitions import tag
from cxguard.stores.redis.settings import Address, Kind, RedisSettings
from cxguard.stores.redis.wire import Answer, Wire, Words, code_of, refused

FIND_FACTOR = 4  # times one answer's time: some who are asked may be silent, and shoppers wait behind this
NO_ADDRESS = ("", "?")  # "the address that you have asked": see `cluster-preferred-endpoint-type`
Slots = Sequence[Sequence[object]]


class Finder:
    """Asks around, for one event loop.

    Args:
        health: keeps the servers that a cluster has named, for when all those in the settings are gone.
    """

    def __init__(self, settings: RedisSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self._doubts: dict[Address, int] = {}  # the higher, the later
        self._doubted = 0

    def doubt(self, address: Address) -> None:
        """This server has failed: ask it last."""
        self._doubted += 1
        self._doubts[address] = self._doubted

    async def find(self, partitions: Sequence[int], *, near: Iterable[Address]) -> dict[int, Address]:
        """Where each partition is. One that nobody has is missing.

        Args:
            near: servers of a cluster to which there is a connection.

        Raises:
            StoreUnavailable: nobody says.
            ConfigurationError: whoever answers refuses us.
        """
        try:
            async with asyncio.timeout(FIND_FACTOR * self._settings.answer_seconds):
                return await self._found(partitions, near)
        except TimeoutError:
            raise StoreUnavailable("nobody said in time which Redis has the data: ask again in a moment") from None

    async def _found(self, partitions: Sequence[int], near: Iterable[Address]) -> dict[int, Address]:
        match self._settings.kind:
            case Kind.SERVER:
                return dict.fromkeys(partitions, self._settings.addresses[0])
            case Kind.SENTINEL:
                return dict.fromkeys(partitions, await self._ask_sentinels())
            case Kind.CLUSTER:
                return await self._ask_cluster(partitions, near)

    async def _ask_sentinels(self) -> Address:
        """The primary by the newest word: a Sentinel that is cut off from the others still names the one before."""
        service = self._settings.service
        words: list[Words] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)]
        asked = [self._ask(Wire(address, self._settings, to_sentinel=True), words) for address in self._settings.addresses]
        heard = await asyncio.gather(*asked)
        told = [answers for answers in heard if isinstance(answers[0], list)]
        if told:
            host, port = max(told, key=lambda answers: _config_epoch(answers[1]))[0]
            return Address(host.decode(), int(port))
        names = ", ".join(f"{host}:{port}" for host, port in self._settings.addresses)
        _raise_refusal([answer for answers in heard for answer in answers])
        raise StoreUnavailable(f"no Sentinel knows a primary of {service!r} (asked {names}): ask again in a moment")

    async def _ask_cluster(self, partitions: Sequence[int], near: Iterable[Address]) -> dict[int, Address]:
        broken: dict[int, Address] = {}
        heard: list[Answer] = []
        for address in self._in_turn(near):
            info, slots = await self._ask(Wire(address, self._settings), [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
            heard.append(slots)
            if isinstance(slots, list) and slots:
                homes = _homes_of(slots, partitions, prefix=self._settings.prefix, asked=address)
                if not (isinstance(info, bytes) and b"cluster_state:fail" in info):
                    self._health.met(_servers_of(slots, asked=address))
                    return homes
                broken = broken or homes
            self.doubt(address)
        if broken:
            return broken
        _raise_refusal(heard)
        raise StoreUnavailable("no server of this Redis Cluster answers: ask again in a moment")

    def _in_turn(self, near: Iterable[Address]) -> list[Address]:
        """All servers that we know of, once each: connected ones first, whoever has failed last."""
        known = dict.fromkeys((*near, *self._settings.addresses, *self._health.servers))
        return sorted(known, key=lambda address: self._doubts.get(address, 0))

    async def _ask(self, wire: Wire, words: Sequence[Words]) -> list[Answer]:
        """What somebody who may know answers to each question, be it why not."""
        try:
            await wire.connect()
            return await wire.ask(words)
        except (StoreUnavailable, ConfigurationError) as error:
            return [error for _ in words]
        finally:
            await wire.close()


def _raise_refusal(heard: Iterable[Answer]) -> None:
    """When nobody has told us anything, and somebody refuses us: that is why, and no waiting will mend it."""
    for answer in heard:
        error = refused(answer) if code_of(answer) else answer
        if isinstance(error, ConfigurationError):
            raise error


def _config_epoch(told: Answer) -> int:
    """How new a Sentinel's word is; one that may not say so counts least."""
    if not isinstance(told, list):
        return -1
    members = dict(zip(told[::2], told[1::2], strict=False))
    return int(members.get(b"config-epoch", -1))


def address_of(host: bytes | str | None, port: int, *, asked: Address) -> Address:
    """A server as another one names it; without a host it is the one that was asked, at another port."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    return Address(asked.host if name in NO_ADDRESS else name, port)


def _homes_of(slots: Slots, partitions: Sequence[int], *, prefix: str, asked: Address) -> dict[int, Address]:
    homes = {}
    for partition in partitions:
        slot = key_slot(tag(prefix, partition).encode())
        for first, last, primary, *_ in slots:
            assert isinstance(first, int) and isinstance(last, int) and isinstance(primary, list), "as CLUSTER SLOTS answers"
            if first <= slot <= last:
                homes[partition] = address_of(primary[0], int(primary[1]), asked=asked)
    return homes


def _servers_of(slots: Slots, *, asked: Address) -> Mapping[Address, None]:
    """All primaries and replicas that serve slots."""
    return dict.fromkeys(
        address_of(server[0], int(server[1]), asked=asked) for _, _, *servers in slots for server in servers if isinstance(server, list)
    )
