"""The report: what the errors cost, from counters alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cxguard.core.message import Message
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Fact, Reached, Stage
from cxguard.engine.recorder import Recorder
from cxguard.engine.report import COSTS, NOT_YET, build_report, report_rows, report_to_json, would_have
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import FaultyStore

BASKET = Basket(5000, "EUR", 1)


def _error(session: str, *, key: str) -> Exposed:
    message = Message(key=key, version=1)
    return Exposed(id=session, session=session, stage=Stage.PAY, at=2.0, message=message, cause=Cause.OUR_OUTAGE, by=By.OURS, status=503)


async def _store(facts: list[Fact], **counts: int) -> FaultyStore:
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    recorder = Recorder(store, clock, namespace="shop", buffer_max=len(facts) + 1)
    for fact in facts:
        recorder.put(fact)
    for name, amount in counts.items():
        recorder.count(f"would.{name.replace('__', '.')}", amount)
    await recorder.stop()
    return store


def _known_case() -> list[Fact]:
    """1,000 unexposed sessions of which 510 bought, 42 that met an outage, 3 that met a rare error."""
    facts: list[Fact] = [Reached(f"u{number}", Stage.PAY, 1.0, basket=BASKET) for number in range(1000)]
    facts += [Bought(f"u{number}", 3.0) for number in range(510)]
    facts += [Reached(f"e{number}", Stage.PAY, 1.0, basket=BASKET) for number in range(42)]
    facts += [_error(f"e{number}", key="outage") for number in range(42)]
    facts += [_error(f"r{number}", key="rare") for number in range(3)]
    return facts


@pytest.mark.asyncio
async def test_known_case_is_reported_with_money() -> None:
    """42 of 42 lost at a stage where 51 % buy: 21.42 expected, 15 to 28 lost, and half of their baskets' money."""
    report = await build_report(await _store(_known_case()), namespace="shop")
    line = report.lines[0]
    assert (line.message, line.verdict, line.shown, line.control.sessions) == ("outage@1", COSTS, 42, 1000)
    assert (round(line.impact.expected, 2), line.impact.low, line.impact.high) == (21.42, 15, 28)
    assert line.money["EUR"].lost_minor == 107_096


@pytest.mark.asyncio
async def test_rare_error_cannot_be_told_yet() -> None:
    """Three sessions are too few: the line is there, last, and says so instead of a sum."""
    report = await build_report(await _store(_known_case()), namespace="shop")
    row = report_rows(report)[-1]
    assert (row["message"], row["verdict"], row["lost"], row["money lost"]) == ("rare@1", NOT_YET, "-", "-")


@pytest.mark.asyncio
async def test_stage_line_counts_each_session_once() -> None:
    """All errors of a stage together: 45 exposed of 1,045 that reached it."""
    report = await build_report(await _store(_known_case()), namespace="shop")
    (line,) = report.stages
    assert (line.stage, line.reached.sessions, line.unexposed.sessions) == (Stage.PAY, 1045, 1000)
    assert line.errors is not None
    assert line.errors.impact.exposed == 45


@pytest.mark.asyncio
async def test_report_never_looks_at_sessions() -> None:
    """However many sessions there are, the report makes the same five small reads."""
    store = await _store(_known_case())
    store.calls.clear()
    await build_report(store, namespace="shop")
    assert store.calls == {"counters": 3, "tally": 1, "clock": 1}


@pytest.mark.asyncio
async def test_row_is_ready_to_print() -> None:
    """A row has short texts for every column."""
    report = await build_report(await _store(_known_case()), namespace="shop")
    assert report_rows(report)[0] == {
        "stage": "pay",
        "message": "outage@1",
        "cause": "our outage",
        "exposed": "42",
        "bought": "0",
        "expected": "21.4",
        "lost": "21.4",
        "range": "15-28",
        "money lost": "1070.96 EUR",
        "verdict": COSTS,
    }


@pytest.mark.asyncio
async def test_report_is_json() -> None:
    """The report can be dumped, with money as texts."""
    value = json.loads(json.dumps(report_to_json(await build_report(await _store(_known_case()), namespace="shop"))))
    assert value["errors"][0]["money"] == {"EUR": {"lost_minor": "107096", "low_minor": "75000", "high_minor": "140000"}}
    assert value["stages"][0]["errors"]["exposed"] == 45
    assert (value["errors"][0]["lost"], value["dropped"]) == (21.42, 0)


@pytest.mark.asyncio
async def test_empty_store_gives_an_empty_report() -> None:
    """Nothing seen, nothing said."""
    report = await build_report(await _store([]), namespace="shop")
    assert (report.stages, report.lines, report.dropped, report_rows(report)) == ((), (), 0, [])
    assert report_to_json(report)["errors"] == []


@pytest.mark.asyncio
async def test_other_namespaces_are_not_in_the_report() -> None:
    """Two shops on one store see their own sessions only."""
    report = await build_report(await _store(_known_case()), namespace="shop2")
    assert report.stages == ()


@pytest.mark.asyncio
async def test_counters_that_disagree_do_not_break_the_report() -> None:
    """A store that lost its tail may say that more bought than came: the report still comes."""
    clock = ManualClock()
    recorder = Recorder(store := MemoryStore(clock=clock), clock, namespace="shop")
    recorder.count("sessions/reached/pay/sessions", 3)
    recorder.count("sessions/exposed/pay/sessions", 1)
    recorder.count("sessions/exposed/pay/bought", 2)
    recorder.count("sessions/unexposed/pay/bought", -1)
    await recorder.flush_once()
    report = await build_report(store, namespace="shop")
    assert report.stages[0].errors is not None
    assert report.stages[0].errors.impact.observed == 1


@pytest.mark.asyncio
async def test_watch_mode_is_read_from_its_counters() -> None:
    """What would have been done comes back by name, sorted, without the prefix."""
    store = await _store([], readings__failed=2, duplicates=3)
    assert await would_have(store, namespace="shop") == {"duplicates": 3, "readings.failed": 2}


@pytest.mark.asyncio
async def test_json_of_a_line_has_every_figure_under_its_name() -> None:
    """Other programs read it by these names."""
    report = await build_report(await _store([*_known_case(), Bought("e0", 3.0)]), namespace="shop")
    value = report_to_json(replace(report, operations={("finished", "charged"): 2}, spooled={"spool.saved": 1}))
    assert value["operations"] == [{"state": "finished", "money": "charged", "count": 2}]
    assert value["spooled"] == {"spool.saved": 1}
    line, shown = value["errors"][0], report.lines[0]
    assert set(line) == {
        *("stage", "message", "cause", "by", "shown", "after_purchase", "control", "exposed", "bought", "expected"),
        *("lost", "lost_low", "lost_high", "evidence", "told", "verdict", "money"),
    }
    found = shown.impact
    assert (line["shown"], line["exposed"], line["bought"]) == (42, 42, 1)
    assert (line["lost_low"], line["lost_high"], line["evidence"]) == (found.low, found.high, found.evidence)
