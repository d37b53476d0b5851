"""Deliberate bugs, put in at run time: the simulator is as good as the bugs that it finds.

Each replaces one function or method by a worse one, made from the right one.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from cxguard.asgi import visits
from cxguard.core import operation, resolve
from cxguard.core.answer import MoneyTold, Situation
from cxguard.core.conclude import Conclusion, Ending, Run, Say
from cxguard.core.decide import Do
from cxguard.core.money import MoneyState
from cxguard.core.operation import State, changed, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Unknown
from cxguard.core.reading import Reading
from cxguard.engine import charges, charging, ending, epochs, forwarding, leases, looking, losing, operations, queue, spool
from cxguard.errors import LeaseLost
from cxguard.render import status
from cxguard.stores import verbs
from cxguard.testing.simulation.run import play_many
from cxguard.testing.simulation.world import Plan

Wrap = Callable[[Any], Any]


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Attributes:
        where: module or class, and the name in it.
        worse: makes the wrong function from the right one.
        deep: takes some hundred stories.
        masked_by: layers that would stop it, and are worse with it: the simulator must see what they alone stand for.
        plan: the kind of shop that it is hunted in; None: as the dice deal.
    """

    name: str
    what: str
    where: tuple[Any, str]
    worse: Wrap
    deep: bool = False
    masked_by: tuple[tuple[tuple[Any, str], Wrap], ...] = ()
    plan: Callable[[Plan], Plan] | None = None

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """The bug is there in here."""
        with contextlib.ExitStack() as all_back:
            for (holder, name), worse in ((self.where, self.worse), *self.masked_by):
                right = getattr(holder, name)
                setattr(holder, name, worse(right))
                all_back.callback(setattr, holder, name, right)
            yield


def _told(outcome_of: Callable[[Any], Any]) -> Wrap:
    """The gateway's answer, understood wrongly."""

    def worse(right: Any) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            return outcome_of(await right(*args, **named))

        return call

    return worse


def _turned(change: Callable[[Any], Any]) -> Wrap:
    """What a pure function says, turned into something else."""
    return lambda right: lambda *args, **named: change(right(*args, **named))


def _concluded(conclude: Callable[[Run, Conclusion], Conclusion]) -> Wrap:
    return lambda right: lambda run: conclude(run, right(run))


def _always(value: Any) -> Wrap:
    return lambda right: lambda *args, **named: value


def _does_nothing(right: Any) -> Any:
    async def nothing(*args: Any, **named: Any) -> None:
        return None

    return nothing


def _line_in_memory_only(right: Any) -> Any:
    async def write_send(engine: Any, work: Any, send: Any) -> None:
        work.operation = changed(work.operation, sends=(*work.operation.sends, replace(send, outcome=Unknown("no_answer"))))

    return write_send


def _as_if_wanted(right: Any) -> Any:
    return lambda run: right(replace(run, cancel_asked=False))


def _lost_notes(right: Any) -> Any:
    def save(table: Any, operation: Any, **named: Any) -> Any:
        row = table.row(operation.id)
        if row is not None:
            row.operation = changed(row.operation, notes=row.operation.notes[:0])
        return right(table, operation, **named)

    return save


def _freed_on_error(right: Any) -> Any:
    async def end_run(engine: Any, handle: Any, tenor: Any, *, reading: Any, **named: Any) -> Any:
        if reading is Reading.FAILED:
            with contextlib.suppress(LeaseLost):
                await engine.operations.end(handle.work.operation, handle.work.lease, gone=True)
        return await right(engine, handle, tenor, reading=reading, **named)

    return end_run


def _other_end(ends: Any, instead: Callable[[Any], Any]) -> Wrap:
    """A duty of the queue, taken for another one."""
    return _turned(lambda duty: instead(duty) if isinstance(duty, ends) else duty)


def _if_unknown(conclusion: Conclusion) -> Wrap:
    return _concluded(lambda run, right: conclusion if run.money.state is MoneyState.UNKNOWN else right)


def _if_charged(conclusion: Conclusion) -> Wrap:
    return _concluded(lambda run, right: conclusion if run.money.state is MoneyState.CHARGED else right)


def _unkept(right: Any) -> Any:
    def deferred(*args: Any, **named: Any) -> Any:
        return changed(right(*args, **named), due_at=None)

    return deferred


def _fresh_key(right: Any) -> Any:
    return lambda self, *args: f"cxg-{random.getrandbits(64):016x}"


def _any_token(right: Any) -> Any:
    def save(table: Any, operation: Any, *, token: int, **named: Any) -> Any:
        row = table.row(operation.id)
        lease = row.operation.lease if row is not None else None
        return right(table, operation, token=lease.token if lease is not None else token, **named)

    return save


def _duty_if_unknown(instead: Any) -> Wrap:
    """An order whose money is unknown gets this duty."""
    return lambda right: (
        lambda record, *args, **named: instead if money_of(record).state is MoneyState.UNKNOWN else right(record, *args, **named)
    )


