"""What a shopper was told, as values: the judge reads these and the gateway's ledger, and nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Word(StrEnum):
    """What one answer says about the shopper's order and money."""

    PAID = "paid"
    DECLINED = "declined"  # "your card was declined"
    NOT_CHARGED = "not_charged"  # no order, nothing charged, the shopper may come back
    CANCELLED = "cancelled"  # the order ended without a charge, or the money went back
    KEPT = "kept"  # the order is saved, not charged yet
    CHECKING = "checking"  # in hand: do not pay again
    NOTHING = "nothing"  # no answer, or one that says nothing about order or money


ON_ITS_WAY = frozenset({Word.KEPT, Word.CHECKING})
"""More will be said: the shopper follows the order."""

NO_CHARGE = frozenset({Word.DECLINED, Word.NOT_CHARGED, Word.CANCELLED})
"""The end, and no money was taken: a lie if a charge stands."""


@dataclass(frozen=True, slots=True)
class Told:
    """One answer. Times are wall clock: when it was asked for, and when it was heard."""

    asked_at: float
    at: float
    word: Word
    text: str = ""
    reference: str = ""


@dataclass(slots=True)
class Transcript:
    """Everything that one shopper was told, in order. The card's token tells whose payments are hers in the ledger."""

    shopper: int
    source: str
    told: list[Told] = field(default_factory=list)

    @property
    def last_word(self) -> Word | None:
        """How she left: the last answer that said anything; None if there was none."""
        return next((told.word for told in reversed(self.told) if told.word is not Word.NOTHING), None)
