"""Closing time goes by what happens in the shop."""

from __future__ import annotations

from cxguard.demo.crowd.closing import Closing
from cxguard.testing import ManualClock


def test_quiet_shop_closes() -> None:
    """Nothing new for so long: nothing more will come."""
    clock = ManualClock()
    closing = Closing(clock, seconds_max=100.0, quiet_seconds=10.0)
    clock.advance(9.9)
    assert not closing.is_over
    clock.advance(0.1)
    assert closing.is_over


def test_news_keep_the_shop_open() -> None:
    """A slow machine gets as long as it needs, while somebody still hears something new."""
    clock = ManualClock()
    closing = Closing(clock, seconds_max=100.0, quiet_seconds=10.0)
    for _ in range(9):
        clock.advance(9.0)
        closing.news()
    assert not closing.is_over


def test_endless_news_end_with_the_longest_time() -> None:
    """A shopper who hears ever new words keeps nobody waiting for ever."""
    clock = ManualClock()
    closing = Closing(clock, seconds_max=100.0, quiet_seconds=10.0)
    for _ in range(12):
        clock.advance(9.0)
        closing.news()
    assert closing.is_over