def _not_taken(right: Any) -> Any:
    return lambda record, **named: MoneyTold.NOT_CHARGED


def _told_not_kept(right: Any) -> Any:
    """The situation too: most rows of the table have their own word for the money."""
    return lambda record, **named: Situation.NOT_KEPT if record.state is State.QUEUED else right(record, **named)


def _is(kind: Any, instead: Any) -> Callable[[Any], Any]:
    return lambda outcome: instead if isinstance(outcome, kind) else outcome


def _loses(plan: Plan) -> Plan:
    """A store that loses its tail, and a gateway whose keys forgive nothing: no freezes that would excuse a second charge."""
    return replace(plan, loses_tail=True, stalls=False, store_jumps=False, charged_by="guard")


def _fails_over_only(plan: Plan) -> Plan:
    """Without keys at the gateway "not found" is not believed so soon, and what else goes wrong hides what is looked for."""
    return replace(_loses(plan), keyed=True, trouble=False, store_restarts=False, store_faults=0.0)


def _spools(plan: Plan) -> Plan:
    return replace(plan, spool=True, stalls=False, store_jumps=False)


def _erased_first(right: Any) -> Any:
    async def forward(self: Any, item: Any, ahead_seconds: float) -> Any:
        await self._spool.erase(item)
        return await right(self, item, ahead_seconds)

    return forward


def _history_dropped(right: Any) -> Any:
    return lambda record, **changes: right(record, **({**changes, "history": ()} if "history" in changes else changes))


_UNSURE = NotCharged("timeout", retryable=True)
_CHARGING, _KEEPING, _END = (charging, "_call"), (looking, "expected"), (ending, "conclude")
_DUTY = (queue, "next_duty")
_ANY_MONEY = (((operation, "MONEY_FOR"), lambda right: dict.fromkeys(right, frozenset(MoneyState))),)  # the table of moves refuses, too

