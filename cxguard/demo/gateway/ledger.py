"""The gateway's books in SQLite: payments, captures, refunds, and every request to charge that arrived."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from cxguard.clock import Clock, SystemClock

BUSY_MILLISECONDS = 5_000  # a judge may read while we write


class Refusal(StrEnum):
    """Why nothing was done."""

    KEY_MISMATCH = "key_mismatch"
    KEY_CANCELLED = "key_cancelled"
    NOT_FOUND = "not_found"
    AMOUNT = "amount_not_available"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to charge, as it came in."""

    amount_minor: int
    currency: str
    source: str
    reference: str = ""
    capture: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payment:
    """One line of the books."""

    id: str
    key: str | None
    amount_minor: int
    currency: str
    source: str
    reference: str
    status: str
    decline_code: str
    captured_minor: int
    refunded_minor: int
    created_at: float
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Movement:
    """A capture or a refund."""

    id: str
    kind: str
    payment_id: str
    key: str | None
    amount_minor: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Entered:
    """A payment, and whether this call made it (a repeated key replays the first one)."""

    payment: Payment
    new: bool


_DECLINES = {"tok_declined": "card_declined", "tok_insufficient": "insufficient_funds", "tok_expired": "expired_card"}
_PAYMENT = """
    SELECT id, key, amount_minor, currency, source, reference,
           CASE WHEN refunded > 0 AND refunded >= iif(captured_minor > 0, captured_minor, amount_minor) THEN 'refunded' ELSE status END,
           decline_code, captured_minor, refunded, created_at, metadata
    FROM (SELECT p.*, (SELECT coalesce(sum(m.amount_minor), 0) FROM movements m
                       WHERE m.payment_id = p.id AND m.kind = 'refund') AS refunded FROM payments p)
"""
_MOVEMENT = "SELECT id, kind, payment_id, key, amount_minor, created_at FROM movements"


def decline_code(source: str) -> str | None:
    """What the issuer says to this test card: "" for yes, a code for no, None for a card that does not exist.

    `tok_ok` and `tok_ok_anything` are the same card product in other hands, so that a ledger can tell shoppers apart.
    """
    for token, code in {"tok_ok": "", **_DECLINES}.items():
        if source == token or source.startswith(token + "_"):
            return code
    return None


