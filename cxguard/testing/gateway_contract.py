"""The contract suite for gateways: what an adapter must do, as tests. Run it on one of your own, against its sandbox:

    class TestMyGateway(GatewayContract):
        cannot = frozenset({Trouble.GARBAGE})          # said aloud: these are skipped, with the reason

        @pytest_asyncio.fixture
        async def sandbox(self):
            return MySandbox()

A sandbox has the gateway, a charge that succeeds, one that the issuer declines, and a way to make trouble. Only outcomes
are judged, never how they were come by. It needs `pytest` and `pytest-asyncio`.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import pytest

from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import OPERATION_MEMBER, Charge, Gateway, ListsPayments

SECONDS = 10.0
SHORT_SECONDS = 1.0  # for calls that hear no answer


class Trouble(StrEnum):
    """What a sandbox is asked to make the next calls meet."""

    NONE = "none"
    REFUSE = "refuse"  # nobody can connect
    ERROR = "error"  # turned away with a server's error, before any work
    SILENCE_BEFORE = "silence_before"  # no answer, and nothing is charged
    SILENCE_AFTER = "silence_after"  # charged, and no answer
    GARBAGE = "garbage"  # charged, and an answer that nobody can read


class Sandbox(Protocol):
    """A gateway that can be broken to order.

    Attributes:
        good, declined: charges of at least 1,000 minor units that succeed, and that the issuer refuses.
    """

    gateway: Gateway
    good: Charge
    declined: Charge

    async def make(self, trouble: Trouble) -> None:
        """From now on every call meets *trouble*."""
        ...


@pytest.mark.asyncio
class GatewayContract:
    """Every promise of `cxguard.gateways.base.Gateway`, each a test. A subclass gives the fixture `sandbox`.

    Attributes:
        cannot: trouble that the sandbox cannot make.
        partial: parts of a reservation can be captured, and parts of a payment refunded.
    """

    cannot: ClassVar[frozenset[Trouble]] = frozenset()
    partial: ClassVar[bool] = True

    @pytest.fixture
    def key(self) -> str:
        return f"cxg-{secrets.token_hex(16)}"

    async def test_it_says_what_it_promises(self, sandbox: Any) -> None:
        """Name with account and mode, lifetimes in seconds, and whether keys are honoured."""
        gateway = sandbox.gateway
        assert isinstance(gateway, Gateway)
        assert gateway.name.count(":") >= 1, "adapter, account and mode, for instance stripe:shop:live"
        assert gateway.key_lifetime_seconds > 0
        assert gateway.settle_seconds >= 0

    async def test_a_charge_is_charged_as_asked(self, sandbox: Any, key: str) -> None:
        """Amount and currency come back as they were asked for, with the gateway's own name of the payment."""
        charged = await charge(sandbox, key)
        assert isinstance(charged, Charged)
        assert (charged.amount_minor, charged.currency, charged.captured) == (sandbox.good.amount_minor, sandbox.good.currency, True)
        assert charged.payment_id, "without it nothing can be given back"

    async def test_a_repeated_key_charges_once(self, sandbox: Any, key: str) -> None:
        """Where keys are honoured, the very same again is the same payment."""
        self.needs_keys(sandbox)
        first = await charge(sandbox, key)
        assert await charge(sandbox, key) == first

    async def test_a_key_never_stands_for_another_amount(self, sandbox: Any, key: str) -> None:
        """The same key for other figures is never told as charged with them, and never as surely not charged."""
        self.needs_keys(sandbox)
        first = await charge(sandbox, key)
        other = replace(sandbox.good, amount_minor=sandbox.good.amount_minor + 100)
        told = await sandbox.gateway.charge(other, key=key, timeout_seconds=SECONDS)
        assert isinstance(told, Unknown)
        assert await find(sandbox, key) == first

    async def test_a_charge_is_found_by_its_key(self, sandbox: Any, key: str) -> None:
        """A look-up tells what the call told."""
        charged = await charge(sandbox, key)
        assert await find(sandbox, key) == charged

    async def test_not_found_is_unknown(self, sandbox: Any, key: str) -> None:
        """A request may still be on its way: what is not there is not "not charged"."""
        assert await find(sandbox, key) == Unknown("not_found")

    async def test_a_decline_is_told_and_found(self, sandbox: Any, key: str) -> None:
        """The issuer's no, and the same when asked later."""
        told = await sandbox.gateway.charge(sandbox.declined, key=key, timeout_seconds=SECONDS)
        assert isinstance(told, Declined)
        assert await find(sandbox, key) == told

    @pytest.mark.parametrize("trouble", [Trouble.SILENCE_AFTER, Trouble.GARBAGE])
    async def test_a_charge_whose_answer_was_lost_is_unknown_and_found(self, sandbox: Any, key: str, trouble: Trouble) -> None:
        """Never "not charged", never "declined"; asked when all is well, the gateway says "charged"."""
        await self.meets(sandbox, trouble)
        assert isinstance(await charge(sandbox, key, seconds=SHORT_SECONDS), Unknown)
        await sandbox.make(Trouble.NONE)
        assert isinstance(await find(sandbox, key), Charged)

    async def test_silence_is_unknown(self, sandbox: Any, key: str) -> None:
        """Nobody knows, whatever became of it."""
        await self.meets(sandbox, Trouble.SILENCE_BEFORE)
        assert isinstance(await charge(sandbox, key, seconds=SHORT_SECONDS), Unknown)

    async def test_a_servers_error_is_not_surely_not_charged(self, sandbox: Any, key: str) -> None:
        """A 500 says nothing about the money, unless the gateway promises otherwise."""
        await self.meets(sandbox, Trouble.ERROR)
        assert isinstance(await charge(sandbox, key), Unknown)

    async def test_a_refused_connection_is_surely_not_charged(self, sandbox: Any, key: str) -> None:
        """Not a byte was sent: it may be tried again, and another gateway may be asked."""
        await self.meets(sandbox, Trouble.REFUSE)
        told = await charge(sandbox, key)
        assert isinstance(told, NotCharged)
        assert told.retryable
        assert told.reroutable

    @pytest.mark.parametrize("trouble", [Trouble.REFUSE, Trouble.ERROR])
    async def test_a_question_that_cannot_be_asked_says_nothing(self, sandbox: Any, key: str, trouble: Trouble) -> None:
        """Neither "not charged" nor "not found" may come from a gateway that is away."""
        await charge(sandbox, key)
        await self.meets(sandbox, trouble)
        for told in (await find(sandbox, key), await sandbox.gateway.cancel(key, timeout_seconds=SECONDS)):
            assert isinstance(told, Unknown)
            assert told.why != "not_found"

    async def test_cancelling_does_not_hide_a_charge(self, sandbox: Any, key: str) -> None:
        """What was charged before is told as charged."""
        charged = await charge(sandbox, key)
        told = await sandbox.gateway.cancel(key, timeout_seconds=SECONDS)
        assert told == charged or (isinstance(told, Unknown) and told.why != "not_found" and not sandbox.gateway.keyed)

    async def test_a_cancelled_key_charges_no_more(self, sandbox: Any, key: str) -> None:
        """If the gateway says that nothing can come under a key, then nothing does."""
        told = await sandbox.gateway.cancel(key, timeout_seconds=SECONDS)
        assert isinstance(told, NotCharged | Unknown)
        if isinstance(told, NotCharged):
            assert not isinstance(await charge(sandbox, key), Charged)

    async def test_a_reservation_is_captured_once(self, sandbox: Any, key: str) -> None:
        """Reserved, then taken under a key of its own; the same capture again takes nothing more."""
        reserved = await charge(sandbox, key, capture=False)
        assert isinstance(reserved, Charged)
        assert not reserved.captured
        amount_minor = sandbox.good.amount_minor // 2 if self.partial else sandbox.good.amount_minor
        taken = await capture(sandbox, reserved, f"{key}-c", amount_minor)
        assert isinstance(taken, Charged)
        assert taken.amount_minor == amount_minor
        if sandbox.gateway.keyed:
            assert await capture(sandbox, reserved, f"{key}-c", amount_minor) == taken

    async def test_more_than_reserved_is_refused(self, sandbox: Any, key: str) -> None:
        """Nothing is taken, and it says so."""
        reserved = await charge(sandbox, key, capture=False)
        assert isinstance(await capture(sandbox, reserved, f"{key}-c", sandbox.good.amount_minor + 1), NotCharged)

    async def test_a_reservation_is_released(self, sandbox: Any, key: str) -> None:
        """What was only reserved goes back by `refund`, too, and cannot be taken any more."""
        reserved = await charge(sandbox, key, capture=False)
        assert isinstance(await refund(sandbox, reserved, f"{key}-v", sandbox.good.amount_minor), Refunded)
        assert not isinstance(await capture(sandbox, reserved, f"{key}-c", sandbox.good.amount_minor), Charged)

    async def test_a_refund_is_made_once(self, sandbox: Any, key: str) -> None:
        """The same refund again gives back nothing more; all of it back, and the charge is told as refunded."""
        charged = await charge(sandbox, key)
        back = await refund(sandbox, charged, f"{key}-r", sandbox.good.amount_minor)
        assert isinstance(back, Refunded)
        assert back.amount_minor == sandbox.good.amount_minor
        if sandbox.gateway.keyed:
            assert await refund(sandbox, charged, f"{key}-r", sandbox.good.amount_minor) == back
        assert isinstance(await find(sandbox, key), Refunded)

    async def test_more_than_was_taken_is_not_given_back(self, sandbox: Any, key: str) -> None:
        """In one piece, and in parts."""
        charged = await charge(sandbox, key)
        assert isinstance(await refund(sandbox, charged, f"{key}-r", sandbox.good.amount_minor + 1), NotCharged)
        if self.partial:
            assert isinstance(await refund(sandbox, charged, f"{key}-a", 100), Refunded)
            assert isinstance(await refund(sandbox, charged, f"{key}-b", sandbox.good.amount_minor), NotCharged)
            assert isinstance(await find(sandbox, key), Charged), "a part of it still stands"

    async def test_our_names_come_back_with_its_books(self, sandbox: Any, key: str) -> None:
        """A gateway that shows its books says which key and which operation each payment belongs to."""
        named = replace(sandbox.good, metadata={**sandbox.good.metadata, OPERATION_MEMBER: "op-1"})
        charged = await sandbox.gateway.charge(named, key=key, timeout_seconds=SECONDS)
        books = sandbox.gateway
        if not isinstance(books, ListsPayments):
            pytest.skip("this gateway does not show its books")
        listed = [each async for each in books.list_payments(since=0.0, until=4e9)]
        (mine,) = [each for each in listed if each.gateway_key == key]
        assert (mine.outcome, mine.operation_id, mine.refunded_minor) == (charged, "op-1", 0)

    def needs_keys(self, sandbox: Any) -> None:
        if not sandbox.gateway.keyed:
            pytest.skip("this gateway honours no keys")

    async def meets(self, sandbox: Any, trouble: Trouble) -> None:
        if trouble in self.cannot:
            pytest.skip(f"this sandbox cannot make {trouble}")
        await sandbox.make(trouble)


async def charge(sandbox: Any, key: str, *, capture: bool = True, seconds: float = SECONDS) -> Outcome:
    outcome: Outcome = await sandbox.gateway.charge(replace(sandbox.good, capture=capture), key=key, timeout_seconds=seconds)
    assert isinstance(outcome, Charged | Declined | NotCharged | NeedsShopper | Unknown | Refunded)
    return outcome


async def find(sandbox: Any, key: str) -> Outcome:
    outcome: Outcome = await sandbox.gateway.find(key, timeout_seconds=SECONDS)
    return outcome


async def capture(sandbox: Any, charged: Any, key: str, amount_minor: int) -> Outcome:
    currency = sandbox.good.currency
    outcome: Outcome = await sandbox.gateway.capture(
        charged.payment_id, key=key, amount_minor=amount_minor, currency=currency, timeout_seconds=SECONDS
    )
    return outcome


async def refund(sandbox: Any, charged: Any, key: str, amount_minor: int) -> Outcome:
    currency = sandbox.good.currency
    outcome: Outcome = await sandbox.gateway.refund(
        charged.payment_id, key=key, amount_minor=amount_minor, currency=currency, timeout_seconds=SECONDS
    )
    return outcome
