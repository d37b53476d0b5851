"""The spool on the command line: listed and shown like a store, acted in by nobody, and looked at by the doctor."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from shopworld import KEYS, SECRET

from cxguard.cli import main
from cxguard.clock import SystemClock
from cxguard.config import Secrets
from cxguard.engine.spool import Spool
from cxguard.testing.contract.base import queued

SHOP_OF_AN_EVENING = """
from cxguard import Guard, Shop
guard = Guard(
    "postgresql://me@127.0.0.1:9/shop", shop=Shop("Fern & Co", phone="+44 20 7946 0000"), {spool}
    secret=bytes(range(32)), keys=[bytes(range(1, 33))],
)
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool with one order."""
    path = tmp_path / "spool.db"

    async def fill() -> None:
        made = Spool(path, clock=SystemClock(), namespace="shop", holder="test", items_max=10, bytes_max=2**24)
        await made.start(Secrets(SECRET, tuple(KEYS), "a test"))
        await made.lay(queued("a", amount_minor=4999, currency="EUR"), None, None)  # type: ignore[arg-type]
        await made.stop()

    asyncio.run(fill())
    return path


def cxguard(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_a_spool_is_listed_and_shown(spool: Path) -> None:
    """Like a store, by its own address; of a file that is there."""
    listed = json.loads(cxguard("orders", "list", f"spool:///{spool}", "--json").stdout)["orders"]
    assert [(one["state"], one["amount_minor"]) for one in listed] == [("queued", "4999")]
    assert "there is no store at" in cxguard("orders", "list", f"spool:///{spool}.none", code=1).output


def test_nobody_acts_in_a_spool(spool: Path) -> None:
    """What is cancelled or put back there would not be so in the store."""
    told = cxguard("orders", "cancel", f"spool:///{spool}", "7K3M-9QXA-2TFV", "--why", "x", code=1)
    assert "can be listed and shown, and nothing more" in told.output


def doctor(folder: Path, monkeypatch: pytest.MonkeyPatch, *, spool: str) -> dict[str, Any]:
    """What the doctor says of a shop whose PostgreSQL does not answer."""
    (folder / "evening_shop.py").write_text(SHOP_OF_AN_EVENING.format(spool=spool))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("evening_shop", None)
    found = json.loads(cxguard("doctor", "evening_shop:guard", "--json", code=1).stdout)["examined"]
    return {one["about"]: one for one in found}


def test_the_doctor_looks_at_the_spool_while_the_store_is_away(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is when somebody asks: what waits, and where it lies."""
    told = doctor(tmp_path, monkeypatch, spool=f'spool="{spool}",')
    assert told["store"]["health"] == "fail"
    assert told["spool"]["found"].startswith("1 orders and 0 facts wait")


def test_the_doctor_names_a_shared_store_without_a_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line to write."""
    assert 'Guard(..., spool="/var/lib/shop/spool.db")' in doctor(tmp_path, monkeypatch, spool="")["spool"]["do"]


def test_the_doctor_leaves_a_damaged_spool_where_it_is(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what the next start will do with it, and changes nothing."""
    spool.write_bytes(b"\xff" * 100 + spool.read_bytes()[100:])
    told = doctor(tmp_path, monkeypatch, spool=f'spool="{spool}",')["spool cannot be opened"]
    assert (told["health"], "put aside then" in told["do"]) == ("fail", True)
    assert [one.name for one in sorted(tmp_path.glob("spool.db*")) if "damaged" in one.name] == []
