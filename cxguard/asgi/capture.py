"""Hold an app's answer back until it is whole, so that it can be read, kept and corrected before its last byte leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from cxguard.asgi.types import Message, Scope, Send
from cxguard.core.reading import HandlerAnswer


class Phase(Enum):
    """How far the app's answer has come."""

    NOTHING = 0
    STARTED = 1
    COMPLETE = 2


class Capture:
    """The app's `send`: collects up to *bytes_max*, beyond that (and for event streams) lets the answer pass live.

    The last message of a live answer is held all the same: it leaves when the record says that the run has ended.
    """

    def __init__(self, send: Send, *, bytes_max: int, completed: Callable[[], None] | None = None) -> None:
        self._send = send
        self._completed = completed
        self._bytes_max = bytes_max
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._others: list[Message] = []
        self._last: Message | None = None
        self._gone = False
        self.live = False
        self.phase = Phase.NOTHING

    async def __call__(self, message: Message) -> None:
        if self.phase is Phase.COMPLETE:
            return  # whatever comes after the end is not part of the answer
        match message["type"]:
            case "http.response.start":
                self._start = message
                self.phase = Phase.STARTED
                if _streams(message):
                    await self._go_live()
            case "http.response.body":
                await self._body(message)
            case _:
                self._others.append(message)  # trailers, push, debug: not what the shopper reads
                if self.live:
                    await self._pass(message)

    async def _body(self, message: Message) -> None:
        more = message.get("more_body", False)
        if not self.live:
            self._parts.append(message.get("body", b""))
            self._size += len(self._parts[-1])
            if self._size > self._bytes_max:
                await self._go_live(last=not more)
        elif more:
            await self._pass(message)
        else:
            self._last = message
        if not more:
            self.phase = Phase.COMPLETE
            if self._completed is not None:
                self._completed()

    async def _go_live(self, *, last: bool = False) -> None:
        self.live = True
        if self._start is not None:
            await self._pass(self._start)
        body, self._parts = b"".join(self._parts), []
        if last:
            self._last = {"type": "http.response.body", "body": body, "more_body": False}
        elif body:
            await self._pass({"type": "http.response.body", "body": body, "more_body": True})

    async def _pass(self, message: Message) -> None:
        """To the client; one that has gone changes nothing for the app."""
        if self._gone:
            return
        try:
            await self._send(message)
        except OSError:
            self._gone = True

    async def finish_live(self) -> None:
        """Let the held last message of a live answer go."""
        await self._pass(self._last or {"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def status(self) -> int:
        """The status that the app sent, or 500 when it sent none."""
        return int(self._start["status"]) if self._start else 500

    def answer(self) -> HandlerAnswer | None:
        """The whole answer, or None: not complete, or passed live."""
        if self._start is None or self.phase is not Phase.COMPLETE or self.live:
            return None
        headers = tuple((bytes(name), bytes(value)) for name, value in self._start.get("headers", ()))
        return HandlerAnswer(status=self.status, headers=headers, body=b"".join(self._parts))


_SHORTCUTS = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


def without_shortcuts(scope: Scope) -> None:
    """Some servers send a file by its path for the app, and we would see no end of its answer: here it sends the bytes itself."""
    offered = scope.get("extensions")
    if offered and not _SHORTCUTS.isdisjoint(offered):
        scope["extensions"] = {name: value for name, value in offered.items() if name not in _SHORTCUTS}


def uncompressed(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a request, which asks for an answer as it is: it is read here, and replayed to clients that undo other
    compressions, or none. What stands outside of the guard may compress it on its way out."""
    return [(name, b"identity") if name.lower() == b"accept-encoding" else (name, value) for name, value in headers]


def _streams(start: Message) -> bool:
    """Event streams are for watching as they come; nobody waits for their end to read them. An error is no such stream, whatever
    it calls itself: over a charge it must not get through."""
    return start["status"] < 400 and any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in start.get("headers", ())
    )


async def send_answer(send: Send, answer: HandlerAnswer, *, head_only: bool = False) -> None:
    """Send a whole answer. A client that has gone is no error: the answer is kept."""
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
        await send({"type": "http.response.body", "body": b"" if head_only else answer.body, "more_body": False})
    except OSError:
        return
