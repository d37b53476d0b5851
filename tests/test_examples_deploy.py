"""What is given to copy for a deployment works as far as it can be tried here."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import psycopg
import pytest
import yaml
from example_ground import EXAMPLES
from postgres_server import PostgresServer, running_postgres
from servers import ROOT, Spawn

from cxguard.cli import main as cxguard_command
from cxguard.stores.postgres import PostgresStore

DEPLOY = EXAMPLES / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def commands() -> Iterator[list[str]]:
    """Every command that is started by the compose file or by a unit, as words."""
    for service in COMPOSE["services"].values():
        if "command" in service:
            yield shlex.split(service["command"])
    for unit in UNITS:
        (started,) = re.findall(r"^ExecStart=(.*)$", unit.read_text("utf-8"), re.MULTILINE)
        yield shlex.split(started)


def names_in(text: str) -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))


def test_deploy_starts_only_commands_that_there_are() -> None:
    """Each program is one that is installed, with a subcommand that exists and the factory that the app has."""
    for program, *words in commands():
        assert Path(program).name in ("cxguard", "uvicorn")
        assert (Path(sys.executable).parent / Path(program).name).exists()
        if Path(program).name == "cxguard":
            assert words[0] in cxguard_command.list_commands(click.Context(cxguard_command))
        if "--factory" in words:
            assert words[words.index("--factory") + 1] == "app:make_app"


def test_deploy_example_names_each_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the app and the compose file read from the environment has a line in the example of it."""
    example = names_in((DEPLOY / "shop.env.example").read_text("utf-8"))
    read = set(re.findall(r'os\.environ\["(\w+)"\]', (DEPLOY / "app.py").read_text("utf-8")))
    assert read | {"CXGUARD_SECRET", "CXGUARD_KEYS", "PGPASSWORD"} == example


def test_deploy_keeps_the_owners_password_from_the_shop() -> None:
    """Two roles with one password would be one: only the database and the migration are given the owner's."""
    services, of_owner = COMPOSE["services"], "${OWNER_PASSWORD:?"
    given = {name: [value for value in service.get("environment", {}).values() if of_owner in value] for name, service in services.items()}
    assert {name for name, found in given.items() if found} == {"migrate", "store"}


def test_deploy_compose_file_has_what_it_mounts() -> None:
    """Every service is built from, or is given, files that are there; whoever needs the schema waits for it."""
    services: dict[str, Any] = COMPOSE["services"]
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
    mounted = [volume.split(":")[0] for volume in services["store"]["volumes"] if volume.startswith("./")]
    assert mounted
    assert all((ROOT / name).exists() for name in mounted)
    assert all("migrate" in services[name]["depends_on"] for name in ("app", "worker"))


def test_deploy_image_holds_no_file_with_secrets() -> None:
    """Both files lie in the folder that it is built from; what it copies is enough to install from."""
    copied = re.findall(r"^COPY (.+) (/\S+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = [name for sources, target in copied if target.startswith("/opt/cxguard") for name in sources.split()]
    assert "." not in names and all((ROOT / name).exists() for name in names)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    needed = {"pyproject.toml", *re.findall(r'^(?:readme|license-files) = \[?"([^"]+)"', project, re.MULTILINE)}
    assert needed | {"cxguard"} == set(names)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_deploy_units_are_read_by_systemd(unit: Path, tmp_path: Path) -> None:
    """systemd itself finds nothing to say about a unit whose program and user are there."""
    text = unit.read_text("utf-8").replace("/opt/shop/.venv/bin", str(Path(sys.executable).parent)).replace("User=shop", "User=daemon")
    copy = tmp_path / unit.name
    copy.write_text(text, "utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    said = [line for line in verified.stderr.splitlines() if unit.name in line or str(copy) in line]
    assert (verified.returncode, said) == (0, [])


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


def make_roles(server: PostgresServer, folder: Path) -> tuple[str, str]:
    """Run the script, with another name for the shop's role, and migrate. The addresses of the owner and of that role."""
    owner = server.url.replace("shop@", "owner@")
    psql = str(server.binaries / "psql")
    subprocess.run([psql, "-q", server.url, "-c", "CREATE ROLE owner LOGIN SUPERUSER"], check=True)
    roles = (DEPLOY / "roles.sql").read_text("utf-8").replace("CREATE ROLE shop", "CREATE ROLE seller").replace("TO shop", "TO seller")
    (folder / "roles.sql").write_text(roles, "utf-8")
    subprocess.run([psql, "-q", owner, "--set=ON_ERROR_STOP=1", "--set=password=secret", "-f", str(folder / "roles.sql")], check=True)
    subprocess.run([sys.executable, "-m", "cxguard.cli", "migrate", owner], check=True, capture_output=True, cwd=ROOT)
    return owner, server.url.replace("shop@", "seller@")


@pytest.mark.server
def test_deploy_runs_with_two_roles(server: PostgresServer, spawn: Spawn, serve: Any, tmp_path: Path) -> None:
    """The roles as the script makes them: the owner migrates, and the shop's own role is enough to take and to pay an order."""
    _, seller = make_roles(server, tmp_path)
    gateway = spawn([sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "ledger")], ready='"control_url"')
    url = re.findall(r'"url": "([^"]+)"', gateway.ready_line)[0]
    environment = {
        "SHOP_STORE": seller,
        "SHOP_GATEWAY": url,
        "CXGUARD_SECRET": secrets.token_hex(32),
        "CXGUARD_KEYS": secrets.token_hex(32),
    }
    shop = serve("examples.deploy.app:make_app", env=environment, options=("--factory",))
    spawn([sys.executable, "-m", "cxguard.cli", "worker", "--factory", "examples.deploy.app:make_app"], ready="working on", env=environment)
    order = {"cart_id": "c1", "amount": 4_999, "currency": "EUR", "token": "tok_ok"}
    headers = {"Idempotency-Key": "k1", "x-customer-id": "ann"}
    paid = [httpx.post(f"{shop.url}/checkout/pay", json=order, headers=headers, trust_env=False, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in paid] == [201, 201]
    assert paid[0].content == paid[1].content
    assert httpx.get(f"{shop.url}/alive", trust_env=False).json() == {"alive": True}


@pytest.mark.server
@pytest.mark.asyncio
async def test_deploy_role_is_enough_after_a_failover(server: PostgresServer, tmp_path: Path) -> None:
    """The shop's role puts another life of the data on record, and lets the numbers jump ahead, without the owner's help."""
    owner, seller = make_roles(server, tmp_path)
    store = PostgresStore(seller, migrate=False)
    await store.start()
    await store.stop()
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("UPDATE cxguard.lives SET timeline = '00000000'")  # as if the server had another one by now
        before = connection.execute("SELECT last_value FROM cxguard.numbers").fetchone()
        await store.start()
        await store.stop()
        after = connection.execute("SELECT last_value FROM cxguard.numbers").fetchone()
    assert store.epoch.endswith(":2")
    assert before is not None
    assert after is not None
    assert after[0] - before[0] >= 2**32
