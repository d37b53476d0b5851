"""What a store may have beside its verbs: the last write of an operation, inside a transaction of the shop's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from cxguard.core.operation import Operation

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Has the thread that a connection belongs to run a call, and waits for it."""


class Joined(Protocol):
    """A transaction of the shop's own, in the database in which the store is."""

    @property
    def name(self) -> str:
        """For `Joining.is_open`. Says nothing secret, and never comes again."""
        ...

    async def save(self, operation: Operation, *, token: int) -> Operation:
        """As `Store.save` that ends the lease. It holds when the shop commits; until then the record is locked.

        Raises:
            LeaseLost: as `Store.save`. The shop must roll back.
            ConfigurationError: the connection's role may not write here.

        What the driver raises comes out as it is: it is the shop's own transaction that has failed.
        """
        ...


class Joining(Protocol):
    """A store that can join a transaction of the shop's own."""

    async def join(self, connection: object, *, in_thread: InThread | None = None) -> Joined:
        """Look whether *connection* is in a transaction of the store's own database.

        Args:
            connection: the driver's own.
            in_thread: for one that blocks: where its calls are made.

        Raises:
            ConfigurationError: it is not, or is no connection that this store knows. Nothing was written.
            StoreUnavailable: the store itself does not answer, or is in another life than that connection's server.
        """
        ...

    async def is_open(self, name: str) -> bool:
        """Whether that transaction is neither committed nor rolled back yet.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        ...


def joining(store: object) -> Joining | None:
    """*store*, if it can join a transaction; a store around another one does what that one does."""
    return cast(Joining, store) if hasattr(store, "join") else None
