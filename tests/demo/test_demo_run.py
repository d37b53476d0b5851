"""The conditions of the demo, its processes, and a small crowd through a healthy shop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cxguard.demo import run
from cxguard.demo.crowd.crowd import run_crowd
from cxguard.demo.crowd.plans import Channel, Habit, Plan
from cxguard.demo.crowd.words import Word
from cxguard.demo.judge import Verdict, judge
from cxguard.demo.processes import running

GOOD = Verdict(wanted=100, paid_once=90, charged_twice=0, declined=5, false_declines=0, false_paid=0, lost=0, cancelled_told=5, open=0)


def test_good_run_has_no_failures() -> None:
    """Nothing to complain about is an empty list."""
    assert run.guarded_failures(GOOD) == []


@pytest.mark.parametrize("name", ["charged_twice", "false_declines", "false_paid", "lost", "open"])
def test_one_bad_end_fails_the_guarded_run(name: str) -> None:
    """A single shopper treated badly is one too many, and the failure says which figure."""
    assert run.guarded_failures(replace(GOOD, **{name: 1})) == [f"guarded: {name} is 1, not 0"]


def test_too_few_paid_fails_the_guarded_run() -> None:
    """Sending everybody away is not a way to pass."""
    assert run.guarded_failures(replace(GOOD, paid_once=80)) == []
    assert run.guarded_failures(replace(GOOD, paid_once=79)) == ["guarded: paid_once is 79 of 100, less than 80%"]


@pytest.mark.parametrize(("bad", "passes"), [((4, 3, 3), True), ((10, 0, 0), True), ((3, 3, 3), False), ((0, 0, 0), False)])
def test_unguarded_run_must_have_hurt(bad: tuple[int, int, int], passes: bool) -> None:
    """An outage without victims proves nothing."""
    twice, lies, lost = bad
    verdict = replace(GOOD, charged_twice=twice, false_declines=lies, lost=lost)
    assert (run.unguarded_failures(verdict) == []) is passes


def test_result_is_printed_with_the_promised_keys() -> None:
    """Programs read these names."""
    keys = ["wanted", "paid_once", "charged_twice", "declined", "false_declines", "false_paid", "lost", "cancelled_told", "open"]
    printed = run.DemoResult(GOOD, GOOD).to_json()
    assert list(printed) == ["unguarded", "guarded"]
    assert list(printed["guarded"]) == keys


def plan(number: int, habit: Habit, channel: Channel, source: str = "tok_ok") -> Plan:
    return Plan(
        number=number,
        arrives_at=0.0,
        habit=habit,
        channel=channel,
        source=f"{source}_s{number}",
        product="pilea",
        gap_seconds=0.05,
        patience_seconds=3.0,
        think_seconds=0.05,
        persistence=0,
    )


@pytest.mark.server
@pytest.mark.asyncio
async def test_small_crowd_in_a_healthy_shop(tmp_path: Path) -> None:
    """Without an outage even the unguarded shop serves calm people well: paid once, or declined and told so."""
    habits = (Habit.CALM, Habit.RELOAD, Habit.IMPATIENT, Habit.CANCELS)
    plans = [plan(number, habit, channel) for number, (habit, channel) in enumerate([(h, c) for h in habits for c in Channel])]
    plans.append(plan(90, Habit.CALM, Channel.PAGES, "tok_declined"))
    plans.append(plan(91, Habit.CALM, Channel.API, "tok_expired"))
    async with run.gateway_process(tmp_path) as gateway, run.shop_process(gateway, guarded=False, folder=tmp_path) as shop:
        transcripts = await run_crowd(plans, shop.url, seconds=20.0)
        paid = {order.payment_id for order in run.all_orders(tmp_path / "shop.db")}
        verdict = judge(await run.read_ledger(gateway), transcripts, order_payments=paid)
    assert (verdict.paid_once, verdict.declined, verdict.wanted) == (8, 2, 10)
    assert {transcript.last_word for transcript in transcripts} == {Word.PAID, Word.DECLINED}


@pytest.mark.server
@pytest.mark.asyncio
async def test_closed_tab_leaves_the_charge_with_the_gateway(tmp_path: Path) -> None:
    """Who is gone before the answer is charged for all the same, and heard nothing."""
    async with run.gateway_process(tmp_path) as gateway, run.shop_process(gateway, guarded=False, folder=tmp_path) as shop:
        async with httpx.AsyncClient(base_url=gateway.facts["control_url"], trust_env=False) as control:
            await control.post("/control/hold")
            transcripts = await run_crowd([plan(1, Habit.CLOSED_TAB, Channel.PAGES)], shop.url, seconds=10.0)
            held = (await control.get("/control/held")).json()["held"]
        assert [payment["id"] for payment in (await run.read_ledger(gateway))["payments"]] == held
    assert transcripts[0].told == []


@pytest.mark.server
@pytest.mark.asyncio
async def test_guarded_shop_has_a_desk_behind_a_password_of_its_own(tmp_path: Path) -> None:
    """The desk is closed to visitors and opens with the name and password that the shop's process said when it was ready."""
    async with (
        run.gateway_process(tmp_path) as gateway,
        run.shop_process(gateway, guarded=True, folder=tmp_path) as shop,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        closed = await client.get(shop.facts["desk"])
        opened = await client.get(shop.facts["desk"], auth=(shop.facts["desk_name"], shop.facts["desk_password"]))
    assert (closed.status_code, opened.status_code) == (401, 200)
    assert shop.facts["desk"].startswith(shop.url)


@pytest.mark.server
@pytest.mark.asyncio
async def test_who_read_that_the_order_is_saved_comes_back_to_its_page(tmp_path: Path) -> None:
    """Who closes the tab with a promise in hand looks at it again, and hears how it ended."""
    async with run.gateway_process(tmp_path) as gateway, run.shop_process(gateway, guarded=True, folder=tmp_path) as shop:
        await run.set_control(gateway, {"script": "refuse 2s, healthy"})
        patient = replace(plan(1, Habit.CLOSED_TAB, Channel.PAGES), gap_seconds=1.5)
        transcripts = await run_crowd([patient], shop.url, seconds=60.0)
    assert [told.word for told in transcripts[0].told][:: len(transcripts[0].told) - 1] == [Word.KEPT, Word.PAID]


@pytest.mark.server
@pytest.mark.asyncio
async def test_processes_end_when_the_run_is_cancelled(tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves no process behind."""
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def world() -> None:
        async with running("cxguard.demo.gateway", ["--ledger", str(tmp_path / "g.db")], log=tmp_path / "log") as child:
            started.set_result(child.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(world())
    pid = await started
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
