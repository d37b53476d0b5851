"""Our stores as idemkit sees a backend, so that its published vectors can judge them.

    idemkit                    ours
    claim                      `open`; of a record that is there: `seize`, where its lease has lapsed or its answer is past its time
    complete                   `save` of the record as finished, with the answer and `keep_until`, ending the lease
    release                    `save(gone=True)`
    renew                      `renew`
    wait_for_completion        `get`, again and again
    claim token                the lease token, as text; a text that is no number is 0, which no lease ever has
    CLAIMED, COMPLETED         running and leased; finished

The vectors take leases of a tenth of a second, ours last a second at least: the store's clock runs ten times as fast as
the suite's, and each of its seconds is ten of ours.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

from idemkit.core.state import ClaimResult, ClaimResultType, StoredRecord
from idemkit.core.state import State as IdemkitState

from cxguard.core.operation import Move, Operation, State, move
from cxguard.errors import LeaseLost
from cxguard.stores.base import Match, Opened, Seen, Store
from cxguard.testing.contract.base import sample, token_of

SPEED = 10.0
LOOK_SECONDS = 0.01  # between two looks of a waiter


class FastClock:
    """The machine's clock, ten times as fast."""

    def __init__(self) -> None:
        self._began = time.time()

    def now(self) -> float:
        return self._began + (time.time() - self._began) * SPEED

    def monotonic(self) -> float:
        return time.monotonic() * SPEED


class IdemkitBackend:
    """One of our stores, behind the five methods of `idemkit.backends.base.IdempotencyBackend`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, effective_key: str, fingerprint: str, fingerprint_version: int, lease_ttl_seconds: float) -> ClaimResult:
        new = sample(effective_key, fingerprint=fingerprint)
        lease_seconds, attempt = lease_ttl_seconds * SPEED, uuid.uuid4().hex
        opened = await self._store.open(new, holder="idemkit", attempt=attempt, lease_seconds=lease_seconds)
        if opened.won:
            return _won(effective_key, opened.operation, ClaimResultType.NEW_CLAIMED)
        if opened.leased or _is_kept(opened):
            return _there(effective_key, opened.operation)
        return await self._claim_again(effective_key, opened.operation, attempt=attempt, lease_seconds=lease_seconds)

    async def _claim_again(self, key: str, found: Operation, *, attempt: str, lease_seconds: float) -> ClaimResult:
        """Of a record without a live lease: go on with it, or begin anew over an answer that is past its time."""
        seen = Seen(found.id, found.revision)
        seized = await self._store.seize(seen, holder="idemkit", attempt=attempt, lease_seconds=lease_seconds)
        if not seized.won:
            return _there(key, seized.operation)
        if seized.operation.state is not State.FINISHED:
            return _won(key, seized.operation, ClaimResultType.LEASE_RECLAIMED)
        fresh = move(seized.operation, Move.REOPEN, answer=None, keep_until=None)
        reopened = await self._store.save(fresh, token=token_of(seized.operation), keep_lease=True)
        return _won(key, reopened, ClaimResultType.NEW_CLAIMED)

    async def complete(
        self,
        effective_key: str,
        claim_token: str,
        response_status: int,
        response_headers: dict[str, str],
        response_body: bytes,
        expires_after_seconds: float,
    ) -> bool:
        found = await self._get(effective_key)
        if found is None or found.state is not State.RUNNING:
            return False
        answer = json.dumps([response_status, response_headers, response_body.decode("latin-1")]).encode()
        keep_until = await self._store.clock() + expires_after_seconds * SPEED
        return await self._save(move(found, Move.FINISH, answer=answer, keep_until=keep_until), claim_token)

    async def release(self, effective_key: str, claim_token: str) -> bool:
        found = await self._get(effective_key)
        return found is not None and await self._save(found, claim_token, gone=True)

    async def renew(self, effective_key: str, claim_token: str, lease_ttl_seconds: float) -> bool:
        lost = await self._store.renew({_id(effective_key): _token(claim_token)}, lease_seconds=lease_ttl_seconds * SPEED)
        return not lost

    async def wait_for_completion(self, effective_key: str, timeout_seconds: float) -> StoredRecord | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    found = await self._get(effective_key)
                    if found is None or found.state is State.FINISHED:
                        return None if found is None else _record(effective_key, found)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return None

    async def _get(self, key: str) -> Operation | None:
        return await self._store.get(_id(key))

    async def _save(self, operation: Operation, claim_token: str, *, gone: bool = False) -> bool:
        try:
            await self._store.save(operation, token=_token(claim_token), keep_lease=False, gone=gone)
        except LeaseLost:
            return False
        return True


def _id(key: str) -> str:
    return sample(key).id


def _token(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _is_kept(opened: Opened) -> bool:
    operation = opened.operation
    return opened.match is Match.ID and operation.state is State.FINISHED and (operation.keep_until or 0.0) > opened.now


def _won(key: str, operation: Operation, result: ClaimResultType) -> ClaimResult:
    return ClaimResult(result, _record(key, operation), str(token_of(operation)))


def _there(key: str, operation: Operation) -> ClaimResult:
    ended = operation.state is State.FINISHED and operation.lease is None
    return ClaimResult(ClaimResultType.ALREADY_COMPLETED if ended else ClaimResultType.ALREADY_CLAIMED, _record(key, operation))


def _record(key: str, operation: Operation) -> StoredRecord:
    answer: list[Any] = json.loads(operation.answer) if operation.answer else [None, {}, ""]
    lease = operation.lease
    return StoredRecord(
        effective_key=key,
        state=IdemkitState.COMPLETED if operation.state is State.FINISHED else IdemkitState.CLAIMED,
        fingerprint=operation.fingerprint,
        fingerprint_version=1,
        claim_token=str(lease.token) if lease is not None else "",
        claimed_at=operation.created_at,
        lease_until=lease.until if lease is not None else 0.0,
        response_status=answer[0],
        response_headers=answer[1],
        response_body=answer[2].encode("latin-1"),
    )
