"""Read a moment as a shop says it: seconds since the epoch, or ISO 8601 with its zone."""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

_SECONDS = re.compile(r"[0-9]{9,11}(?:\.[0-9]{1,9})?")  # 1973 to 5138: a count of milliseconds is too long


def moment_of(value: Any) -> float | None:
    """Seconds since the epoch; None: it cannot be read without guessing (a time without a zone, another unit)."""
    if isinstance(value, datetime):
        return value.timestamp() if value.tzinfo is not None else None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = f"{value:f}" if math.isfinite(value) else ""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return moment_of(datetime.fromisoformat(text)) if "-" in text else None
    except ValueError:
        return None
