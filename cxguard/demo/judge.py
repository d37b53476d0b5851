"""The judge. Believes the gateway's ledger, the shop's order book and what shoppers wrote down; asks cxguard nothing.

Every shopper wanted exactly one order, paid with a card of her own, and ends in exactly one of these:

    charged_twice    two or more charges stand on her card.
    paid_once        one charge stands, and an order in the shop's books belongs to it. Also if she was told otherwise:
                     the lie is counted beside, in false_declines.
    lost             it ended nowhere, and nobody is working on it: one charge stands and no order belongs to it; or
                     nothing is charged and she was told that it is paid; or nothing is charged, her bank refused nothing,
                     and she was told "declined", or nothing at all.
    declined         nothing stands, and her bank did refuse it.
    cancelled_told   nothing stands, and her last word says truly that the order ended or was not taken.
    open             nothing stands or no order belongs to the charge yet, and her last word says that it is in hand.

    wanted = paid_once + charged_twice + declined + cancelled_told + lost + open

Beside these, by shopper:

    false_declines   was told at least once that nothing was charged, though a charge stood or its request had reached the
                     gateway before she heard it. "Saved, not charged yet" only counts as a lie about charges made before
                     she asked: it is no lie that the charge follows.
    false_paid       was told at least once that it is paid, though nothing was charged by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cxguard.demo.crowd.words import NO_CHARGE, ON_ITS_WAY, Told, Transcript, Word

_TAKEN = frozenset({"succeeded", "authorised", "refunded"})


class End(StrEnum):
    """How a shopper's order ended."""

    PAID_ONCE = "paid_once"
    CHARGED_TWICE = "charged_twice"
    DECLINED = "declined"
    CANCELLED_TOLD = "cancelled_told"
    LOST = "lost"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a whole crowd, in shoppers."""

    wanted: int
    paid_once: int
    charged_twice: int
    declined: int
    false_declines: int
    false_paid: int
    lost: int
    cancelled_told: int
    open: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Case:
    """What came of one shopper, for whoever wants to know why."""

    shopper: int
    end: End
    false_decline: bool
    false_paid: bool


@dataclass(frozen=True, slots=True)
class _Charge:
    """Money that was taken from a card: when the request for it arrived, when it was taken, when all of it went back."""

    payment_id: str
    received_at: float
    taken_at: float
    returned_at: float | None

    def stood_at(self, at: float) -> bool:
        return self.returned_at is None or at < self.returned_at


def judge(
    ledger: Mapping[str, Sequence[Mapping[str, Any]]], transcripts: Iterable[Transcript], *, order_payments: Collection[str]
) -> Verdict:
    """Count the ends of all shoppers.

    Args:
        ledger: the gateway's `GET /ledger`.
        order_payments: payment ids of the orders in the shop's books.
    """
    return count(cases(ledger, transcripts, order_payments=order_payments))


def cases(
    ledger: Mapping[str, Sequence[Mapping[str, Any]]], transcripts: Iterable[Transcript], *, order_payments: Collection[str]
) -> list[Case]:
    """What came of each shopper."""
    charges, refused = _by_card(ledger)
    ordered = frozenset(order_payments)
    return [_case(transcript, charges.get(transcript.source, []), transcript.source in refused, ordered) for transcript in transcripts]


def count(found: Sequence[Case]) -> Verdict:
    """The cases as numbers. Every shopper is in exactly one end."""
    ends = Counter(case.end for case in found)
    lies = {"false_declines": sum(case.false_decline for case in found), "false_paid": sum(case.false_paid for case in found)}
    return Verdict(wanted=len(found), **lies, **{end.value: ends[end] for end in End})


def _by_card(ledger: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[dict[str, list[_Charge]], set[str]]:
    received = {send["payment_id"]: send["received_at"] for send in ledger["sends"] if send["result"] == "charged"}
    returned = {move["payment_id"]: move["created_at"] for move in ledger["movements"] if move["kind"] == "refund"}
    charges: dict[str, list[_Charge]] = {}
    refused = set()
    for payment in ledger["payments"]:
        if payment["status"] == "declined":
            refused.add(payment["source"])
        if payment["status"] in _TAKEN:
            back = returned.get(payment["id"]) if payment["status"] == "refunded" else None
            taken_at = payment["created_at"]
            charge = _Charge(payment["id"], received.get(payment["id"], taken_at), taken_at, back)
            charges.setdefault(payment["source"], []).append(charge)
    return charges, refused


def _case(transcript: Transcript, charges: Sequence[_Charge], refused: bool, ordered: frozenset[str]) -> Case:
    standing = [charge for charge in charges if charge.returned_at is None]
    return Case(
        shopper=transcript.shopper,
        end=_end(transcript.last_word, standing, refused=refused, ordered=ordered),
        false_decline=any(_denies(told, charge) for told in transcript.told for charge in charges),
        false_paid=any(told.word is Word.PAID and not _paid_by(told, charges) for told in transcript.told),
    )


def _end(last: Word | None, standing: Sequence[_Charge], *, refused: bool, ordered: frozenset[str]) -> End:
    if len(standing) > 1:
        return End.CHARGED_TWICE
    if standing and standing[0].payment_id in ordered:
        return End.PAID_ONCE
    if last in ON_ITS_WAY:
        return End.OPEN
    if standing or last is Word.PAID:
        return End.LOST
    if last in (Word.CANCELLED, Word.NOT_CHARGED):
        return End.CANCELLED_TOLD
    return End.DECLINED if refused else End.LOST


def _denies(told: Told, charge: _Charge) -> bool:
    """Whether *told* says that there is no such charge, though there is."""
    if told.word in NO_CHARGE:
        return charge.received_at <= told.at and charge.stood_at(told.at)
    if told.word is Word.KEPT:
        return charge.taken_at < told.asked_at and charge.stood_at(told.at)
    return False


def _paid_by(told: Told, charges: Sequence[_Charge]) -> bool:
    return any(charge.taken_at <= told.at for charge in charges)
