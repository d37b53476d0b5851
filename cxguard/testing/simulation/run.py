"""Tell the story of a seed, have it judged, and tell many."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cxguard import seal
from cxguard.engine import breaker_sharing
from cxguard.testing.simulation.judge import judge
from cxguard.testing.simulation.loop import Livelock
from cxguard.testing.simulation.story import story
from cxguard.testing.simulation.world import Plan, World

LOOK_SECONDS = 300.0  # between two looks at the shared breakers: at four a second, hours of quiet are all that would be played
QUIET_LOOK_SECONDS = 600.0  # while all are closed
SILENT = logging.CRITICAL + 1  # as a level: structlog makes up each line before it asks whether logging is disabled
COMMON = frozenset(
    {
        *("death", "freeze", "outage", "clock set", "client left"),
        *("store not_done", "store answer_lost", "charge late", "look-up silent", "webhook"),
        *("gateway charge_then_unknown", "gateway unknown", "gateway not_charged", "gateway decline", "gateway needs_shopper"),
        *("order new > running", "order running > finished", "order running > queued", "order running > held"),
        *("order queued > finished", "order queued > held"),
    }
)  # comes about in every hundred stories
RARE = frozenset(
    {
        *("store restarted", "store failed over", "store lost its tail"),
        *("error on record", "power cut"),
        *("disk fault", "order.spooled", "spool.forwarded queued", "spool.forwarded merged", "spool.forwarded noted"),
        *("server cancels", "requeued by an agent", "request duplicated", "refund", "store clock set", "cancel asked"),
        *("confirmed at the bank", "gateway throttle", "gateway refuse", "gateway raise"),
        *("order running > cancelled", "order queued > cancelled", "order held > cancelled", "order held > finished"),
        *("order held > queued", "order queued > running", "order cancelled > running", "order finished > running"),
    }
)  # comes about in every thousand
SELDOM = frozenset({"refund not sent", "refund answer lost"})  # in every ten thousand
MANY, VERY_MANY = 1_000, 10_000
SEEDS_PER_COLLECTION = 200  # rings of references are rare, and looking for them takes longer than a story


@dataclass(frozen=True)
class Verdict:
    """What became of a seed.

    Attributes:
        wrong: what went wrong, in words; empty: all promises held.
        happened: how often each fault and turn came about.
        timeline: the story, told only where something went wrong.
        turns, awaits: those of the first processes, and of the requests, at which a plan can strike.
    """

    seed: int
    plan: Plan
    digest: str
    wrong: tuple[str, ...]
    happened: Counter[str]
    timeline: tuple[str, ...] = ()
    turns: tuple[int, ...] = ()
    awaits: int = 0

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}: {self.plan}", *self.timeline, *(f"WRONG: {each}" for each in self.wrong)])


def play(seed: int, plan: Plan | None = None, *, told: bool = False, change: Callable[[Plan], Plan] | None = None) -> Verdict:
    """Tell one story and judge it. Within `quick`.

    Args:
        plan: None: dealt by the seed.
        change: of the plan that was dealt.
        told: give the timeline even when all is well.
    """
    random.seed(seed)  # jitter of the engine and of tenacity
    world = World(seed, plan, change=change)
    try:
        wrong = world.loop.tell(_judged(world))
    except Livelock as error:
        wrong = [str(error)]
    except Exception as error:  # noqa: BLE001 - a story that breaks is a finding, whatever broke it
        wrong = [f"the story broke: {error!r}"]
    timeline = tuple(world.timeline) if wrong or told else ()
    return Verdict(seed, world.plan, world.digest, tuple(wrong), world.happened, timeline, world.turns, world.awaits)


async def _judged(world: World) -> list[str]:
    await story(world)
    return await judge(world)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """No logging, few collections, few looks at the breakers, keys derived once: for as many stories as there are in here."""
    logger, dice = logging.getLogger("cxguard"), random.getstate()
    level = logger.level
    instead = (
        (breaker_sharing, "LOOK_SECONDS", LOOK_SECONDS),
        (breaker_sharing, "QUIET_LOOK_SECONDS", QUIET_LOOK_SECONDS),
        (seal, "_derive", functools.cache(seal._derive)),
    )
    right = [getattr(module, name) for module, name, _ in instead]
    logger.setLevel(SILENT)
    gc.collect()
    gc.freeze()
    gc.disable()
    for module, name, value in instead:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(instead, right, strict=True):
            setattr(module, name, value)
        gc.enable()
        gc.unfreeze()
        logger.setLevel(level)
        random.setstate(dice)


def never(happened: Counter[str], *, played: int) -> frozenset[str]:
    """What never came about in so many stories, and so was not tried."""
    expected = (COMMON | RARE if played >= MANY else frozenset()) | (SELDOM if played >= VERY_MANY else frozenset())
    return expected - frozenset(happened)


def play_many(
    seeds: range,
    *,
    stop_after: int = 1,
    plan: Callable[[Plan], Plan] | None = None,
    stories: Callable[[int], Iterator[Verdict]] | None = None,
) -> Iterator[Verdict]:
    """One after the other, until *stop_after* have failed.

    Args:
        plan: changes what the dice have dealt.
        stories: what a seed stands for; None: one story.
    """
    failed = 0
    each_of = stories or (lambda seed: iter([play(seed, change=plan)]))
    with quick():
        for number, verdict in enumerate((verdict for seed in seeds for verdict in each_of(seed)), start=1):
            yield verdict
            failed += bool(verdict.wrong)
            if failed >= stop_after:
                return
            if number % SEEDS_PER_COLLECTION == 0:
                gc.collect()
