"""Small stories struck at every point, and big ones with another order of turns."""

from __future__ import annotations

from collections import Counter

import pytest

from cxguard.testing.simulation.run import Verdict, play_many
from cxguard.testing.simulation.strategies import PAIRS, Strategy, stories

CANCELLED_SEEDS = 12
DYING_SEED = 5  # of few turns: its stories take a second or two
PAIRED_SEED = 1


def _told(seeds: range, strategy: Strategy) -> list[Verdict]:
    return list(play_many(seeds, stories=lambda seed: stories(seed, strategy)))


@pytest.mark.parametrize(
    ("strategy", "seeds"),
    [
        (Strategy.CRASHES, range(DYING_SEED, DYING_SEED + 1)),
        (Strategy.CANCELS, range(CANCELLED_SEEDS)),
        (Strategy.PAIRS, range(PAIRED_SEED, PAIRED_SEED + 1)),
        (Strategy.PRIORITIES, range(20)),
    ],
    ids=lambda value: str(value) if isinstance(value, Strategy) else "",
)
def test_promises_hold_wherever_it_strikes(strategy: Strategy, seeds: range) -> None:
    """More of them: `cxguard simulate --strategy crashes --seeds 100`."""
    for verdict in _told(seeds, strategy):
        assert not verdict.wrong, str(verdict)


def test_a_process_dies_at_each_of_its_turns() -> None:
    """No turn is left out, none is struck twice, and each strike is a death."""
    first, *struck = _told(range(DYING_SEED, DYING_SEED + 1), Strategy.CRASHES)
    assert Counter(strike.process for each in struck for strike in each.plan.strikes or ()) == Counter(
        {process: turns for process, turns in enumerate(first.turns) if turns}
    )
    assert all(each.happened["death"] == 1 for each in struck)


def test_a_request_is_cancelled_at_each_of_its_awaits() -> None:
    """As a server does that stops, or whose client has gone."""
    first, *struck = _told(range(2, 3), Strategy.CANCELS)
    assert [strike.at for each in struck for strike in each.plan.strikes or ()] == list(range(1, first.awaits + 1))
    assert all(each.happened["struck by a cancel"] == 1 for each in struck)


def test_pairs_strike_twice() -> None:
    """A second death is one of the process that took the first one's place."""
    _, *struck = _told(range(PAIRED_SEED, PAIRED_SEED + 1), Strategy.PAIRS)
    assert len(struck) == PAIRS
    assert any(each.happened["death"] == 2 for each in struck)
