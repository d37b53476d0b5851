"""One connection to one server: many commands in, as many answers out, within one time. Never sends anything twice.

A call that ends early, by time or because its caller went away, ends the connection with it: an answer that is still under
way can be nobody else's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from cxguard.errors import ConfigurationError, StoreError, StoreUnavailable
from cxguard.stores.redis.scripts import HASHES, SCRIPTS
from cxguard.stores.redis.settings import Address, RedisSettings

Words = Sequence[str | bytes | int]
Answer = Any  # bytes, int, None, a list of such, or the server's refusal as an exception


class Wire:
    """A connection. Belongs to one event loop."""

    def __init__(self, address: Address, settings: RedisSettings, *, to_sentinel: bool = False) -> None:
        self.address = address
        self._seconds = settings.answer_seconds
        self._turn = asyncio.Lock()  # answers come in the order of the questions
        self._connection = _connection(address, settings, to_sentinel=to_sentinel)

    @property
    def closed(self) -> bool:
        return not self._connection.is_connected

    async def connect(self) -> None:
        """Connect, and log in.

        Raises:
            StoreUnavailable: nobody answers.
            ConfigurationError: the server refuses us.
        """
        await self._within(self._connection.connect())  # type: ignore[no-untyped-call]

    async def ask(self, commands: Sequence[Words]) -> list[Answer]:
        """Send *commands* in one go and read their answers, in order.

        Raises:
            StoreUnavailable: no answer came to at least one of them: each may have happened.
        """
        async with self._turn:
            if self.closed:  # redis-py would connect anew, to a server that nobody has looked at
                raise self._silent("the connection was closed")
            answers: list[Answer] = await self._within(self._exchange(commands))
        return answers

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def next_message(self) -> Answer:
        """The next message of a subscription, however long it takes.

        Raises:
            StoreUnavailable: the connection has ended.
        """
        try:
            return await self._connection.read_response()
        except (RedisError, OSError, EOFError) as error:
            raise self._silent(f"{type(error).__name__}: {str(error)[:200]}") from error

    async def _exchange(self, commands: Sequence[Words]) -> list[Answer]:
        # packed by hiredis: redis-py's own packer takes as long as everything else that we do for a record
        packed = b"".join([pack_command(tuple(words)) for words in commands])  # type: ignore[arg-type]  # its stub knows one word
        await self._connection.send_packed_command(packed, check_health=False)
        return [await self._answer() for _ in commands]

    async def _answer(self) -> Answer:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except ResponseError as refusal:
            return refusal

    async def _within(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except (AuthenticationError, NoPermissionError) as error:
            await self.close()
            raise refused(error) from None
        except TimeoutError:
            await self.close()
            raise self._silent(f"no answer within {self._seconds:g} s") from None
        except (RedisError, OSError, EOFError) as error:
            await self.close()
            raise self._silent(f"{type(error).__name__}: {str(error)[:200]}") from error
        except BaseException:
            await self.close()
            raise

    def _silent(self, why: str) -> StoreUnavailable:
        host, port = self.address
        return StoreUnavailable(f"Redis at {host}:{port} did not answer ({why}): it may have happened; look before you act again")


def _connection(address: Address, settings: RedisSettings, *, to_sentinel: bool) -> Connection | SSLConnection:
    options: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "db": 0 if to_sentinel else settings.database,
        "retry": Retry(NoBackoff(), 0),  # by itself it would send again what may have happened
        "protocol": 2,
        "driver_info": None,  # a command less, which older servers refuse
        "socket_timeout": None,  # one time for the whole call, in `_within`
        "socket_connect_timeout": settings.answer_seconds,
        **(settings.sentinel_login if to_sentinel else settings.login),
    }
    return Connection(**options) if settings.tls is None else SSLConnection(**options, **settings.tls)


async def run_scripts(wire: Wire, calls: Sequence[tuple[str, Words]], *, after: Sequence[Words] = ()) -> tuple[list[Answer], list[Answer]]:
    """Run scripts by their hashes, in one go with the commands *after* them; load what the server does not know.

    Args:
        calls: each a script's name, and its keys (behind their number) and arguments; with an empty name a command.
    """
    answers = await wire.ask([*(_command(name, words) for name, words in calls), *after])
    unknown = [n for n, answer in enumerate(answers[: len(calls)]) if code_of(answer) == "NOSCRIPT"]
    if not unknown:
        return answers[: len(calls)], answers[len(calls) :]
    # refused before it began: these, and only these, may be sent again
    loads: list[Words] = [("SCRIPT", "LOAD", SCRIPTS[name]) for name in sorted({calls[n][0] for n in unknown})]
    again = await wire.ask([*loads, *(_command(*calls[n]) for n in unknown), *after])
    for n, answer in zip(unknown, again[len(loads) :], strict=False):
        answers[n] = answer
    return answers[: len(calls)], again[len(loads) + len(unknown) :]


def _command(name: str, words: Words) -> Words:
    return ("EVALSHA", HASHES[name], *words) if name else words


def code_of(answer: Answer) -> str:
    """The first word of a server's refusal; empty for any other answer."""
    if not isinstance(answer, ResponseError):
        return ""
    code = str(getattr(answer, "status_code", None) or str(answer).partition(" ")[0])
    inner = _IN_SCRIPT.search(str(answer)) if code == "ERR" else None
    return inner[1] if inner else code


_IN_SCRIPT = re.compile(r"-([A-Z]{3,}) ")  # Redis 6 wraps what a script was refused into an error of its own


class Unreadable(StoreUnavailable):
    """What is there under one of our keys is nothing that we write: nobody knows what it stands for."""


_MEANING = {
    "READONLY": "this server is a replica now",
    "LOADING": "the server is still reading its data",
    "MASTERDOWN": "the server has lost its primary",
    "CLUSTERDOWN": "the cluster does not serve this part of the data",
    "TRYAGAIN": "this part of the data is moving to another server",
    "ASK": "this part of the data is moving to another server",
    "MOVED": "this part of the data has moved",
    "OOM": "the server's memory is full: give it more (maxmemory), or prune more often",
    "MISCONF": "the server cannot write to its disk",
    "NOREPLICAS": "too few replicas are connected for the server's own min-replicas-to-write",
    "BUSY": "another script has been running for too long",
    "NOLIFE": "the data is gone (FLUSHALL, or a restart without its files): look before you act again",
}


def refused(refusal: BaseException) -> StoreError | ConfigurationError:
    """What a server's refusal means to whoever asked."""
    code = code_of(refusal)
    text = str(refusal)[:200]
    if isinstance(refusal, AuthenticationError | NoPermissionError) or code in ("NOPERM", "NOAUTH", "WRONGPASS"):
        said = ": ".join(part for part in (code, text.rstrip(".")) if part)  # the driver keeps some codes for itself
        return ConfigurationError(f"Redis refuses us ({said}): check user and password in the address, and what this user may do")
    if "WRONGTYPE" in text:
        return Unreadable(f"Redis has something else under one of our keys ({text}): look who writes there, and restore it from a backup")
    return StoreUnavailable(f"Redis refused ({code}): {_MEANING.get(code, text)}")
