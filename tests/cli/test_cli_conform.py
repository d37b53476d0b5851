"""`cxguard conform` against real shops: the guarded one passes whole, also when it is really killed; the other one fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from frameworks.ground import Gateway
from servers import ROOT, Spawn

from cxguard.cli import main
from cxguard.testing.shop_process import free_port

pytestmark = pytest.mark.server
ANSWER_SECONDS = 0.1  # of the gateway: time to be killed in

Conform = Callable[..., Result]
REQUEST = """\
POST /pay
Content-Type: application/json
Idempotency-Key: {{key}}
x-shopper: ann

{"order": "{{$uuid}}", "amount": 4999, "source": "tok_ok"}
"""


@pytest.fixture
def gateway(spawn: Spawn, tmp_path: Path) -> Iterator[Gateway]:
    started = Gateway.started(spawn, tmp_path)
    started.mode("slow", slow_seconds=ANSWER_SECONDS)
    yield started
    started.client.close()


@pytest.fixture
def conform(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conform:
    """Runs the command against the shop behind *around*, which it starts itself."""
    file = tmp_path / "pay.http"
    file.write_text(REQUEST, "utf-8")
    port = free_port()

    def run(around: str, *options: str) -> Result:
        for name, value in {"GATEWAY": gateway.url, "ORDERS": str(tmp_path / "orders"), "AROUND": around}.items():
            monkeypatch.setenv(f"CONFORM_{name}", value)
        monkeypatch.setenv("CONFORM_STORE", f"sqlite:///{tmp_path}/shop.db")
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        start = f"{sys.executable} -m uvicorn conform_shop:app --port {port}"
        url, effects = f"http://127.0.0.1:{port}", f"{gateway.control_url}/ledger#/payments"
        command = ["conform", url, "--request", str(file), "--effects", effects, "--start", start, *options]
        return CliRunner().invoke(main, command)

    return run


def cases(result: Result) -> dict[str, str]:
    return {one["case"]: one["verdict"] for one in json.loads(result.output)["cases"]}


def test_a_guarded_shop_conforms_through_kills(conform: Conform) -> None:
    """Every case, with three kills in the middle of a request; what the ledger counts is one charge for each key."""
    result = conform("shop", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["conforms"]
    assert set(cases(result).values()) == {"pass"}, result.output
    assert set(cases(result)) == {"first", "replay", "no key", "other payload", "at once", "other keys", "client gone", "killed"}


def test_a_shop_without_a_guard_fails(conform: Conform) -> None:
    """It serves a request without a key, and charges as often as it is asked; the table says why."""
    result = conform("none", "--json")
    assert result.exit_code == 1
    passed = [case for case, verdict in cases(result).items() if verdict == "pass"]
    assert passed == ["first", "other keys"]
    assert "3 effects, not 1" in result.output


def test_a_request_that_does_not_succeed_ends_the_run(conform: Conform, tmp_path: Path) -> None:
    """Nothing else is tried, and the table says what came back."""
    (tmp_path / "pay.http").write_text("POST /nowhere\nIdempotency-Key: {{key}}\n", "utf-8")
    result = conform("none")
    assert result.exit_code == 1
    assert "404 Not Found" in result.output
    assert "the request as it stands has to succeed" in result.output


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["shop.example"], 2, "is no address: write http://host:port"),
        (["http://127.0.0.1:9", "--kill", "true"], 2, "say how it comes back with --start"),
        (["http://127.0.0.1:9", "--start", "echo no such shop; exit 3"], 1, "no such shop"),
        (["http://127.0.0.1:9"], 1, "no answer (ConnectError"),
        (["http://127.0.0.1:9", "--effects", "http://127.0.0.1:9/#/payments"], 1, "effects cannot be counted at"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, options: list[str], code: int, says: str) -> None:
    """In one sentence, with what to do."""
    file = tmp_path / "pay.http"
    file.write_text(REQUEST, "utf-8")
    result = CliRunner().invoke(main, ["conform", *options, "--request", str(file)])
    assert result.exit_code == code
    assert says in " ".join(result.output.split())


def test_a_server_that_runs_already_is_not_taken_for_the_one_to_kill(gateway: Gateway, tmp_path: Path) -> None:
    """Only what --start started is killed."""
    file = tmp_path / "pay.http"
    file.write_text(REQUEST, "utf-8")
    result = CliRunner().invoke(main, ["conform", gateway.url, "--request", str(file), "--start", "true"])
    assert result.exit_code == 1
    assert "stop it, since --start starts the server that is killed" in result.output
