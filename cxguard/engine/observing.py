"""What the guard would have done: `mode="watch"` counts it, after the answer has gone.

What was observed is kept as records of a namespace of their own, so that a second submit is seen in whichever process
it arrives. They have no lease, hold no request and no answer, and the same `core.decide` judges them that judges real
ones: a watched shop is promised exactly what a guarded one gets.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cxguard.core import names
from cxguard.core.decide import Do, Policy, Submit, decide
from cxguard.core.fingerprint import fingerprint_of, same_request
from cxguard.core.money import MoneyState, Send, SendKind
from cxguard.core.operation import Operation, State, changed, refolded
from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.core.reading import Reading
from cxguard.core.resolve import SHOP
from cxguard.core.snapshot import Snapshot
from cxguard.engine.engine import Engine
from cxguard.engine.operations import twice
from cxguard.rules import Asked, Rule
from cxguard.stores.base import Match, Opened, Seen

WATCH_SUFFIX = ":watch"  # of the namespace: nobody's queue, desk or tally looks there
KEEP_SECONDS = 86_400.0  # a repeat that comes later is a new purchase in any case
LIVES_MAX = 16  # tries of one basket that are told apart
PRUNE_AT_ONCE = 200
TURNS_MAX = 24  # looks at the store for one request


class Finding(StrEnum):
    """What is counted, under `would.`"""

    REQUESTS = "requests"
    SUCCEEDED = "readings.succeeded"
    DECLINED = "readings.declined"
    REJECTED = "readings.rejected"
    FAILED = "readings.failed"
    DUPLICATES = "duplicates"
    DUPLICATES_SUCCEEDED = "duplicates.succeeded_again"
    PURCHASES = "purchases_again"
    PURCHASES_SUCCEEDED = "purchases_again.succeeded_again"
    MISMATCHES = "mismatches"
    UNPAID_AFTER_PAID = "lies.not_paid_after_paid"
    FAILED_WHILE_UNKNOWN = "lies.failed_while_unknown"
    KEYS_MISSING = "keys.missing"
    KEYS_MALFORMED = "keys.malformed"
    OWNERS_MISSING = "owners.missing"
    OWNERS_UNSTABLE = "owners.unstable"
    REFUSED = "refused"
    BODIES_TOO_LARGE = "bodies.too_large"
    BODIES_UNREAD = "bodies.unread"
    CARDS = "bodies.with_card"
    ANSWERS_TOO_LARGE = "answers.too_large"
    NOT_OBSERVED = "not_observed"


MEANINGS: Mapping[Finding, str] = {
    Finding.REQUESTS: "requests that a rule matched",
    Finding.SUCCEEDED: "answers read as paid",
    Finding.DECLINED: "answers read as declined by the issuer",
    Finding.REJECTED: "answers read as refused before anything was tried",
    Finding.FAILED: "answers read as failed: nobody knows whether a charge happened",
    Finding.DUPLICATES: "the same submit again: the first one's answer would have been replayed",
    Finding.DUPLICATES_SUCCEEDED: "of these, answered with success again: see in the gateway whether each was charged",
    Finding.PURCHASES: "the same purchase under another key: the shopper would have been shown the first order",
    Finding.PURCHASES_SUCCEEDED: "of these, answered with success again: see in the gateway whether each was charged",
    Finding.MISMATCHES: "a client's key again with other content: refused with 422",
    Finding.UNPAID_AFTER_PAID: "told 'not paid' though the same purchase was paid before",
    Finding.FAILED_WHILE_UNKNOWN: "told that it failed though a charge may stand: would say 'do not pay again, we check'",
    Finding.KEYS_MISSING: "requests without a key (refused with 400 where the rule requires one)",
    Finding.KEYS_MALFORMED: "keys that cannot be one: refused with 400",
    Finding.OWNERS_MISSING: "nobody could be named as the owner: refused with 401; give the rule another owner=",
    Finding.OWNERS_UNSTABLE: "one key under two owners, or an answer that makes the visitor another owner: mend owner= before guarding",
    Finding.REFUSED: "requests that cannot be read without guessing: refused with 400, 413 or 415",
    Finding.BODIES_TOO_LARGE: "bodies over the rule's body_bytes_max: refused with 413",
    Finding.BODIES_UNREAD: "bodies that the app did not read to the end: not judged",
    Finding.CARDS: "requests that carry card data: would never be kept for later",
    Finding.ANSWERS_TOO_LARGE: "answers over answer_bytes_max: would pass live, and not be replayed",
    Finding.NOT_OBSERVED: "requests that could not be judged: too many at once, or the store did not answer",
}

READINGS: Mapping[Reading, Finding] = {
    Reading.SUCCEEDED: Finding.SUCCEEDED,
    Reading.DECLINED: Finding.DECLINED,
    Reading.REJECTED: Finding.REJECTED,
    Reading.FAILED: Finding.FAILED,
}


@dataclass(frozen=True, slots=True)
class Watched:
    """One submit that was watched, and how the shop answered it.

    Attributes:
        arrived_at: wall clock, seconds since the epoch.
    """

    rule: Rule
    asked: Asked
    snapshot: Snapshot
    reading: Reading
    policy: Policy
    arrived_at: float


async def forget_once(engine: Engine) -> int:
    """Let go of what was observed long ago: nobody's upkeep looks at these records."""
    return await engine.operations.store.prune(namespace=engine.operations.namespace + WATCH_SUFFIX, limit=PRUNE_AT_ONCE)


