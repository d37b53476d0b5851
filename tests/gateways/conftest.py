"""One gateway process for all tests of this folder; each test gets it healthy and uses keys of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest


@dataclass(frozen=True)
class GatewayProcess:
    """Where the gateway answers, and a short way to break it."""

    url: str
    control_url: str

    def put(self, **members: Any) -> dict[str, Any]:
        return self.ask("PUT", "/control", members)

    def post(self, path: str, **members: Any) -> dict[str, Any]:
        return self.ask("POST", path, members)

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        return self.ask("GET", "/ledger", None)

    def payments(self, key: str) -> list[dict[str, Any]]:
        return [payment for payment in self.ledger()["payments"] if payment["key"] == key]

    def ask(self, method: str, path: str, members: dict[str, Any] | None) -> dict[str, Any]:
        answer = httpx.request(method, self.control_url + path, json=members, trust_env=False)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def _process(folder: Path, *options: str) -> Iterator[GatewayProcess]:
    command = [sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(folder / "gateway.db"), "--with-parent", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        try:
            yield GatewayProcess(facts["url"], facts["control_url"])
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def _keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    yield from _process(tmp_path_factory.mktemp("keyed"))


@pytest.fixture(scope="session")
def _keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    yield from _process(tmp_path_factory.mktemp("keyless"), "--no-keys")


@pytest.fixture
def gateway_process(_keyed: GatewayProcess) -> Iterator[GatewayProcess]:
    yield from _healthy(_keyed)


@pytest.fixture
def keyless_process(_keyless: GatewayProcess) -> Iterator[GatewayProcess]:
    yield from _healthy(_keyless)


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def _healthy(process: GatewayProcess) -> Iterator[GatewayProcess]:
    yield process
    process.post("/control/release")
    process.put(mode="healthy", slow_seconds=1.5, lookups_too=False)
