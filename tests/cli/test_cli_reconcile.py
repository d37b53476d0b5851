"""`cxguard reconcile`: what it prints, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cxguard.cli import main

PROGRAM = """
from cxguard import Charge, Guard, Shop
from cxguard.testing.fake_gateway import FakeGateway, FakePayment, PaymentState

gateway = FakeGateway({settings})
{stray}
guard = Guard("sqlite:///books.db", shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=[gateway], duties=False)
"""
STRAY = 'gateway.payments.append(FakePayment("pay_9", "cxg-lost", Charge(4999, "EUR", source="tok_ok"), PaymentState.CHARGED))'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def program(name: str, *, stray: str = "", settings: str = "settle_seconds=0.0") -> str:
    Path(f"{name}.py").write_text(PROGRAM.format(stray=stray, settings=settings), encoding="utf-8")
    return f"{name}:guard"


def test_a_break_is_printed_and_ends_with_1() -> None:
    """For people, and for programs; the second look finds the case that the first one made."""
    result = CliRunner().invoke(main, ["reconcile", program("stray_books", stray=STRAY), "--json"])
    (look,) = json.loads(result.stdout)["gateways"]
    assert (result.exit_code, look["breaks"][0]["kind"], look["breaks"][0]["payment_id"]) == (1, "no_record", "pay_9")
    shown = CliRunner().invoke(main, ["reconcile", "stray_books:guard", "--since", "7d"])
    assert "fake:test: 1 payments (0 not ours)" in shown.stdout


def test_agreement_ends_with_0() -> None:
    """Nothing to do."""
    result = CliRunner().invoke(main, ["reconcile", program("good_books")])
    assert (result.exit_code, "0 breaks" in result.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--since", "yesterday"), 2, "write for instance 30m, 24h or 7d"),
        (("--gateway", "other:test"), 1, "no gateway 'other:test' with books to read"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], code: int, says: str) -> None:
    """One line, with what to write."""
    result = CliRunner().invoke(main, ["reconcile", program("some_books"), *arguments])
    assert (result.exit_code, says in result.output) == (code, True)