MUTANTS = (
    Mutant("no intent", "the line of a send is not written before the call", (charging, "write_send"), _line_in_memory_only, deep=True),
    Mutant(
        "unknown is not charged",
        "silence of the gateway is taken for a charge that did not happen",
        _CHARGING,
        _told(_is(Unknown, _UNSURE)),
    ),
    Mutant("timeout is a decline", "silence of the gateway is told as the issuer's no", _CHARGING, _told(_is(Unknown, Declined()))),
    Mutant(
        "timeout is a charge",
        "silence of the gateway is told as paid",
        _CHARGING,
        _told(_is(Unknown, Charged(1000, "EUR", payment_id="p"))),
    ),
    Mutant(
        "decline is a charge", "the issuer's no is taken for a yes", _CHARGING, _told(_is(Declined, Charged(1000, "EUR", payment_id="p")))
    ),
    Mutant("one more step is a no", "needs-the-shopper is taken for not charged", _CHARGING, _told(_is(NeedsShopper, _UNSURE))),
    Mutant("charge is forgotten", "a charge is taken for not charged", _CHARGING, _told(_is(Charged, _UNSURE))),
    Mutant("not charged is a decline", "an outage is told as the issuer's no", _CHARGING, _told(_is(NotCharged, Declined()))),
    Mutant("found nothing: not charged", "not found is taken for proof", _KEEPING, _turned(_is(Unknown, NotCharged("not_found")))),
    Mutant("found nothing: declined", "not found is told as the issuer's no", _KEEPING, _turned(_is(Unknown, Declined()))),
    Mutant("look-up forgets charges", "a charge that was found is taken for none", _KEEPING, _turned(_is(Charged, NotCharged("found")))),
    Mutant("new key for each try", "the gateway key changes with each call", (charges.Charges, "_key_for"), _fresh_key),
    Mutant("save loses notes", "a save forgets the facts that came meanwhile", (verbs, "save_operation"), _lost_notes),
    Mutant("live leases are taken", "a lease that lives is seized", (verbs, "leasable"), _always(True), deep=True),
    Mutant("freed on error", "the record goes when the handler fails", (ending, "_end_run"), _freed_on_error),
    Mutant("unknown is let go", "an unknown charge frees the key", _END, _if_unknown(Conclusion(Ending.RELEASE, Say.NOT_KEPT, "failed"))),
    Mutant("unknown is finished", "an unknown charge ends the order", _END, _if_unknown(Conclusion(Ending.FINISH, Say.UNKNOWN, "failed"))),
    Mutant(
        "unknown: the handler speaks",
        "the handler's no over an unknown gets through",
        _END,
        _if_unknown(Conclusion(Ending.DEFER, Say.HANDLER)),
    ),
    Mutant("charged is let go", "a charge frees the key", _END, _if_charged(Conclusion(Ending.RELEASE, Say.NOT_KEPT, "failed"))),
    Mutant(
        "charged: told declined", "a charge is told as a decline", _END, _if_charged(Conclusion(Ending.FINISH, Say.DECLINED, "declined"))
    ),
    Mutant("kept and never due", "a kept order is never looked at again", (ending, "record_at_end"), _unkept),
    Mutant(
        "placed instead of asked", "the queue charges again before it asks", _DUTY, _other_end(resolve.Find, lambda duty: resolve.Place())
    ),
    Mutant(
        "refunds are forgotten",
        "what should go back is taken for done",
        _DUTY,
        _other_end(resolve.Refund, lambda duty: resolve.Cancel("x")),
        deep=True,
    ),
    Mutant("refund is not sent", "a refund is written and never sent", (queue, "refund"), _does_nothing, deep=True),
    Mutant("given up over money", "whatever is due is cancelled", _DUTY, _turned(lambda duty: resolve.Cancel("gave_up"))),
    Mutant(
        "each submit runs",
        "a record that is there does not stop the next run",
        (operations, "decide"),
        _turned(lambda do: Do.RERUN if do in (Do.REPLAY, Do.TELL) else do),
    ),
    Mutant(
        "a wish to cancel is not looked at",
        "who asked in time to have the order cancelled pays, and gets it",
        (resolve, "is_in_time"),
        _always(False),
        masked_by=(((ending, "conclude"), _as_if_wanted),),
        deep=True,
    ),
    Mutant(
        "the lease is not checked before the call",
        "a process that slept calls the gateway all the same",
        (leases.HeldLease, "check"),
        _always(None),
        deep=True,
        plan=lambda plan: replace(plan, stalls=True, store_jumps=False, charged_by="guard"),
    ),
    Mutant(
        "a save does not check its token",
        "whoever had the lease before writes over the newer one's record",
        (verbs, "save_operation"),
        _any_token,
        deep=True,
        plan=lambda plan: replace(plan, stalls=True, store_jumps=True),
    ),
    Mutant(
        "the store's life is learned late",
        "a process learns at its first charge only which life of the store it is in",
        (epochs.Epochs, "begin"),
        _does_nothing,
        deep=True,
        plan=_loses,
    ),
    Mutant(
        "a lost tail is not looked for",
        "after a failover an order that looks new is charged without a look at the gateway",
        (losing, "may_come_back"),
        _always(False),
        deep=True,
        plan=_loses,
    ),
    Mutant(
        "doubt moves the key",
        "after a failover, silence about a later life makes that life's key the one that is charged",
        (losing, "_doubtful"),
        lambda right: lambda found, verdict: found[-1],
        deep=True,
        plan=_fails_over_only,
    ),
    Mutant(
        "erased before it is forwarded",
        "what lies in the spool is erased, and then brought to the store",
        (forwarding.Forwarding, "_forward"),
        _erased_first,
        deep=True,
        plan=_spools,
    ),
    Mutant(
        "facts are not spooled",
        "what is known of the money while the store is away is forgotten with the process",
        (spool.Spool, "note"),
        _does_nothing,
        deep=True,
        plan=lambda plan: replace(_spools(plan), keyed=False),
    ),
    Mutant(
        "a fact alone is another charge",
        "a charge that is known from a webhook or a late answer only is not taken for the order's own",
        (charges.Charges, "_told_of"),
        _always(frozenset()),
        deep=True,
        plan=lambda plan: replace(_spools(plan), loses_tail=True, charged_by="guard", later="replay"),
    ),
    Mutant(
        "a shown error is not written down",
        "what a shopper was told by the guard is in no visit",
        (visits._Passed, "_expose"),
        _does_nothing,
        plan=lambda plan: replace(plan, visits=True, loses_tail=False),
    ),
    Mutant(
        "lines of calls are dropped",
        "the timeline of an order forgets its calls to the gateway when a turn of the queue was in vain",
        (queue, "changed"),
        _history_dropped,
        deep=True,
        plan=lambda plan: replace(plan, loses_tail=False, charged_by="guard"),
    ),
    Mutant(
        "cancelled over an unknown",
        "an order is cancelled while its charge is unknown",
        _DUTY,
        _duty_if_unknown(resolve.Cancel("x")),
        masked_by=_ANY_MONEY,
    ),
    Mutant(
        "finished over an unknown",
        "an order is finished while its charge is unknown",
        _DUTY,
        _duty_if_unknown(resolve.Finish("x")),
        masked_by=_ANY_MONEY,
    ),
    Mutant(
        "the status page says not charged",
        "over a kept order it says that it was given up",
        (status, "situation_of_operation"),
        _told_not_kept,
        masked_by=(((status, "money_told_of"), _not_taken),),
    ),
)


def seeds_to_catch(mutant: Mutant, *, start: int, most: int) -> int | None:
    """How many stories it takes until one breaks a promise; None: not within *most*."""
    with mutant.alive():
        for number, verdict in enumerate(play_many(range(start, start + most), plan=mutant.plan), start=1):
            if verdict.wrong:
                return number
    return None
