"""Look at a request and its answer as they pass, without holding, changing or delaying a byte."""

from __future__ import annotations

from collections.abc import Callable

from cxguard.asgi.types import Message, Receive, Scope, Send
from cxguard.core.reading import HandlerAnswer
from cxguard.core.snapshot import Snapshot

PIECES_MAX = 10_000  # of one body; more are not kept


class Kept:
    """The beginning of one body, up to a limit."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self.ended = False
        self.over = False

    def add(self, message: Message) -> None:
        """Remember one piece, unless that would be too much."""
        piece = bytes(message.get("body") or b"")  # of bytes: the very same ones
        self._size += len(piece)
        if self._size > self._bytes_max or len(self._pieces) >= PIECES_MAX:
            self.over = True
        elif piece:
            self._pieces.append(piece)
        if not message.get("more_body", False):
            self.ended = True

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return self.ended and not self.over

    def content(self) -> bytes:
        """What was kept: all of it if `whole`, else its beginning."""
        return b"".join(self._pieces)


class Tee:
    """Stands between server and app. Give the app `receive` and `send`; afterwards, read what passed.

    Args:
        monotonic: the clock that says when the answer began.
        request_bytes_max, answer_bytes_max: how much of each body is remembered.

    Attributes:
        scope: as it was on arrival; `scope_after` is the very one that the app got.
        status: of the answer; 0 while there is none.
        answered_at: when it began; None: not yet.
        gone: writing to the client has failed.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        monotonic: Callable[[], float],
        request_bytes_max: int,
        answer_bytes_max: int,
    ) -> None:
        self._receive = receive
        self._send = send
        self._monotonic = monotonic
        self.scope_after = scope
        session = scope.get("session")
        # as it was on arrival: the app may log somebody in, and changes the very same objects
        self.scope = {**scope, "headers": tuple(scope["headers"]), "session": dict(session) if isinstance(session, dict) else session}
        self.request = Kept(request_bytes_max)
        self.request.ended = not _has_body(scope)
        self.answer = Kept(answer_bytes_max)
        self.status = 0
        self.answered_at: float | None = None
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.gone = False

    async def receive(self) -> Message:
        """The server's `receive`."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.request.add(message)
        return message

    async def send(self, message: Message) -> None:
        """The server's `send`."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            self.answered_at = self._monotonic()
            self.headers = tuple((bytes(name), bytes(value)) for name, value in message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.answer.add(message)
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise

    def snapshot(self) -> Snapshot:
        """The request; its body as far as it was remembered."""
        return Snapshot.from_scope(self.scope, body=self.request.content())

    def handler_answer(self) -> HandlerAnswer | None:
        """The answer; without a body where it is too long. None: there was none, or it broke off."""
        if not self.status or not (self.answer.ended or self.gone):
            return None
        return HandlerAnswer(self.status, self.headers, b"" if self.answer.over else self.answer.content())


def _has_body(scope: Scope) -> bool:
    """Whether a body is announced: an app that expects none does not ask for it."""
    lengths = [(name, value) for name, value in scope["headers"] if name in (b"transfer-encoding", b"content-length")]
    return any(name == b"transfer-encoding" or value.strip() != b"0" for name, value in lengths)
