"""The numbers of a breaker are looked at when they are set."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.breaker_policy import BreakerPolicy
from cxguard.errors import ConfigurationError


def test_a_number_out_of_its_range_is_refused() -> None:
    """With the line to write instead."""
    with pytest.raises(ConfigurationError, match=r"failure_rate=1.5 is not a number .*: write BreakerPolicy\(failure_rate=0.5\)"):
        BreakerPolicy(failure_rate=1.5)


@pytest.mark.parametrize("pause", ["open_seconds", "throttle_seconds"])
def test_the_first_pause_may_be_the_longest_but_not_longer(pause: str) -> None:
    """Pauses that are all alike are no mistake; a longest one that is never reached is."""
    most = f"{pause}_max"
    alike: dict[str, Any] = {pause: 30.0, most: 30.0}
    assert getattr(BreakerPolicy(**alike), most) == 30.0
    with pytest.raises(ConfigurationError) as refused:
        BreakerPolicy(**{**alike, pause: 30.5})
    assert str(refused.value) == f"{pause}=30.5 is longer than {most}=30: write BreakerPolicy({pause}=30.5, {most}=30.5)"
