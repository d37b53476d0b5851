"""Secrets are found or made once, settings are checked once, and each refusal prints what to write instead."""

from __future__ import annotations

import base64
import dataclasses
import logging
import multiprocessing
import os
import re
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from cxguard import Purpose
from cxguard.config import Secrets, Settings, load_secrets
from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.engine import Timeouts
from cxguard.errors import ConfigurationError

ONE, TWO, THREE = (bytes([first, *range(100, 131)]) for first in (1, 2, 3))


def from_environment(secret: str = "", keys: str = "") -> Secrets:
    return load_secrets(environ={"CXGUARD_SECRET": secret, "CXGUARD_KEYS": keys})


@pytest.mark.parametrize(
    "text",
    [
        ONE.hex(),
        ONE.hex().upper(),
        base64.b64encode(ONE).decode(),
        base64.urlsafe_b64encode(ONE).decode(),
        base64.urlsafe_b64encode(ONE).decode().rstrip("="),
        f"  {ONE.hex()}\n",
    ],
)
def test_secrets_may_be_hex_or_base64(text: str) -> None:
    """Either alphabet, either case, padded or not, with blanks around."""
    assert from_environment(text, TWO.hex()).naming == ONE


def test_the_ring_keeps_its_order() -> None:
    """The first key of the list is the first of the ring."""
    assert from_environment(ONE.hex(), f"{TWO.hex()}, {base64.b64encode(THREE).decode()},").ring == (TWO, THREE)


def test_settings_go_before_the_environment() -> None:
    """What the code says wins over what the environment says."""
    found = load_secrets(
        setting_secret=ONE, setting_keys=f"{TWO.hex()},{THREE.hex()}", environ={"CXGUARD_SECRET": THREE.hex(), "CXGUARD_KEYS": THREE.hex()}
    )
    assert (found.naming, found.ring) == (ONE, (TWO, THREE))


@pytest.mark.parametrize(
    ("secret", "keys", "says"),
    [
        (ONE.hex(), "", r'no key ring: also set CXGUARD_KEYS="\$\(openssl rand -hex 32\)"'),
        ("", TWO.hex(), r'no naming secret: also set CXGUARD_SECRET="\$\(openssl rand -hex 32\)"'),
        ("changeme", TWO.hex(), r"CXGUARD_SECRET is not 32 bytes or more in hex or base64 \(it has 6\): write CXGUARD_SECRET="),
        ("not base64!", TWO.hex(), r"CXGUARD_SECRET is not 32 bytes .* \(it has 0\)"),
        ("ab" * 24, TWO.hex(), r"\(it has 24\)"),
        ("00" * 32, TWO.hex(), r"CXGUARD_SECRET is not random"),
        (ONE.hex(), f"{TWO.hex()},abcd", r"CXGUARD_KEYS, key 2 is not 32 bytes .* write CXGUARD_KEYS="),
        ("", "", r"a store that machines share needs secrets.*\n    export CXGUARD_SECRET=.*\n    export CXGUARD_KEYS="),
    ],
)
def test_wrong_secrets_are_refused_with_the_line_to_write(secret: str, keys: str, says: str) -> None:
    """Missing, half given, too short, not random: each says what to set."""
    with pytest.raises(ConfigurationError, match=says):
        from_environment(secret, keys)


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Neither the repr of secrets nor the text of a refusal contains one."""
    found = from_environment(ONE.hex(), TWO.hex())
    with pytest.raises(ConfigurationError) as caught:
        from_environment("ab" * 24, TWO.hex())
    shown = repr(found) + str(found) + str(caught.value)
    assert not [text for text in (ONE.hex(), TWO.hex(), repr(ONE), repr(TWO), "abab") if text in shown]


def test_memory_makes_its_own_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A store that dies with the process gets random secrets, which die with it, too, and a line that says so."""
    with caplog.at_level(logging.WARNING):
        one, two = (load_secrets(environ={}, in_memory=True) for _ in range(2))
    assert one == two and len({one.naming, *one.ring, bytes(32)}) == 3
    assert "for this process only" in caplog.text and not any(key.hex() in caplog.text for key in (one.naming, *one.ring))


def test_sqlite_makes_them_once(tmp_path: Path) -> None:
    """The first use writes a file that only its owner can read; the next one reads the same secrets from it."""
    database = tmp_path / "shop.db"
    first, second = (load_secrets(environ={}, sqlite_path=database) for _ in range(2))
    assert first == second
    assert stat.S_IMODE((tmp_path / "shop.db.secret").stat().st_mode) == 0o600
    assert first.origin == str(tmp_path / "shop.db.secret")


def test_the_umask_cannot_open_the_file(tmp_path: Path) -> None:
    """The file is private also where new files are not."""
    before = os.umask(0)
    try:
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shop.db.secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_readable_secret_file_is_refused(tmp_path: Path, mode: int) -> None:
    """A file that group or world can read is not used, and the error says how to mend it."""
    load_secrets(environ={}, sqlite_path=tmp_path / "shop.db")
    (tmp_path / "shop.db.secret").chmod(mode)
    with pytest.raises(ConfigurationError, match=r"run `chmod 600 .*shop\.db\.secret`"):
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db")


def test_rotation_in_the_file(tmp_path: Path) -> None:
    """A key put in front of the file's second line becomes the first of the ring."""
    database, path = tmp_path / "shop.db", tmp_path / "shop.db.secret"
    before = load_secrets(environ={}, sqlite_path=database)
    path.write_text(path.read_text().replace("CXGUARD_KEYS=", f"CXGUARD_KEYS={TWO.hex()},"))
    after = load_secrets(environ={}, sqlite_path=database)
    assert (after.naming, after.ring) == (before.naming, (TWO, *before.ring))


