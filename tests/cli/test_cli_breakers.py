"""`cxguard breakers`: what a person forces from a terminal, running processes go by, and what they know is listed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from shopworld import SHOP

from cxguard.cli import main
from cxguard.engine.breakers import Rejected
from cxguard.guard import Guard

URL = "sqlite:///shop.db"
BREAKER = (URL, "cards:live", "charge")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(_made())


async def _made() -> None:
    async with Guard(URL, shop=SHOP, duties=False):
        pass


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["breakers", *words])
    assert result.exit_code == code, result.output
    return result


def test_nothing_was_told_yet() -> None:
    """An empty list says why it is empty."""
    assert "No process has told" in run("list", URL).output


def test_forced_listed_and_released() -> None:
    """With who, why and until when; then it goes on by itself, and both stay on record."""
    assert "forced open until" in run("force", *BREAKER, "open", "--why", "bank holiday", "--minutes", "90", "--by", "ada").output
    table = run("list", URL).output
    assert all(word in table for word in ("cards:live", "open", "bank holiday", "ada", "forced open"))
    run("release", *BREAKER, "--by", "bob")
    told = json.loads(run("list", URL, "--json").output)
    assert [(each["state"], each["forced"], each["by"]) for each in told["breakers"]] == [("closed", False, "")]
    assert [(each["by"], each["label"], each["reason"]) for each in told["said"]] == [("ada", "open", "bank holiday"), ("bob", "", "")]


def test_a_running_process_goes_by_it() -> None:
    """A guard that is running turns calls away once it has looked, and lets them go when it is released."""

    async def admitted(guard: Guard) -> bool:
        await guard.breakers.look()
        return not isinstance(await guard.engine.breakers.enter("cards:live", "charge"), Rejected)

    async def story() -> list[bool]:
        async with Guard(URL, shop=SHOP, duties=False) as guard:
            seen = [await admitted(guard)]
            for words in (("force", *BREAKER, "open", "--why", "drill"), ("release", *BREAKER)):
                await asyncio.to_thread(run, *words)
                seen.append(await admitted(guard))
            return seen

    assert asyncio.run(story()) == [True, False, True]


@pytest.mark.parametrize(
    "words",
    [("force", *BREAKER, "ajar", "--why", "x"), ("force", *BREAKER, "open"), ("force", *BREAKER, "open", "--why", "x", "--minutes", "0")],
    ids=["half-open", "no reason", "no time"],
)
def test_half_a_word_is_refused(words: tuple[str, ...]) -> None:
    """Exit code 2: the command was written wrongly."""
    run(*words, code=2)


def test_a_blank_reason_is_refused() -> None:
    """Exit code 1, with what to do."""
    assert "give the reason" in run("force", *BREAKER, "open", "--why", "  ", code=1).output
