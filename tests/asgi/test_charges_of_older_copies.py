"""An order was charged and paid back, the store lost that, and a late webhook says "charged": nobody is told so unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from copyworld import fail_over, page_of, record, told_by
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import Response

from cxguard.core.breaker import Label
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Refunded, Unknown
from cxguard.engine.handle import current_operation
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio

SILENCE = Unknown("no answer in time")


async def charged_in_silence(world: Worlds) -> tuple[World, Operation, str]:
    """A shop whose only order is unknown, though it is charged; the record, and the page of that order."""
    made = await world(charging_handler, rule(), faulty=True, gateway=FakeGateway(Does.CHARGE_THEN_UNKNOWN))
    await made.guard.engine.epochs.lost_since()
    made.gateway.will_say("find", [SILENCE])
    await made.pay()
    made.clock.advance(5.0)
    page = await page_of(made)
    assert await told_by(made, page) == ("unknown", "unknown")
    return made, await record(made), page


async def given_back(world: Worlds) -> tuple[World, str]:
    """The same shop, when the order was cancelled and paid back, that was lost, and the webhook of the charge has come."""
    made, copy, page = await charged_in_silence(world)
    await made.client.post(f"{page}/cancel")
    await made.rest()
    assert not made.gateway.standing
    await fail_over(made, copy)
    await hear_webhook(made, copy)
    return made, page


async def hear_webhook(made: World, copy: Operation) -> None:
    await made.guard.note(Charged(1000, "EUR", "pay_1"), gateway_key=copy.sends[0].key, event_id="evt")


async def test_the_page_does_not_say_paid_on_a_webhooks_word_alone(world: Worlds) -> None:
    """Until the queue has asked what stands now. Found by a hunt, as seeds 5112815 and 5113621."""
    made, page = await given_back(world)
    assert await told_by(made, page) == ("unknown", "unknown")
    await made.rest()
    assert await told_by(made, page) == ("refunded", "not_charged")


async def test_a_press_does_not_either(world: Worlds) -> None:
    """Who sends the same again hears what the page says."""
    made, _ = await given_back(world)
    assert (await made.pay()).json()["money"] == "unknown"


async def test_while_the_gateway_is_silent_it_stays_unknown(world: Worlds) -> None:
    """The order is with a person then, and is asked about again."""
    made, page = await given_back(world)
    made.gateway.will_say("find", [SILENCE])
    await made.rest()
    assert (await told_by(made, page))[1] == "unknown"
    made.clock.advance(600.0)
    await made.rest()
    assert await told_by(made, page) == ("refunded", "not_charged")


async def test_a_charge_that_stands_is_told_as_soon_as_the_gateway_has_said_so(world: Worlds) -> None:
    """It was not given back: the webhook was right."""
    made, copy, page = await charged_in_silence(world)
    await fail_over(made, copy)
    await hear_webhook(made, copy)
    assert await told_by(made, page) == ("unknown", "unknown")
    await made.rest()
    assert await told_by(made, page) == ("paid_unfinished", "charged")


async def test_without_a_failover_a_webhook_is_believed_at_once(world: Worlds) -> None:
    """The record is no copy of anything."""
    made, copy, page = await charged_in_silence(world)
    await hear_webhook(made, copy)
    assert await told_by(made, page) == ("paid_unfinished", "charged")


async def copy_of_a_charge_that_was_answered(world: Worlds) -> tuple[World, str]:
    """A shop whose only order is paid; the store has it as it was while the goods were taken from the stock."""

    async def handler(request: Request) -> Response:
        answer = await charging_handler(request)
        await current_operation().step("take goods", take_goods)
        return answer

    async def take_goods() -> None:
        copies.append(await record(made))

    copies: list[Operation] = []
    made = await world(handler, rule(), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay()).status_code == 201
    await fail_over(made, replace(copies[0], due_at=made.clock.now()))  # its lease lapses
    return made, await page_of(made)


async def test_a_charge_that_nobody_confirms_goes_to_a_person_and_is_asked_about_again(world: Worlds) -> None:
    """The gateway is silent when the order is taken up. Later it says that all went back."""
    made, page = await copy_of_a_charge_that_was_answered(world)
    made.gateway.will_say("find", [SILENCE])
    await made.rest()
    assert await told_by(made, page) == ("paid_unfinished", "charged")
    made.gateway.will_say("find", [Refunded(1000, "EUR")])
    made.clock.advance(600.0)
    await made.rest()
    assert await told_by(made, page) == ("refunded", "not_charged")


async def test_a_charge_that_our_own_breaker_kept_from_being_asked_about_is_asked_about_later(world: Worlds) -> None:
    """That nobody was asked is no word that it stands."""
    made, page = await copy_of_a_charge_that_was_answered(world)
    made.guard.engine.breakers.force("fake:test", "find", Label.OPEN, reason="maintenance", seconds=30.0)
    await made.rest(rounds=1)
    made.gateway.will_say("find", [Refunded(1000, "EUR")])
    made.clock.advance(600.0)
    await made.rest()
    assert await told_by(made, page) == ("refunded", "not_charged")


async def test_while_our_own_breaker_lets_nobody_be_asked_the_queue_looks_once_a_minute(world: Worlds) -> None:
    """Not all the time: each look is a write, and such orders come by the hundred."""
    made, _ = await copy_of_a_charge_that_was_answered(world)
    made.guard.engine.breakers.force("fake:test", "find", Label.OPEN, reason="maintenance", seconds=3_600.0)
    turns = 0
    for _ in range(300):
        turns += (await made.guard.queue().run_once()).taken
        made.clock.advance(1.0)
    assert 3 <= turns <= 6


async def test_a_charge_that_the_gateway_has_confirmed_is_not_asked_about_again(world: Worlds) -> None:
    """It stands: the rest is the person's."""
    made, page = await copy_of_a_charge_that_was_answered(world)
    await made.rest()
    assert await told_by(made, page) == ("paid_unfinished", "charged")
    assert ((await record(made)).why, (await record(made)).due_at, made.gateway.count("find")) == ("order_missing", None, 1)
