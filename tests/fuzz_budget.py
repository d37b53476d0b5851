"""How long the dice are thrown: a moment in the gate; `CXGUARD_FUZZ=50 python -m pytest tests/fuzz` throws them fifty times as often."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = max(1, int(os.environ.get("CXGUARD_FUZZ", "1")))


def thrown(examples: int) -> Callable[[Any], Any]:
    """A budget of so many examples in the gate. What was thrown today is thrown tomorrow, unless more was asked for."""
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=quiet, derandomize=TIMES == 1, print_blob=True)
