"""`cxguard orders`: look at orders, put held ones back, cancel."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import Any

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, find_target, namespace_option, opened_guard, opened_store, target_argument
from cxguard.cli.order_views import order_json, order_row, print_order, sealed_parts
from cxguard.cli.printing import as_json, print_json, print_table
from cxguard.core.money import MoneyState
from cxguard.core.names import normalise_reference
from cxguard.core.operation import Operation, State
from cxguard.engine.casefile import Actor, Became
from cxguard.engine.desk import Desk
from cxguard.engine.epochs import doubts_of
from cxguard.errors import NoSuchOrder
from cxguard.stores.base import PAGE_MAX, Page, Query, Store

_COLUMNS = ("reference", "state", "money", "amount", "waits for", "why", "created", "due", "rule")


@click.group("orders", short_help="Look at orders, put held ones back, cancel.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}")
def command() -> None:
    """Orders on the store: list, show, requeue, cancel. The dashboard does the same with more to see.

    \b
    Examples:
      cxguard orders list sqlite:///shop.db --state held
      cxguard orders list spool:////var/lib/shop/spool.db
      cxguard orders show sqlite:///shop.db 7K3M-9QXA-2TFV
      cxguard orders requeue shop.main:app 7K3M-9QXA-2TFV --why "the gateway confirmed that nothing was charged"
    """


_why = click.option("--why", required=True, help="Kept in the order's record, with your name.")
_by = click.option("--by", default=getpass.getuser, show_default="your user name", help="Who does it.")
_reference = click.argument("reference")


@command.command("list")
@target_argument
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in State]), help="Only these; may be given more than once."
)
@click.option(
    "--money",
    "moneys",
    multiple=True,
    type=click.Choice([money.value for money in MoneyState]),
    help="Only these; may be given more than once. After a failover, what may be an older copy is left out of all but `unknown`.",
)
@click.option("--rule", help="Only this rule, by its name.")
@click.option("--due", is_flag=True, help="Only those with work due, the most urgent first.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, PAGE_MAX), help="Orders on a page.")
@click.option("--after", help="The next page: what the last one printed at its end.")
@namespace_option
@as_json
def list_(
    target: str,
    states: tuple[State, ...],
    moneys: tuple[MoneyState, ...],
    rule: str | None,
    due: bool,
    limit: int,
    after: str | None,
    namespace: str,
    as_json: bool,
) -> None:
    """Orders, the newest first."""
    found = find_target(target, namespace=namespace)
    query = Query(
        namespace=found.guard.namespace,
        states=tuple(State(state) for state in states) or None,
        money=tuple(str(money) for money in moneys) or None,
        rule=rule,
        due=due,
        after=after,
        limit=limit,
    )
    page, doubts = asyncio.run(_search(found, query))
    all_ = [(one, doubts(one)) for one in page.operations]
    listed = [(one, doubted) for one, doubted in all_ if not doubted or not moneys or MoneyState.UNKNOWN in moneys]
    left_out = len(all_) - len(listed)
    if as_json:
        orders = [{**order_json(one), "doubted": doubted} for one, doubted in listed]
        print_json({"orders": orders, "doubted_left_out": left_out, "next": page.cursor})
        return
    print_table("", _COLUMNS, [order_row(one, doubted=doubted) for one, doubted in listed], right=("amount",))
    if not listed:
        click.echo("No such orders.")
    if any(doubted for _, doubted in listed):
        click.echo("unknown?: the store has lost its last writes, and this may be an older copy. Ask the gateway.")
    if left_out:
        click.echo(f"Left out: {left_out} that may be older copies, of whose money nobody knows. List them without --money.")
    if page.cursor:
        click.echo(f"There are more: --after {page.cursor}")


@command.command()
@target_argument
@_reference
@click.option("--reveal", is_flag=True, help="Open what is sealed: the contact, and what the shop answered.")
@namespace_option
@as_json
def show(target: str, reference: str, reveal: bool, namespace: str, as_json: bool) -> None:
    """One order: where its money is, what was sent to gateways, and what happened when."""
    found = find_target(target, namespace=namespace)
    operation, sealed, doubted = asyncio.run(_revealed(found, reference) if reveal else _found(found, reference))
    if as_json:
        print_json({**order_json(operation, whole=True), "doubted": doubted, **({"sealed": sealed} if reveal else {})})
    else:
        print_order(operation, sealed, doubted=doubted)


@command.command()
@target_argument
@_reference
@_why
@_by
@namespace_option
@as_json
def requeue(target: str, reference: str, why: str, by: str, namespace: str, as_json: bool) -> None:
    """Put a held order back into the queue, when there is something that the queue can do for it."""
    actor = Actor(by, why)
    _act(find_target(target, namespace=namespace), lambda desk: desk.requeue(reference, actor), as_json=as_json)


@command.command()
@target_argument
@_reference
@_why
@_by
@namespace_option
@as_json
def cancel(target: str, reference: str, why: str, by: str, namespace: str, as_json: bool) -> None:
    """Cancel an order: at once where surely nothing is charged; else it is asked for, and money that was taken goes back."""
    actor = Actor(by, why)
    _act(find_target(target, namespace=namespace), lambda desk: desk.cancel(reference, actor), as_json=as_json)


async def _search(target: Target, query: Query) -> tuple[Page, Callable[[Operation], bool]]:
    """The page, and which of it may be older copies."""
    async with opened_store(target) as store:
        try:
            return await store.search(query), await _doubts_of(target, store)
        except ValueError as error:
            raise click.BadParameter(f"{error}", param_hint="--after") from error


async def _doubts_of(target: Target, store: Store) -> Callable[[Operation], bool]:
    return await doubts_of(store, namespace=target.guard.namespace, now=target.guard.clock.now())


async def _found(target: Target, reference: str) -> tuple[Operation, dict[str, Any], bool]:
    async with opened_store(target) as store:
        operation = await _one(store, reference, namespace=target.guard.namespace)
        return operation, {}, (await _doubts_of(target, store))(operation)


async def _revealed(target: Target, reference: str) -> tuple[Operation, dict[str, Any], bool]:
    async with opened_guard(target) as guard:
        operation = await _one(guard.store, reference, namespace=guard.namespace)
        doubts = await _doubts_of(target, guard.store)
        return operation, sealed_parts(guard.engine.seal, operation), doubts(operation)


async def _one(store: Store, reference: str, *, namespace: str) -> Operation:
    name = normalise_reference(reference)
    page = await store.search(Query(namespace=namespace, reference=name, limit=1)) if name else Page(())
    if not page.operations:
        raise NoSuchOrder(reference)
    return page.operations[0]


def _act(target: Target, action: Callable[[Desk], Awaitable[Became]], *, as_json: bool) -> None:
    """Do one thing at the desk, and say what became of it."""
    became = asyncio.run(_acted(target, action))
    if as_json:
        print_json({"done": became.done, "says": became.words, "order": order_json(became.operation)})
    else:
        click.echo(f"{became.operation.reference}: {became.words}")
    if not became.done:
        raise SystemExit(1)


async def _acted(target: Target, action: Callable[[Desk], Awaitable[Became]]) -> Became:
    async with opened_guard(target) as guard:
        desk = Desk(guard.engine, rules={rule.name: rule for rule in guard.rules}, purposes=guard.purposes)
        return await action(desk)
