"""`cxguard doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, file_of, find_target, namespace_option, target_argument
from cxguard.cli.printing import as_json, print_json, print_table
from cxguard.clock import own_clock
from cxguard.engine import doctor
from cxguard.engine.doctor import Examined, Health
from cxguard.engine.spool_doctor import UNREADABLE, examine_spool, examine_spool_file, spool_missing, unreadable_spool
from cxguard.errors import ConfigurationError, StoreError
from cxguard.guard import Guard


@click.command(
    "doctor", short_help="What is wrong with store, secrets, rules and app, and what to do.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}"
)
@target_argument
@namespace_option
@as_json
def command(target: str, namespace: str, as_json: bool) -> None:
    """Look at store, secrets, rules, gateways and app, and say what to do. Changes nothing. Ends with 1 on any `fail`.

    \b
    Examples:
      cxguard doctor shop.main:app
      cxguard doctor sqlite:///shop.db
    """
    found = find_target(target, namespace=namespace)
    examined = [*asyncio.run(_examine(found)), *_examine_app(found)]
    if as_json:
        print_json({"health": doctor.worst(examined), "examined": [asdict(one) for one in examined]})
    else:
        rows = [(str(one.health), one.about, f"{one.found}\n-> {one.do}" if one.do else one.found) for one in examined]
        print_table("", ("", "about", "found"), rows)
    if doctor.worst(examined) is Health.FAIL:
        raise SystemExit(1)


async def _examine(target: Target) -> list[Examined]:
    guard = target.guard
    if target.spool:
        raise click.UsageError("a spool is looked at beside its guard: write cxguard doctor shop.main:app, on its machine")
    path = file_of(guard.store)
    examined = [doctor.examine_sqlite()] if path is not None else []
    opened = await doctor.examine_store(guard.store, own_clock(guard.clock))
    away = doctor.worst(opened) is Health.FAIL
    if guard.store_breaker is not None and "://" not in target.text:
        opened += await _spool(guard, away=away)
    unreadable = any(one.about == UNREADABLE for one in opened)
    examined += opened
    if away:
        return examined
    try:
        if path is not None:
            examined += doctor.examine_file(path)
        examined += await doctor.examine_records(guard.store, namespace=guard.namespace)
        examined += await doctor.examine_counters(guard.store, namespace=guard.namespace)
        if not unreadable:  # to start the guard would put the file aside, and nothing is changed here
            examined.append(await _secrets(guard))
    finally:
        await guard.stop()
        await guard.store.stop()
    return examined + await doctor.examine_gateways(guard.gateways.values())


async def _spool(guard: Guard, *, away: bool) -> list[Examined]:
    """Looked at also, and above all, while the store is away."""
    if guard.spool is None:
        return [spool_missing()]
    found = examine_spool_file(guard.spool.path)
    if not guard.spool.path.exists():
        return found or [doctor.ok("spool", f"{guard.spool.path}: empty, not used yet")]
    try:
        await guard.spool.store.start()
    except (ConfigurationError, StoreError) as error:
        return [*found, unreadable_spool(error)]
    try:
        return [*found, examine_spool(await guard.spool.figures(), now=guard.clock.now(), settings=guard.settings, away=away)]
    finally:
        await guard.spool.store.stop()


async def _secrets(guard: Guard) -> Examined:
    """The guard starts only with the secrets that its records were named with."""
    try:
        await guard.start(duties=False)
    except (ConfigurationError, StoreError) as error:
        return doctor.fail("secrets", "cannot be used", str(error))
    return doctor.ok("secrets", f"fit the records; keys in the ring, the sealing one first: {', '.join(guard.engine.seal.key_ids)}")


def _examine_app(target: Target) -> Iterator[Examined]:
    guard = target.guard
    if "://" in target.text:
        return
    yield from doctor.examine_rules(guard.rules, funnel=guard.funnel is not None, gateways=bool(guard.gateways))
    if target.app is None:
        return
    yield _lifespan(target.app)
    lines = _cors(target.app, guard)
    if lines is not None:
        yield doctor.warn("CORS", "stands inside of the guard: browsers hide the guard's answers from scripts", "write " + "; ".join(lines))


def _lifespan(app: Any) -> Examined:
    from cxguard.worker import parts_of

    if any(type(part).__module__.startswith("django.") for part in parts_of(app)):
        return doctor.warn(
            "lifespan", "Django has none: the guard starts with the first request", "Django: run the worker (cxguard worker)"
        )
    return doctor.ok("lifespan", "the guard starts and stops with the app")


def _cors(app: Any, guard: Guard) -> tuple[str, str] | None:
    """What stands inside of the guard's middleware, in an app that has built its chain or not."""
    from cxguard.asgi.cors import cors_inside
    from cxguard.worker import parts_of

    stacks = [part.build_middleware_stack() for part in parts_of(app) if hasattr(part, "build_middleware_stack")]
    for part in parts_of([app, *stacks]):
        if getattr(part, "guard", None) is guard and hasattr(part, "app"):
            return cors_inside(part.app)
    return None
