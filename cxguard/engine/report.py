"""What the errors cost, read from counters alone: as fast with ten million sessions as with ten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cxguard.core.census import CENSUS_PREFIX, Counts, Group, Told, read_census
from cxguard.core.currency import major
from cxguard.core.impact import Impact, MoneyLost, impact, money_lost
from cxguard.core.session import Stage
from cxguard.engine.recorder import counter_name
from cxguard.stores.base import Store

WOULD_PREFIX = "would."
SPOOL_PREFIX = "spool."
SPOOL_COUNTERS: Mapping[str, str] = {
    "order.spooled": f"{SPOOL_PREFIX}saved",
    "spool.forwarded": f"{SPOOL_PREFIX}forwarded",
    "spool.refused": f"{SPOOL_PREFIX}refused",
}
"""Events that are counted, and as what."""
NOT_YET = "cannot be told from chance yet"
COSTS = "costs purchases"


@dataclass(frozen=True, slots=True)
class Line:
    """One error at one stage (or, without a message, all errors at the stage together).

    Attributes:
        shown: how often it was shown in all.
        after_purchase: sessions that met it only after they had bought; not part of the comparison.
        control: the sessions that reached the stage and met no error.
    """

    stage: Stage
    message: str
    cause: str
    by: str
    shown: int
    after_purchase: int
    control: Counts
    impact: Impact
    money: Mapping[str, MoneyLost] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """What may be said: that it costs purchases, or that this cannot be told yet."""
        return COSTS if self.impact.told else NOT_YET


@dataclass(frozen=True, slots=True)
class StageLine:
    """One stage of the funnel: sessions that reached it, and those of them that bought; all errors there together."""

    stage: Stage
    reached: Counts
    unexposed: Counts
    errors: Line | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `cxguard report` prints.

    Attributes:
        lines: every message at every stage, the dearest first. One session may stand in several lines: they do not
            add up; `stages` count each session once per stage.
        operations: how many operations there are by (state, money).
        dropped: facts about sessions that were lost; the figures lack them.
        spooled: what the spools of all machines took in, forwarded and refused, while the store was away.
    """

    at: float
    stages: tuple[StageLine, ...]
    lines: tuple[Line, ...]
    operations: Mapping[tuple[str, str], int]
    unpaid_minor: Mapping[str, int]
    dropped: int
    spooled: Mapping[str, int] = field(default_factory=dict)


async def build_report(store: Store, *, namespace: str) -> Report:
    """Read counters and tally, and compare. Five reads, none of which grows with the number of sessions."""
    census = read_census(await _counters(store, CENSUS_PREFIX, namespace=namespace))
    tally = await store.tally(namespace)
    lost = await _counters(store, "session.dropped", namespace=namespace)
    spool = await _counters(store, SPOOL_PREFIX, namespace=namespace)
    lines = [_line(census.unexposed.get(told.stage, Counts()), group, told) for told, group in census.messages.items()]
    stages = tuple(
        StageLine(
            stage=stage,
            reached=census.reached[stage],
            unexposed=census.unexposed.get(stage, Counts()),
            errors=_stage_errors(stage, census.unexposed.get(stage, Counts()), census.exposed.get(stage)),
        )
        for stage in Stage
        if stage in census.reached
    )
    return Report(
        at=await store.clock(),
        stages=stages,
        lines=tuple(sorted(lines, key=_dearest_first)),
        operations=dict(tally.operations),
        unpaid_minor=dict(tally.unpaid_minor),
        dropped=round(sum(lost.values())),
        spooled={name: round(value) for name, value in sorted(spool.items())},
    )


async def would_have(store: Store, *, namespace: str) -> dict[str, int]:
    """What watch mode would have done, by name without the prefix: `duplicates`, `mismatches`, `readings.failed`, ..."""
    counters = await _counters(store, WOULD_PREFIX, namespace=namespace)
    return {name.removeprefix(WOULD_PREFIX): round(value) for name, value in sorted(counters.items())}