async def observe(engine: Engine, watched: Watched) -> frozenset[Finding]:
    """Remember the submit, unless it tried nothing, and say what the guard would have made of it.

    Raises:
        StoreUnavailable: it is not known.
        BadRequest: the body is not what its content type says.
    """
    if watched.reading is Reading.REJECTED:
        return frozenset()
    return await _Observation(engine, watched).findings()


class _Observation:
    def __init__(self, engine: Engine, watched: Watched) -> None:
        self._engine = engine
        self._watched = watched
        self._findings: set[Finding] = set()
        self._superseding: list[Seen] = []
        self._life = 0
        naming, asked = engine.naming, watched.asked
        self._namespace = engine.operations.namespace + WATCH_SUFFIX
        self._owner = names.owner_name(naming, namespace=self._namespace, owner=asked.owner)
        self._key = asked.key.value or secrets.token_hex(16)
        # a key that two owners sent is found by a name that leaves the owner out
        self._key_claim = names.purchase_claim(naming, namespace=self._namespace, purpose=watched.rule.name, owner="", parts=(self._key,))
        self._blank = self._record()

    async def findings(self) -> frozenset[Finding]:
        for _ in range(TURNS_MAX):
            opened = await self._open()
            if opened.won or self._judged(opened) or self._life >= LIVES_MAX:
                break
        if self._watched.reading is Reading.FAILED:
            self._findings.add(Finding.FAILED_WHILE_UNKNOWN)
        return frozenset(self._findings)

    async def _open(self) -> Opened:
        operations, attempt, fresh = self._engine.operations, secrets.token_hex(8), self._named()
        superseding = tuple(self._superseding)
        return await twice(
            lambda: operations.store.open(fresh, holder=operations.holder, attempt=attempt, lease_seconds=None, superseding=superseding)
        )

    def _judged(self, opened: Opened) -> bool:
        """Note what the guard would do about the record that is there; whether that is all."""
        there, watched = opened.operation, self._watched
        seen = Seen(there.id, there.revision)
        if opened.match is Match.CLAIM and opened.claim == self._key_claim:
            if there.owner != self._owner:
                self._findings.add(Finding.OWNERS_UNSTABLE)
            self._superseding.append(seen)
            return False
        claim = opened.match is Match.CLAIM
        do = decide(there, self._submit(there), watched.policy, leased=False, claim=claim, now=watched.arrived_at)
        match do:
            case Do.SUPERSEDE:
                self._superseding.append(seen)
                return False
            case Do.REOPEN | Do.AGAIN | Do.RUN:
                self._life += 1
                self._superseding.append(seen)
                return False
            case Do.MISMATCH:
                self._findings.add(Finding.MISMATCHES)
            case _:
                self._note_repeat(there, other_key=claim and watched.policy.current_seconds is None)
        return True

    def _note_repeat(self, there: Operation, *, other_key: bool) -> None:
        self._findings.add(Finding.PURCHASES if other_key else Finding.DUPLICATES)
        if self._watched.reading is Reading.SUCCEEDED and there.money in (MoneyState.CHARGED, MoneyState.UNKNOWN):
            self._findings.add(Finding.PURCHASES_SUCCEEDED if other_key else Finding.DUPLICATES_SUCCEEDED)
        if self._watched.reading in (Reading.DECLINED, Reading.FAILED) and there.money is MoneyState.CHARGED:
            self._findings.add(Finding.UNPAID_AFTER_PAID)

    def _submit(self, there: Operation) -> Submit:
        watched = self._watched
        same = same_request(self._engine.naming, there.fingerprint, watched.snapshot, ignore=watched.rule.ignore_fields)
        return Submit(
            owner=self._owner,
            client_key=watched.asked.key.chosen_by_client,
            same_request=same,
            amount_minor=watched.asked.amount_minor,
            currency=watched.asked.currency,
        )

    def _named(self) -> Operation:
        """The record of this life of the basket."""
        key = f"{self._key}\x1f{self._life}" if self._life else self._key
        rule, naming = self._watched.rule, self._engine.naming
        home = "" if self._engine.gathers else None  # all in one place: a key is compared across owners
        id = names.operation_id(naming, namespace=self._namespace, purpose=rule.name, owner=self._owner, key=key, home=home)
        return changed(self._blank, id=id, reference=names.reference_of(id))

    def _record(self) -> Operation:
        rule, asked, now = self._watched.rule, self._watched.asked, self._engine.clock.now()
        return refolded(
            Operation(
                id="",
                namespace=self._namespace,
                rule=rule.name,
                owner=self._owner,
                reference="",
                fingerprint=fingerprint_of(self._engine.naming, self._watched.snapshot, ignore=rule.ignore_fields),
                state=State.FINISHED,
                created_at=self._watched.arrived_at,
                updated_at=now,
                claims=self._claims(),
                client_key=asked.key.chosen_by_client,
                charged_by=SHOP,
                amount_minor=asked.amount_minor,
                currency=asked.currency,
                sends=(self._line(),),
                answer=b"-",  # there was one; it is not kept
                answered_at=now,
                keep_until=now + KEEP_SECONDS,
            )
        )

    def _line(self) -> Send:
        asked = self._watched.asked
        return Send(
            number=1,
            gateway=SHOP,
            key="watched",
            step="charge",
            generation=1,
            kind=SendKind.CHARGE,
            amount_minor=asked.amount_minor,
            currency=asked.currency,
            sent_at=self._watched.arrived_at,
            keyed=False,
            outcome=_outcome(self._watched.reading, asked),
        )

    def _claims(self) -> tuple[str, ...]:
        rule, asked, naming = self._watched.rule, self._watched.asked, self._engine.naming
        if not asked.key.value:
            return (names.current_claim(naming, namespace=self._namespace, purpose=rule.name, owner=self._owner),)
        claims: tuple[str, ...] = (self._key_claim,)
        if asked.purchase:
            basket = names.purchase_claim(naming, namespace=self._namespace, purpose=rule.name, owner=self._owner, parts=asked.purchase)
            claims = (*claims, basket)
            if asked.amount_minor is not None:
                currency = asked.currency or ""
                claims = (*claims, names.amount_claim(naming, basket=basket, amount_minor=asked.amount_minor, currency=currency))
        return claims


def _outcome(reading: Reading, asked: Asked) -> Outcome:
    match reading:
        case Reading.SUCCEEDED:
            return Charged(amount_minor=asked.amount_minor or 0, currency=asked.currency or "")
        case Reading.DECLINED:
            return Declined()
        case _:
            return Unknown(why="watched")
