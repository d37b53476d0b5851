"""Verbs over all partitions: what each server gives is put together here, a bounded part of each at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxguard.core.operation import RECORD_VERSION, Operation
from cxguard.errors import PartlyRenewed, StoreError
from cxguard.logs import get_logger
from cxguard.stores.base import Tally
from cxguard.stores.record import pruned
from cxguard.stores.redis.partitions import line_name, packed_id, partition_of, space_name, unpacked_id
from cxguard.stores.redis.rows import fields_of, is_pruned, notes_words, number_text, operation_of, plain, sent_values
from cxguard.stores.redis.wire import Unreadable

if TYPE_CHECKING:
    from cxguard.stores.redis.store import RedisStore

_log = get_logger("store")

TAKE_TURNS_MAX = 4  # looks at the queue in one `take`: each more means that others took what we had seen
PUT_OFF_SECONDS = 300.0  # a record that cannot be read is looked at again after this: it must not stand before others
Placed = tuple[float, Operation]
Word = str | bytes | int


async def take_everywhere(
    store: RedisStore, namespace: str, rules: Sequence[str], *, holder: str, lease_seconds: float, limit: int
) -> tuple[Operation, ...]:
    """Lease the *limit* most overdue records of all partitions: see where they are, then take so many from each."""
    versions = range(1, RECORD_VERSION + 1)
    lines = [line_name(namespace, rule, version) for rule in dict.fromkeys(rules) for version in versions]
    taken: list[Placed] = []
    for _ in range(TAKE_TURNS_MAX if lines else 0):
        missing = limit - len(taken)
        shares = {0: missing} if store.partitions == 1 else await _shares(store, lines, limit=missing)
        calls = [_take(store, partition, lines, holder=holder, seconds=lease_seconds, limit=share) for partition, share in shares.items()]
        found = _what_came(await asyncio.gather(*calls, return_exceptions=True), had=bool(taken))
        taken += found
        if len(taken) >= limit or not shares or (store.partitions == 1 and len(found) < missing):
            break
    taken.sort(key=lambda placed: placed[0])
    return tuple(operation for _, operation in taken if operation.version <= RECORD_VERSION)


async def renew_everywhere(store: RedisStore, tokens: Mapping[str, int], *, seconds: float) -> frozenset[str]:
    """Lengthen leases on all partitions. One that is away keeps no other from being renewed."""
    parts: dict[int, dict[str, int]] = {}
    for id, token in tokens.items():
        parts.setdefault(partition_of(id, store.partitions), {})[id] = token
    words = {n: [word for id, token in part.items() for word in (packed_id(id), token)] for n, part in parts.items()}
    calls = [store.run(n, "renew", [number_text(seconds), *words[n]], writes=True) for n in parts]
    answers = dict(zip(parts, await asyncio.gather(*calls, return_exceptions=True), strict=True))
    errors = {n: answer for n, answer in answers.items() if isinstance(answer, BaseException)}
    _require(list(answers.values()), had=len(errors) < len(parts))
    lost = frozenset(unpacked_id(id) for answer in answers.values() if not isinstance(answer, BaseException) for id in answer)
    if errors:
        unanswered = frozenset(id for n in errors for id in parts[n])
        raise PartlyRenewed(str(next(iter(errors.values()))), lost=lost, unanswered=unanswered)
    return lost


async def _shares(store: RedisStore, lines: Sequence[str], *, limit: int) -> dict[int, int]:
    """How many of the most overdue records each partition has. One that is away gives none, and its orders wait."""
    calls = [store.run(partition, "ripe", [limit, *lines]) for partition in range(store.partitions)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    _require(answers, had=any(not isinstance(answer, BaseException) for answer in answers))
    times = [(float(time), n) for n, found in enumerate(answers) if not isinstance(found, BaseException) for time in found]
    return dict(Counter(n for _, n in heapq.nsmallest(limit, times)))


async def _take(store: RedisStore, partition: int, lines: Sequence[str], *, holder: str, seconds: float, limit: int) -> list[Placed]:
    answer = await store.run(partition, "take", [holder, number_text(seconds), limit, *lines], writes=True)
    return [(float(time), each) for id, time, flat in answer if (each := _readable(id, flat)) is not None]


def _readable(id: bytes, flat: Sequence[bytes]) -> Operation | None:
    """A record, if it can be read: one that somebody has spoilt keeps no other from whoever took them together."""
    try:
        return operation_of(fields_of(flat), id)
    except Unreadable as error:
        _log.error("store.unreadable", why=str(error))
        return None


def _what_came(answers: Sequence[list[Placed] | BaseException], *, had: bool) -> list[Placed]:
    """What was leased. One server that does not answer takes nothing away from what the others gave; its leases lapse."""
    found = [placed for answer in answers if not isinstance(answer, BaseException) for placed in answer]
    _require(answers, had=bool(found) or had)
    return found


def _require(answers: Sequence[Any], *, had: bool) -> None:
    """Raise what is no server's silence; and that, too, if there is nothing else."""
    for error in answers:
        if isinstance(error, BaseException) and not (had and isinstance(error, StoreError)):
            raise error


async def prune_partition(store: RedisStore, partition: int, namespace: str, *, limit: int) -> int:
    """The next stage of forgetting for up to *limit* records of one partition. Returns how many have changed, or are put off."""
    of_ours: list[Word] = [space_name(namespace), RECORD_VERSION]
    found = dict(await store.run(partition, "prunable", [limit, *of_ours]))
    readable = {id for id, flat in found.items() if (each := _readable(id, flat)) is not None and each.version <= RECORD_VERSION}
    calls = [store.run(partition, "prune", _prune_words(fields_of(found[id]), id), writes=True) for id in readable]
    left = [id for id in found if id not in readable]
    if left:
        calls.append(store.run(partition, "put_off", [number_text(PUT_OFF_SECONDS), *of_ours, *left], writes=True))
    return sum(await asyncio.gather(*calls))


def _prune_words(fields: Any, id: bytes) -> list[Word]:
    operation = operation_of(fields, id)
    left = pruned(operation)
    head: list[Word] = [id, operation.revision, "1" if is_pruned(fields) else ""]
    return [*head, *notes_words(left.namespace, left.notes), *sent_values(left, pruned=True)]


def merged_tally(pairs: Sequence[tuple[str, str]], answers: Sequence[Any]) -> Tally:
    """The tally of all partitions."""
    operations: Counter[tuple[str, str]] = Counter()
    unpaid: Counter[str] = Counter()
    for counts, sums, _ in answers:
        operations.update(dict(zip(pairs, counts, strict=True)))
        unpaid.update({plain(currency.decode()): int(amount) for currency, amount in fields_of(sums).items()})
    oldest = [float(time) for _, _, time in answers if time]
    return Tally(
        operations={pair: count for pair, count in operations.items() if count},
        unpaid_minor={currency: total for currency, total in unpaid.items() if total},
        oldest_due_at=min(oldest, default=None),
    )