def report_rows(report: Report) -> list[dict[str, str]]:
    """The lines as short texts for a table, in the order of the columns."""
    return [_row(line) for line in report.lines]


def report_to_json(report: Report) -> dict[str, Any]:
    """Plain values for `--json`; amounts in minor units, as texts, so that no reader rounds them."""
    return {
        "at": report.at,
        "stages": [
            {
                "stage": line.stage,
                "reached": asdict(line.reached),
                "unexposed": asdict(line.unexposed),
                "errors": _line_to_json(line.errors) if line.errors is not None else None,
            }
            for line in report.stages
        ],
        "errors": [_line_to_json(line) for line in report.lines],
        "operations": [{"state": state, "money": money, "count": count} for (state, money), count in sorted(report.operations.items())],
        "unpaid_minor": {currency: str(amount) for currency, amount in report.unpaid_minor.items()},
        "dropped": report.dropped,
        "spooled": dict(report.spooled),
    }


async def _counters(store: Store, prefix: str, *, namespace: str) -> dict[str, float]:
    scope = counter_name(namespace, "")
    found = await store.counters(scope + prefix)
    return {name.removeprefix(scope): value for name, value in found.items()}


def _line(control: Counts, group: Group, told: Told) -> Line:
    return _compared(told.stage, control, group, message=told.message.label, cause=told.cause, by=told.by)


def _stage_errors(stage: Stage, control: Counts, group: Group | None) -> Line | None:
    return _compared(stage, control, group, message="", cause="", by="") if group is not None and group.counts.sessions else None


def _compared(stage: Stage, control: Counts, group: Group, *, message: str, cause: str, by: str) -> Line:
    found = impact(_sane(control), _sane(group.counts))
    return Line(
        stage=stage,
        message=message,
        cause=cause,
        by=by,
        shown=group.shown,
        after_purchase=group.after_purchase,
        control=control,
        impact=found,
        money=money_lost(found, group.left_minor),
    )


def _sane(counts: Counts) -> Counts:
    """Counters of a store that lost its tail may disagree: a report says what it can, and does not fail."""
    sessions = max(0, counts.sessions)
    return Counts(sessions=sessions, bought=min(max(0, counts.bought), sessions))


def _dearest_first(line: Line) -> tuple[bool, float, int, str, str]:
    return (not line.impact.told, -line.impact.lost, -line.impact.exposed, line.stage, line.message)


def _row(line: Line) -> dict[str, str]:
    found = line.impact
    return {
        "stage": str(line.stage),
        "message": line.message,
        "cause": str(line.cause).replace("_", " "),
        "exposed": str(found.exposed),
        "bought": str(found.observed),
        "expected": f"{found.expected:.1f}",
        "lost": f"{max(found.lost, 0):.1f}" if found.told else "-",
        "range": f"{max(found.low, 0)}-{max(found.high, 0)}",
        "money lost": ", ".join(_amount(currency, money) for currency, money in line.money.items()) if found.told else "-",
        "verdict": line.verdict,
    }


def _amount(currency: str, money: MoneyLost) -> str:
    return f"{major(money.lost_minor, currency)} {currency}"


def _line_to_json(line: Line) -> dict[str, Any]:
    found = line.impact
    return {
        "stage": line.stage,
        "message": line.message,
        "cause": line.cause,
        "by": line.by,
        "shown": line.shown,
        "after_purchase": line.after_purchase,
        "control": asdict(line.control),
        "exposed": found.exposed,
        "bought": found.observed,
        "expected": round(found.expected, 2),
        "lost": round(found.lost, 2),
        "lost_low": found.low,
        "lost_high": found.high,
        "evidence": found.evidence,
        "told": found.told,
        "verdict": line.verdict,
        "money": {currency: {name: str(value) for name, value in asdict(money).items()} for currency, money in line.money.items()},
    }