def test_a_lost_secret_file_is_not_made_anew(tmp_path: Path) -> None:
    """A database that was used before needs the secrets that it was used with: gone or empty, the error says why."""
    path = tmp_path / "shop.db.secret"
    with pytest.raises(ConfigurationError, match="is gone, but the database beside it has records"):
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db", used_before=True)
    assert not path.exists()
    path.touch(0o600)
    with pytest.raises(ConfigurationError, match="Restore that file from the backup"):
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db", used_before=True)


def test_an_empty_file_counts_as_absent(tmp_path: Path) -> None:
    """Its maker died before it wrote: the next one to start writes it."""
    (tmp_path / "shop.db.secret").touch(0o600)
    assert load_secrets(environ={}, sqlite_path=tmp_path / "shop.db").naming


@pytest.mark.parametrize("content", ["rubbish\n", "CXGUARD_SECRET=\nCXGUARD_KEYS=\n", f"CXGUARD_SECRET={ONE.hex()}\n", "\x00" * 100])
def test_a_damaged_secret_file_is_refused(tmp_path: Path, content: str) -> None:
    """A file without both lines is not written over: it may be half of something that is needed."""
    path = tmp_path / "shop.db.secret"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="restore it from the backup"):
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db")
    assert path.read_text() == content


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The secrets of a database in no folder cannot be made, and the error says where."""
    with pytest.raises(ConfigurationError, match=r"none/shop\.db\.secret cannot be read or made \(No such file or directory\)"):
        load_secrets(environ={}, sqlite_path=tmp_path / "none" / "shop.db")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A secret file that is a link to somewhere else is refused, not read or written through."""
    (tmp_path / "elsewhere").touch(0o600)
    (tmp_path / "shop.db.secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot be read or made"):
        load_secrets(environ={}, sqlite_path=tmp_path / "shop.db")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def _load_behind(barrier: Barrier, path: Path) -> str:
    barrier.wait(30)
    return load_secrets(environ={}, sqlite_path=path).naming.hex()


def _report(barrier: Barrier, path: Path, results: multiprocessing.SimpleQueue[str]) -> None:
    results.put(_load_behind(barrier, path))


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Eight processes that make the file at the same moment all get the same secrets."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.SimpleQueue()
    processes = [context.Process(target=_report, args=(barrier, tmp_path / "shop.db", results)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len({results.get() for _ in processes}) == 1


def test_another_naming_secret_is_noticed() -> None:
    """The store's check value tells secrets apart, whatever the ring, and the error says that nothing is charged."""
    mine, rotated, other = Secrets(ONE, (TWO,), "a file"), Secrets(ONE, (THREE,), "a file"), Secrets(TWO, (TWO,), "a file")
    rotated.require_same(mine.check_value)
    with pytest.raises(ConfigurationError, match=r"another naming secret than the one from a file.*so nothing is charged"):
        other.require_same(mine.check_value)


NUMBERS: dict[str, Any] = {
    "Settings(": Settings(),
    "Timeouts(": Timeouts(),
    "BreakerPolicy(": BreakerPolicy(),
    'Purpose("pay order", ': Purpose("pay order"),
}


@pytest.mark.parametrize("settings", NUMBERS.values(), ids=NUMBERS)
def test_every_number_has_a_range_and_a_reason(settings: Any) -> None:
    """The defaults pass their own check."""
    numbers = [each for each in dataclasses.fields(settings) if type(each.default) in (int, float)]
    assert numbers
    assert all({"least", "most", "why"} <= set(each.metadata) for each in numbers)
    assert dataclasses.replace(settings) == settings


LIMITS = [
    (written, each.name, each.metadata["least"], each.metadata["most"])
    for written, settings in NUMBERS.items()
    for each in dataclasses.fields(settings)
    if "least" in each.metadata
]


@pytest.mark.parametrize(("written", "name", "least", "most"), LIMITS)
def test_settings_out_of_range_are_refused(written: str, name: str, least: float, most: float) -> None:
    """Below, above, not a number, and a boolean are refused, with the reason and a line that works."""
    values: tuple[object, ...] = (least - 0.01, most + 1, float("nan"), float("inf"), True, "5", None)
    for value in values:
        with pytest.raises(
            ConfigurationError, match=rf"{name}=.* is not a (whole )?number from .* \(.+\): write {re.escape(written)}{name}="
        ):
            dataclasses.replace(NUMBERS[written], **{name: value})


@pytest.mark.parametrize("name", ["open_seconds", "throttle_seconds"])
def test_a_first_pause_is_no_longer_than_the_longest(name: str) -> None:
    """Asked for 300 s, a breaker would have paused for 60."""
    with pytest.raises(ConfigurationError, match=rf"write BreakerPolicy\({name}=300, {name}_max=300\)"):
        BreakerPolicy(**{name: 300.0})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": ""}, r'write Purpose\("refund order", ...\)'),
        ({"name": 7}, r'write Purpose\("refund order", ...\)'),
        ({"later": "x"}, r'write Purpose\("p", later='),
    ],
)
def test_a_purpose_that_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    """With the line to write."""
    with pytest.raises(ConfigurationError, match=says):
        Purpose(**{"name": "p", **given})
