"""Many stories in a few real processes. Each process plays a batch and is gone: nothing of one batch reaches the next."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial

from cxguard.testing.simulation.run import Verdict, play_many
from cxguard.testing.simulation.strategies import Strategy, stories

BATCH = 100  # stories of one process: its start is then a hundredth of its time
FAILED_MAX = 3  # of a batch; more of the same tell nothing new


def play_in_processes(seeds: range, *, processes: int, strategy: Strategy = Strategy.DICE) -> Iterator[Verdict]:
    """The verdicts of *seeds*, in their order; after one that failed, the batches that have begun come to their end."""
    batch = BATCH if strategy in (Strategy.DICE, Strategy.PRIORITIES) else 1  # each other seed is a hundred stories by itself
    batches = [seeds[first : first + batch] for first in range(0, len(seeds), batch)]
    if processes == 1 or len(batches) == 1:
        yield from play_many(seeds, stop_after=FAILED_MAX, stories=partial(stories, strategy=strategy))
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        for verdicts in pool.imap(partial(play_batch, strategy=strategy), batches):
            yield from verdicts
            if any(verdict.wrong for verdict in verdicts):
                return


def play_batch(seeds: range, strategy: Strategy) -> list[Verdict]:
    """In a process of its own."""
    return list(play_many(seeds, stop_after=FAILED_MAX, stories=partial(stories, strategy=strategy)))
