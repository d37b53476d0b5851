"""Queues beside the stores: SAQ on the same Redis, procrastinate on the same PostgreSQL, each set as its documentation says.

An order that waits is one job of theirs, with the same 900 bytes as text, which their JSON wants. They keep no purchase, no
claim and no list to look it up by. Taking is what their workers do with the store, without what they do beside it.
"""

from __future__ import annotations

import base64
from importlib.metadata import version
from typing import Any, Protocol

from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status as JobStatus
from saq import Queue
from saq.job import Status
from store import REQUEST

TEXT = base64.b64encode(REQUEST).decode()


class Peer(Protocol):
    """A queue.

    Attributes:
        settings: how it was set, for the reader of the table.
    """

    name: str
    settings: str

    async def start(self) -> None: ...

    async def put(self, number: int) -> None:
        """Enqueue one job; it returns when the server has it."""
        ...

    async def end_one(self) -> None:
        """Take one job, and write that it is done."""
        ...

    async def stop(self) -> None: ...


class SaqPeer:
    """SAQ on Redis."""

    name = "SAQ on it"
    settings = f"SAQ {version('saq')}: Queue.from_url(url), enqueue(name, text=...); dequeue, then finish(COMPLETE), as its worker does"

    def __init__(self, url: str) -> None:
        self._queue: Any = Queue.from_url(url)

    async def start(self) -> None:
        await self._queue.connect()

    async def put(self, number: int) -> None:
        job = await self._queue.enqueue("pay", key=f"order-{number}", text=TEXT)
        assert job is not None, "a new key"

    async def end_one(self) -> None:
        job = await self._queue.dequeue(timeout=10)
        await job.finish(Status.COMPLETE)

    async def stop(self) -> None:
        await self._queue.disconnect()


class ProcrastinatePeer:
    """procrastinate on PostgreSQL."""

    name = "procrastinate on it"
    settings = (
        f"procrastinate {version('procrastinate')}: PsycopgConnector(conninfo=url), its pool as it comes, task.defer_async(text=...); "
        "fetch_job, then finish_job(SUCCEEDED), as its worker does"
    )

    def __init__(self, url: str) -> None:
        self._app = App(connector=PsycopgConnector(conninfo=url))
        self._worker = 0

        @self._app.task(name="pay")
        async def pay(text: str, number: int) -> None:
            """Never run: only taken and ended."""

        self._pay = pay

    async def start(self) -> None:
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()
        self._worker = await self._app.job_manager.register_worker()

    async def put(self, number: int) -> None:
        await self._pay.defer_async(text=TEXT, number=number)

    async def end_one(self) -> None:
        job = None
        while job is None:  # others were quicker
            job = await self._app.job_manager.fetch_job(queues=None, worker_id=self._worker)
        await self._app.job_manager.finish_job(job, status=JobStatus.SUCCEEDED, delete_job=False)

    async def stop(self) -> None:
        await self._app.close_async()
