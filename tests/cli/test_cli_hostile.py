"""What a hostile client wrote into an order moves no cursor of whoever reads it in a terminal."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from deskworld import KEY, SECRET, DeskWorld
from shopworld import SHOP

from cxguard.cli import main
from cxguard.clock import SystemClock
from cxguard.core.operation import Entry, Operation, State
from cxguard.core.outcomes import Unknown
from cxguard.core.reading import HandlerAnswer
from cxguard.engine.cold import seal_answer
from cxguard.guard import Guard
from cxguard.stores.base import Seen
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

EVIL = "a\x1b]0;pwned\x07\x1b[2J\x9b31mb\u202egnp\u2028c\nOrder X: finished, money charged\x7f"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A store with an order whose every field holds codes that a terminal obeys, and its reference."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXGUARD_SECRET", SECRET.hex())
    monkeypatch.setenv("CXGUARD_KEYS", KEY.hex())
    return "sqlite:///shop.db", asyncio.run(_filled("sqlite:///shop.db")).reference


async def _filled(url: str) -> Operation:
    gateway = FakeGateway()
    guard = Guard(url, shop=SHOP, gateways=[gateway], secret=SECRET, keys=[KEY], duties=False)
    async with guard:
        world = DeskWorld(guard, ManualClock(SystemClock().now()), gateway)
        history = (Entry(world.clock.now(), EVIL, EVIL, {"why": EVIL}),)
        line = world.send("k", Unknown(EVIL), gateway=EVIL)
        other = await world.put("other")
        answer = seal_answer(guard.engine.seal, replace(other, id=world.id_of("k")), HandlerAnswer(200, body=EVIL.encode()))
        order = await world.put("k", State.HELD, line, contact=EVIL, history=history, why=EVIL, session=EVIL, answer=answer)
        await guard.store.seize(Seen(order.id, order.revision), holder=f"desk:{EVIL}", attempt="a", lease_seconds=600)
        return order


@pytest.mark.parametrize("command", [("list",), ("show",), ("show", "--reveal")])
@pytest.mark.parametrize("kind", [(), ("--json",)])
def test_nothing_that_a_terminal_obeys_is_printed(shop: tuple[str, str], command: tuple[str, ...], kind: tuple[str, ...]) -> None:
    """As a table, in lines, and as JSON, which still says what was there."""
    url, reference = shop
    named = (command[0], url, *((reference,) if command[0] == "show" else ()), *command[1:], *kind)
    result = CliRunner().invoke(main, ["orders", *named])
    assert result.exit_code == 0, result.output
    assert "pwned" in result.output
    assert not [char for char in result.output if not char.isprintable() and char != "\n"]
    if kind:
        assert EVIL in str(json.loads(result.output)) or json.dumps(EVIL)[1:-1] in json.dumps(json.loads(result.output))
    else:
        assert not [line for line in result.output.splitlines() if line.startswith("Order X")]
