"""How much of a charge was taken, let go and given back, and which of what was given back did not arrive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cxguard.core.money import GIVING_BACK, MoneyState, Note, Send, SendKind, by_key, captured_of, given_back, told_back


@dataclass(frozen=True, slots=True)
class ChargeFigures:
    """One charge in minor units of *currency*: of what was authorised, what was taken, let go, and given back.

    A capture of less than was reserved leaves the rest reserved until it is released, or the gateway lets it lapse.
    """

    authorised_minor: int
    captured_minor: int
    released_minor: int
    refunded_minor: int
    currency: str

    @property
    def capturable_minor(self) -> int:
        """What is reserved and not yet taken. A refund of more than was taken has released the rest."""
        released_minor = self.released_minor + max(0, self.refunded_minor - self.captured_minor)
        return max(0, self.authorised_minor - self.captured_minor - released_minor)

    @property
    def refundable_minor(self) -> int:
        """What was taken and not yet given back."""
        return max(0, self.captured_minor - self.refunded_minor)


def standing_minor(sends: Sequence[Send], notes: Iterable[Note], key: str) -> int:
    """How much of the charge under *key* has not been given back; 0 when none stands, or its amount was never told."""
    known = by_key(sends, notes)
    charge = next((each for each in known if each.name == key and each.kind is SendKind.CHARGE), None)
    if charge is None or charge.state is not MoneyState.CHARGED:
        return 0
    return max(0, charge.amount - given_back(known).get(key, 0))


def may_be_all_back(sends: Sequence[Send], notes: Iterable[Note], key: str) -> bool:
    """Whether nothing of the charge under *key* may be left: refunds and voids that have no answer ask for all that is."""
    going = [each for each in by_key(sends, notes) if each.of == key and each.kind in GIVING_BACK]
    asked = [each.asked_minor for each in going if each.state is MoneyState.UNKNOWN]
    return bool(asked) and sum(asked) >= standing_minor(sends, notes, key)


def may_all_be_back(sends: Sequence[Send], notes: Iterable[Note], keys: Sequence[str]) -> bool:
    """`may_be_all_back` of every charge that stands (*keys*): then nobody knows whether it is still paid."""
    return bool(keys) and all(may_be_all_back(sends, notes, key) for key in keys)


def figures_of(sends: Sequence[Send], notes: Iterable[Note], key: str) -> ChargeFigures | None:
    """The figures of the charge under *key*; None when none stands, or its amount was never told."""
    known = by_key(sends, notes)
    charge = next((each for each in known if each.name == key and each.kind is SendKind.CHARGE), None)
    if charge is None or charge.charged is None:
        return None
    own = {kind: sum(each.refunded[0] for each in known if each.of == key and each.kind is kind and each.refunded) for kind in GIVING_BACK}
    told = told_back(charge, known) if charge.back else 0  # the gateway's own sum, of whatever went back
    return ChargeFigures(
        authorised_minor=charge.amount,
        captured_minor=captured_of(charge, known),
        released_minor=own[SendKind.VOID],
        refunded_minor=max(own[SendKind.REFUND], told - own[SendKind.VOID]),
        currency=charge.charged[1],
    )


def made_refunds(sends: Sequence[Send], notes: Iterable[Note], key: str) -> tuple[str, ...]:
    """The gateway keys of refunds and voids of the charge under *key* that were made, oldest first."""
    return tuple(each.name for each in by_key(sends, notes) if each.kind in GIVING_BACK and each.of == key and each.refunded is not None)


def failed_refunds(sends: Sequence[Send], notes: Iterable[Note], key: str | None = None) -> frozenset[str]:
    """The gateway keys of refunds and voids (of the charge under *key*) that were told of as failed: made before, or under way."""
    return frozenset(each.name for each in by_key(sends, notes) if each.failed_minor and key in (None, each.of))
