"""The store contract: few atomic verbs, the same for every store.

Each verb is one atomic step (one statement, one short transaction, one script). It returns the row and whether we won;
what the row means is decided in `cxguard.core`. Leases and due times run on the store's clock. A verb that raises
`StoreUnavailable` may have happened: `open` is repeated with the same attempt and is then the same win; every other
write is guarded by a lease token, an event id or a revision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from cxguard.core.money import Note
from cxguard.core.operation import Operation, State

LEASE_SECONDS_MIN = 1.0
LEASE_SECONDS_MAX = 3600.0
PAGE_MAX = 200  # records in one page of `search`
TAKE_MAX = 100  # records in one `take`
TOPIC_CHARS_MAX = 200
EVERYTHING = ""  # the topic that is heard when hints may have been missed: look at all that is waited for


class Level(StrEnum):
    """What an acknowledged write has survived."""

    MEMORY = "memory"  # nothing: gone with the process
    FSYNC = "fsync"  # on the disk of one machine
    REPLICATED = "replicated"  # on more than one machine
    BEST_EFFORT = "best-effort"  # may be lost by a failover


class Match(StrEnum):
    """How `open` found what it returns."""

    NEW = "new"  # ours: inserted by this call (or by an earlier one of the same attempt)
    ID = "id"  # a record with the same id was there
    CLAIM = "claim"  # another record holds one of the claims


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as the caller saw it: the store acts only if it is still so."""

    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What `open` or `seize` found or did.

    Attributes:
        won: the caller holds the lease of `operation` now (for a record opened without a lease: it was inserted).
        operation: the record after the call, with all its notes.
        leased: somebody holds a live lease on it, judged by the store's clock.
        match: how it was found; `claim` names which claim for `Match.CLAIM`.
        now: the store's clock at the call.
    """

    won: bool
    operation: Operation
    leased: bool
    match: Match
    now: float
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """An exact look-up or a list. Members that are None do not narrow; nothing else can be searched.

    Attributes:
        reference, contact_hash, session, gateway_key, claim: exact.
        kept_by: exact: an owner; only what waits in the queue is found by it.
        states: any of these.
        due: only records with a due time; ordered by it. Otherwise newest first by creation.
        after: the `cursor` of the last page. Keyset, never an offset.
        limit: 1 to `PAGE_MAX`.
    """

    namespace: str
    reference: str | None = None
    contact_hash: str | None = None
    session: str | None = None
    gateway_key: str | None = None
    claim: str | None = None
    kept_by: str | None = None
    states: tuple[State, ...] | None = None
    money: tuple[str, ...] | None = None
    rule: str | None = None
    due: bool = False
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Records, and the cursor of the next page (None: there is no more)."""

    operations: tuple[Operation, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and sums by counter: kept in the same commit as the change, never found by scanning.

    Attributes:
        operations: how many records, by (state, money).
        unpaid_minor: the sum of accepted amounts of queued records whose money is none, by currency.
        oldest_due_at: the earliest due time of an unleased record, or None.
    """

    operations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unpaid_minor: Mapping[str, int] = field(default_factory=dict)
    oldest_due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Versioned:
    """A small value that is swapped by revision (breakers). Revision 0: never written."""

    revision: int
    value: bytes


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One shopper's visit: a sealed or plain body that the core folds; the store only keeps it by revision."""

    id: str
    revision: int
    body: bytes
    updated_at: float


@dataclass(frozen=True, slots=True)
class SessionBatch:
    """What one flush of the recorder writes, in one commit.

    Attributes:
        id: makes a repeated flush count once.
        rows: sessions to replace, each only if its stored revision is still `revision` (0: new).
        counters: amounts to add, by counter name.
    """

    id: str
    rows: tuple[SessionRow, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)


class Store(Protocol):
    """Every store. See the module's text for what holds for all verbs.

    Verbs may be asked from several threads at once, each with an event loop of its own: the heartbeat has one.
    """

    @property
    def level(self) -> Level:
        """What an acknowledged write has survived."""
        ...

    @property
    def epoch(self) -> str:
        """Which life of the data this is: a failover or a restore that the store knows of changes it."""
        ...

    async def start(self) -> None:
        """Open files or connections, make the schema on first use. Idempotent.

        Raises:
            ConfigurationError: it can never work as it is (no such folder, not a database, newer schema, ...).
            StoreUnfit: it is damaged, or set up so that it may lose what it acknowledged.
            StoreUnavailable: it does not answer now.
        """
        ...

    async def stop(self) -> None:
        """Finish what was accepted, then close. Idempotent."""
        ...

    async def open(
        self,
        operation: Operation,
        *,
        holder: str,
        attempt: str,
        lease_seconds: float | None,
        superseding: Sequence[Seen] = (),
    ) -> Opened:
        """Insert *operation*, or learn what is already there.

        Of any number of simultaneous calls for a free id, exactly one wins. Inserts only when the id is free and every
        claim of the operation is free or held by a record named in *superseding* that is still at that revision.

        Args:
            lease_seconds: how long the right to act lasts without `renew`; 1 to 3600. None: insert without a lease
                (an order that is queued at once).
            attempt: random, one per logical call: repeating the call with it is the same win (the same token, lengthened).
        """
        ...

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        """Replace the record, if *token* still is its lease; without *keep_lease* this also ends the lease.

        Notes are never written here: those that are stored survive, and come back in the result. If more are stored
        than `operation.notes_seen` and the lease ends, the record is due at once. With *gone* the record is removed
        instead, unless there are unseen notes: then it is saved as it is. Claims may be given up here, never taken:
        one that the record does not hold (any more) is missing from the result.

        Raises:
            LeaseLost: the token is not the newest, or the lease has lapsed *and* been given to another.
        """
        ...

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        """Lease up to *limit* records, most overdue first: unleased and due, or with a lapsed lease. Others wait.

        The leases of those with a lapsed one are marked LEFT_BEHIND.

        Only records of *namespace* and *rules*, and never one whose `version` is newer than ours.
        """
        ...

    async def seize(
        self,
        seen: Seen,
        *,
        holder: str,
        attempt: str,
        lease_seconds: float,
        claims: Sequence[str] = (),
        superseding: Sequence[Seen] = (),
    ) -> Opened:
        """Lease this one, if it is free or lapsed and still as we saw it. Never takes a live lease.

        With *claims* the record also takes those names, under the same rule as in `open`; a claim held by another
        record comes back as `Match.CLAIM`. Not won and `Match.ID`: it has changed or is leased; look again.

        Raises:
            KeyError: there is no such record.
        """
        ...

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        """Lengthen many leases (id -> token). Returns the ids whose lease is no longer ours.

        One that has lapsed and was given to nobody is lengthened. The revision stays: nothing else has changed.

        Raises:
            PartlyRenewed: a store of several servers heard from some of them only.
        """
        ...

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        """Append a fact and make the record due. A second note with the same event id changes nothing.

        An unknown id makes a stub: state held, waiting for the agent, due after *stub_due_seconds*.
        """
        ...

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        """Insert a whole record that another store has given up, with all its notes: for moving between stores only.

        Everything comes along as it is (times, `updated_at` too, steps, sends, money, notes, `version`, members that are
        not known here), and is found by every name as if it had been opened and saved here. Only these are this store's
        own: the revision is its next one, and there is no lease. A `version` that is newer than ours is put like any
        other, and never leased.

        Inserts when the id is free, or its record is unleased and still as *replacing* saw it (then nothing of that one
        is left); and every claim is free, its own, or held by a record that is still as one of *superseding* saw it,
        which then gives it up. Else nothing is written, and what stands in the way comes back: not won.

        Repeating it after a lost answer is not won, with the record that is there: no attempt is remembered.
        """
        ...

    async def get(self, id: str) -> Operation | None: ...

    async def search(self, query: Query) -> Page: ...

    async def tally(self, namespace: str) -> Tally: ...

    async def prune(self, *, namespace: str, limit: int) -> int:
        """Of ended records past `keep_until`, keep only names and money; remove those 400 days after that.

        Returns how many records changed; 0 means that there is nothing left to do.
        """
        ...

    async def load(self, key: str) -> Versioned: ...

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        """Replace a small value if its revision is still *revision*; the new one is one higher."""
        ...

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]: ...

    async def record(self, batch: SessionBatch) -> bool:
        """Write sessions and counters in one commit, or nothing.

        False: a row's stored revision was not the expected one; nothing was written: load, fold again, repeat. A batch
        id that was written before changes nothing and gives True. Batch ids are remembered for at least an hour, and
        sessions for 400 days after they were last written; who writes a batch clears away some that are older.
        """
        ...

    async def counters(self, prefix: str) -> Mapping[str, float]: ...

    async def clock(self) -> float:
        """The store's clock, seconds since the epoch."""
        ...


