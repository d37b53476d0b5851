"""The answer about money that a refused save carried: it reaches the record, or waits in the spool, or is in the log."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from shopworld import Worlds
from spoolworld import SpoolWorld, spool_world

from cxguard.core.money import NoteKind
from cxguard.core.operation import Operation, changed
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.late import note_late_answers

pytestmark = pytest.mark.asyncio


async def paid(world: Worlds, folder: Path) -> tuple[SpoolWorld, Operation]:
    """An order in hand that was paid in its second life; its first one ended, and a refund has no answer yet."""
    made = await spool_world(world, folder)
    assert (await made.press()).status_code == 201
    (order,) = await made.orders()
    (send,) = order.sends
    earlier = replace(send, number=1, key="earlier life", generation=1)
    this = replace(send, number=2, generation=2)
    unanswered = replace(send, number=3, key="no answer", generation=2, outcome=Unknown("no answer in time"))
    return made, changed(order, generation=2, sends=(earlier, this, unanswered))


async def test_what_the_record_lacks_is_noted_there(world: Worlds, tmp_path: Path) -> None:
    """The answer that it has not heard, with who says so."""
    made, order = await paid(world, tmp_path)
    there = await note_late_answers(made.guard.engine, order)
    assert there is not None
    (note,) = there.notes
    told = order.sends[1]
    assert (note.kind, note.source) == (NoteKind.OUTCOME, "late answer")
    assert (note.gateway_key, note.outcome, note.through) == (told.key, told.outcome, told.number)


async def test_while_the_store_is_away_the_answers_of_this_life_wait_in_the_spool(world: Worlds, tmp_path: Path) -> None:
    """What was sent and not answered is no fact, and what an earlier life did is history."""
    made, order = await paid(world, tmp_path)
    made.go_away()
    assert await note_late_answers(made.guard.engine, order) is None
    assert (await made.spool.figures()).facts == 1
    await made.come_back()
    await made.forward()
    (there,) = await made.orders()
    (note,) = there.notes
    assert (note.source, note.gateway_key) == ("late answer", order.sends[1].key)
    assert isinstance(note.outcome, Charged)


async def test_where_the_spool_takes_nothing_either_it_is_in_the_log(
    world: Worlds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has to look at the gateway for it."""
    made, order = await paid(world, tmp_path)
    made.go_away()
    await made.spool.stop()
    with caplog.at_level(logging.ERROR, logger="cxguard.late"):
        assert await note_late_answers(made.guard.engine, order) is None
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.late"]
    assert (line["event"], line["reference"]) == ("fact.not_kept", order.reference)
    assert line["why"].startswith("the spool is closed")