class Ledger:
    """Belongs to one thread. Every method is one transaction."""

    def __init__(self, path: Path, *, keyed: bool = True, clock: Clock | None = None) -> None:
        self.keyed = keyed
        self._clock = clock or SystemClock()
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(BUSY_MILLISECONDS)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(resources.files(__package__).joinpath("ledger.sql").read_text("utf-8"))

    def close(self) -> None:
        self._db.close()

    def received(self, request: Request, *, key: str | None, mode: str) -> int:
        """Note that a request to charge arrived; returns its number."""
        sql = "INSERT INTO sends (received_at, key, source, reference, mode, result) VALUES (?, ?, ?, ?, ?, 'nothing') RETURNING number"
        return int(self._db.execute(sql, (self._clock.now(), key, request.source, request.reference, mode)).get)

    def charge(self, request: Request, *, key: str | None, send: int, declined: str, asks: bool = False) -> Entered | Refusal:
        """Charge, or replay what this key did before.

        Args:
            declined: the issuer's code, empty for yes.
            asks: the bank wants one more step from the shopper first (`confirm`).
        """
        with self._transaction():
            result = self._known(key, request) or self._new(request, key=key, declined=declined, asks=asks)
            self._answered(send, result)
        return result

    def by_key(self, key: str) -> Payment | Refusal:
        """What became of *key*. Without keys there may be several payments: a charge is shown before a decline."""
        sql = _PAYMENT + " WHERE key = ? ORDER BY status = 'declined', created_at LIMIT 1"
        row = self._db.execute(sql, (key,)).fetchone()
        if row is not None:
            return _payment(row)
        cancelled = self._db.execute("SELECT 1 FROM keys WHERE key = ? AND cancelled_at IS NOT NULL", (key,)).fetchone()
        return Refusal.KEY_CANCELLED if cancelled else Refusal.NOT_FOUND

    def cancel(self, key: str) -> Payment | Refusal:
        """Make *key* unable to charge from now on: `KEY_CANCELLED`, or the payment that was there first."""
        with self._transaction():
            found = self.by_key(key)
            if found is Refusal.NOT_FOUND:
                self._db.execute("INSERT INTO keys (key, fingerprint, cancelled_at) VALUES (?, '', ?)", (key, self._clock.now()))
                return Refusal.KEY_CANCELLED
        return found

    def confirm(self, payment_id: str) -> Payment | Refusal:
        """The shopper did the step at the bank: the payment is charged."""
        with self._transaction():
            taken = "UPDATE payments SET status = 'succeeded', captured_minor = amount_minor WHERE id = ? AND status = 'requires_action'"
            self._db.execute(taken, (payment_id,))
        return self.payment(payment_id)

    def abandon(self, payment_id: str) -> Payment | Refusal:
        """Cancel a payment that is not charged yet."""
        with self._transaction():
            self._db.execute("UPDATE payments SET status = 'cancelled' WHERE id = ? AND status = 'requires_action'", (payment_id,))
        return self.payment(payment_id)

    def newest(self, *, since: float = 0.0, until: float = 1e12, after: str = "", limit: int = 100) -> list[Payment]:
        """Payments made in [since, until), newest first, from after the one called *after* on."""
        where = " WHERE created_at >= ? AND created_at < ? AND number < coalesce((SELECT number FROM payments WHERE id = ?), 9e15)"
        sql = _PAYMENT + where + " ORDER BY number DESC LIMIT ?"
        return [_payment(row) for row in self._db.execute(sql, (since, until, after, limit))]

    def capture(self, payment_id: str, *, key: str | None, amount_minor: int) -> Movement | Refusal:
        """Take (part of) a reserved amount, once."""
        with self._transaction():
            known = self._known_movement("capture", payment_id, key=key, amount_minor=amount_minor)
            return known or self._capture(payment_id, key=key, amount_minor=amount_minor)

    def refund(self, payment_id: str, *, key: str | None, amount_minor: int) -> Movement | Refusal:
        """Give money back, or release a reservation: never more than there is."""
        with self._transaction():
            known = self._known_movement("refund", payment_id, key=key, amount_minor=amount_minor)
            return known or self._refund(payment_id, key=key, amount_minor=amount_minor)

    def payment(self, payment_id: str) -> Payment | Refusal:
        return self._payment(payment_id) or Refusal.NOT_FOUND

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """The whole ledger, oldest first, for judges."""
        sends = "SELECT number, received_at, key, source, reference, mode, payment_id, result FROM sends ORDER BY number"
        names = ("number", "received_at", "key", "source", "reference", "mode", "payment_id", "result")
        return {
            "payments": [asdict(_payment(row)) for row in self._db.execute(_PAYMENT + " ORDER BY number")],
            "movements": [asdict(Movement(*row)) for row in self._db.execute(_MOVEMENT + " ORDER BY number")],
            "sends": [dict(zip(names, row, strict=True)) for row in self._db.execute(sends)],
        }

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._db:
            yield

    def _known(self, key: str | None, request: Request) -> Entered | Refusal | None:
        if key is None or not self.keyed:
            return None
        row = self._db.execute("SELECT fingerprint, payment_id, cancelled_at FROM keys WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        fingerprint, payment_id, cancelled_at = row
        if cancelled_at is not None:
            return Refusal.KEY_CANCELLED
        payment = self._payment(payment_id)
        if fingerprint != _fingerprint(request) or payment is None:
            return Refusal.KEY_MISMATCH
        return Entered(payment, new=False)

    def _new(self, request: Request, *, key: str | None, declined: str, asks: bool) -> Entered:
        status = "declined" if declined else "requires_action" if asks else "succeeded" if request.capture else "authorised"
        payment = Payment(
            id="pay_" + secrets.token_hex(8),
            key=key,
            amount_minor=request.amount_minor,
            currency=request.currency,
            source=request.source,
            reference=request.reference,
            status=status,
            decline_code=declined,
            captured_minor=request.amount_minor if status == "succeeded" else 0,
            refunded_minor=0,
            created_at=self._clock.now(),
            metadata=dict(request.metadata),
        )
        row = {name: value for name, value in asdict(payment).items() if name != "refunded_minor"}
        row["metadata"] = json.dumps(row["metadata"])
        text = f"INSERT INTO payments ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - our own names
        self._db.execute(text, tuple(row.values()))
        if key is not None and self.keyed:
            keys = "INSERT INTO keys (key, fingerprint, payment_id) VALUES (?, ?, ?)"
            self._db.execute(keys, (key, _fingerprint(request), payment.id))
        return Entered(payment, new=True)

    def _answered(self, send: int, result: Entered | Refusal) -> None:
        if isinstance(result, Refusal):
            values: tuple[str | None, str] = (None, "refused")
        elif not result.new:
            values = (result.payment.id, "replayed")
        else:
            values = (result.payment.id, "declined" if result.payment.status == "declined" else "charged")
        self._db.execute("UPDATE sends SET payment_id = ?, result = ? WHERE number = ?", (*values, send))

    def _payment(self, payment_id: str) -> Payment | None:
        row = self._db.execute(_PAYMENT + " WHERE id = ?", (payment_id,)).fetchone()
        return None if row is None else _payment(row)

    def _known_movement(self, kind: str, payment_id: str, *, key: str | None, amount_minor: int) -> Movement | Refusal | None:
        if key is None or not self.keyed:
            return None
        row = self._db.execute(_MOVEMENT + " WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        known = Movement(*row)
        same = (known.kind, known.payment_id, known.amount_minor) == (kind, payment_id, amount_minor)
        return known if same else Refusal.KEY_MISMATCH

    def _capture(self, payment_id: str, *, key: str | None, amount_minor: int) -> Movement | Refusal:
        payment = self._payment(payment_id)
        if payment is None:
            return Refusal.NOT_FOUND
        if payment.status != "authorised" or amount_minor > payment.amount_minor:
            return Refusal.AMOUNT
        self._db.execute("UPDATE payments SET status = 'succeeded', captured_minor = ? WHERE id = ?", (amount_minor, payment_id))
        return self._move("capture", payment_id, key=key, amount_minor=amount_minor)

    def _refund(self, payment_id: str, *, key: str | None, amount_minor: int) -> Movement | Refusal:
        payment = self._payment(payment_id)
        if payment is None:
            return Refusal.NOT_FOUND
        held = payment.captured_minor or (payment.amount_minor if payment.status == "authorised" else 0)
        if amount_minor > held - payment.refunded_minor:
            return Refusal.AMOUNT
        return self._move("refund", payment_id, key=key, amount_minor=amount_minor)

    def _move(self, kind: str, payment_id: str, *, key: str | None, amount_minor: int) -> Movement:
        kept = key if self.keyed else None
        movement = Movement(f"{kind[:3]}_{secrets.token_hex(8)}", kind, payment_id, kept, amount_minor, self._clock.now())
        sql = "INSERT INTO movements (id, kind, payment_id, key, amount_minor, created_at) VALUES (?, ?, ?, ?, ?, ?)"
        self._db.execute(sql, tuple(asdict(movement).values()))
        return movement


def _payment(row: tuple[Any, ...]) -> Payment:
    *members, metadata = row
    return Payment(**dict(zip(Payment.__slots__, (*members, json.loads(metadata)), strict=True)))


def _fingerprint(request: Request) -> str:
    return hashlib.sha256(json.dumps(asdict(request), sort_keys=True).encode()).hexdigest()