@runtime_checkable
class Hinting(Protocol):
    """What a store may have beside its verbs: a word to the other processes that there is something to look at.

    A hint says nothing by itself, and may be lost, late, doubled, or heard by its own sender. So whoever listens also
    looks now and then, and everything works without hints, only later.
    """

    async def announce(self, topics: Sequence[str]) -> None:
        """Tell all who listen on this store that *topics* are worth a look, once what was written before can be read.

        Args:
            topics: each 1 to `TOPIC_CHARS_MAX` printable ASCII characters, without anything secret in them.

        Raises:
            StoreUnavailable: nobody may have heard it. Not worth repeating: they look by themselves.
        """
        ...

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call *hear* with each announced topic, until cancelled.

        `EVERYTHING` is heard when listening has begun, and when hints may have been missed. *hear* is called in the
        loop that listens, must not block, and gets every topic: it picks its own. Several may listen at once.

        Raises:
            StoreUnavailable: no longer listening, or not yet. Listen again after a pause.
        """
        ...


@runtime_checkable
class Gathering(Protocol):
    """What a store says that keeps together what belongs to one owner (a partition of Redis), and finds it by the id alone.

    The guard's ids then begin with digits that come from the owner (`cxguard.core.names.operation_id`). In such a store a
    claim is compared among the records whose ids begin alike: claims of one owner are, and none is shared between owners.
    Records move only between stores that say the same here: on another, the same order would have another id.
    """

    @property
    def ids_led_by_owner(self) -> bool:
        """Always the same for one store, also before it has started."""
        ...


def gathers(store: object) -> bool:
    """Whether ids on *store* are led by their owner. A store around another one says what that one says."""
    return bool(getattr(store, "ids_led_by_owner", False))  # not by isinstance, which since Python 3.12 does not see through wrappers
