"""What processes on one store tell one another by hints, and how often each looks all the same.

A hint is a topic: a word, a colon, and what it is about. It says that something is worth a look, and nothing else.

    breakers:shop         what all processes know of the gateways has changed
    queue:shop@1700.5     an order is due, at once or at that moment
    awaited:ID            somebody waits for the end of this operation, in another process than that which works on it
    news:ID               said where somebody waits: its lease has ended, or its answer has gone out
    echo:PROCESS          a process hears itself: so it knows that hints come
"""

from __future__ import annotations

from math import ceil
from typing import Final
from urllib.parse import quote

ECHO_SECONDS: Final = 5.0  # without a hint for so long, a process listens for its own
ECHO_LATE_SECONDS: Final = 1.0  # not heard by then: hints are not known to come
DUE_SOON_SECONDS: Final = 3.0  # what is due later is found by looking: no pause between two looks is longer
_SAFE = "!$&'()*+,-./;=_~"  # in a name, beside letters and digits; what stands between names is not among them


def breakers_topic(namespace: str) -> str:
    """The breakers of a namespace have changed."""
    return f"breakers:{_plain(namespace)}"


def awaited_topic(id: str) -> str:
    """Somebody waits for the end of an operation, elsewhere."""
    return f"awaited:{id}"


def news_topic(id: str) -> str:
    """An operation that was waited for elsewhere has ended, or its answer has gone out."""
    return f"news:{id}"


def echo_topic(process: str) -> str:
    """A process tells itself something."""
    return f"echo:{_plain(process)}"


def due_topic(namespace: str, due_at: float | None, now: float) -> str | None:
    """An order is due, or will be in a moment; None: not so soon that anybody has to be told."""
    if due_at is None or due_at - now > DUE_SOON_SECONDS:
        return None
    tenths = ceil(due_at * 10) if due_at > now else 0  # never before it is due: many orders of one moment are one word
    return f"queue:{_plain(namespace)}@{tenths / 10:.1f}"


def due_in(topic: str, namespace: str) -> float | None:
    """When an order of *namespace* is due by this topic, 0 for at once; None: it is about something else."""
    about, _, due_at = topic.rpartition("@")
    if about != f"queue:{_plain(namespace)}":
        return None
    try:
        return float(due_at)
    except ValueError:
        return 0.0


def about(topic: str, word: str) -> str | None:
    """The operation that *topic* is about, if it begins with *word*."""
    begins, colon, rest = topic.partition(":")
    return rest if colon and begins == word else None


def are_known_to_come(heard_at: float | None, now: float) -> bool:
    """Whether a process may rely on hints: it has heard one lately, be it its own. Seconds, monotonic.

    Args:
        heard_at: when it last heard one that was announced; None: not since it began to listen.
    """
    return heard_at is not None and now - heard_at <= ECHO_SECONDS + ECHO_LATE_SECONDS


def _plain(name: str) -> str:
    return quote(name, safe=_SAFE)[:150]
