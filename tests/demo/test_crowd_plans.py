"""The crowd is the same for the same seed, and holds every habit."""

from __future__ import annotations

import pytest

from cxguard.demo.crowd.plans import ARRIVAL_SECONDS, Channel, Habit, plan_crowd


def test_same_seed_same_crowd() -> None:
    """Both shops meet the very same people."""
    assert plan_crowd(50, seed=7) == plan_crowd(50, seed=7)
    assert plan_crowd(50, seed=7) != plan_crowd(50, seed=8)


@pytest.mark.parametrize("seed", range(5))
def test_crowd_is_a_real_one(seed: int) -> None:
    """Each habit and channel occurs, most cards are good, and everybody has a card of her own."""
    plans = plan_crowd(300, seed=seed)
    assert len(plans) == 300 and {plan.habit for plan in plans} == set(Habit)
    assert {plan.channel for plan in plans} == set(Channel)
    assert len({plan.source for plan in plans}) == 300
    assert sum(plan.source.startswith("tok_ok_") for plan in plans) == 282
    assert all(0 <= plan.arrives_at <= ARRIVAL_SECONDS for plan in plans)


def test_who_closes_the_tab_came_with_a_browser() -> None:
    """An app has no tab; and only a browser's order may be kept for somebody who has gone."""
    assert all(plan.channel is Channel.PAGES for plan in plan_crowd(300, seed=1) if plan.habit is Habit.CLOSED_TAB)


@pytest.mark.parametrize("shoppers", [0, 1, 2, 7, 60])
def test_crowd_of_any_size(shoppers: int) -> None:
    """As many plans as shoppers, numbered from 1."""
    assert [plan.number for plan in plan_crowd(shoppers, seed=3)] == list(range(1, shoppers + 1))
