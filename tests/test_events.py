"""Events and the bus."""

from __future__ import annotations

import logging
import re

import pytest

from cxguard.errors import ConfigurationError
from cxguard.events import EVENTS, Bus, Event


def _broken(event: Event) -> None:
    raise ValueError("4111111111111111")


def test_every_name_is_dotted_and_every_line_has_a_meaning() -> None:
    """The table's names have the form `thing.happened` and each says what it means."""
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) and kind.meaning for name, kind in EVENTS.items())


def test_unknown_name_is_refused() -> None:
    """An event that is not in the table cannot be made."""
    with pytest.raises(ConfigurationError, match="add a line to EVENTS"):
        Event("order.lost", 1.0)


def test_listeners_hear_each_event_in_order() -> None:
    """Every listener hears every event once, first come first told."""
    bus, heard = Bus(), []
    bus.listen(lambda event: heard.append(("first", event.name)))
    bus.listen(lambda event: heard.append(("second", event.name)))
    bus.emit(Event("order.queued", 1.0, reference="K7Q2"))
    assert heard == [("first", "order.queued"), ("second", "order.queued")]


def test_failing_listener_neither_raises_nor_silences_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A listener's error stays in the bus: counted, logged once without its text, and the next listener still hears."""
    bus, heard = Bus(), []
    bus.listen(_broken)
    bus.listen(heard.append)
    with caplog.at_level(logging.ERROR, logger="cxguard.events"):
        for _ in range(3):
            bus.emit(Event("lease.lost", 1.0))
    assert len(heard) == 3
    assert bus.errors == {"_broken": 3}
    assert [record.getMessage().count("ValueError") for record in caplog.records] == [1]
    assert "4111" not in caplog.text


def test_listening_twice_is_once_and_unlistening_ends_it() -> None:
    """A listener that was added twice hears an event once, and none after it was removed."""
    bus, heard = Bus(), []
    listener = heard.append
    bus.listen(listener)
    bus.listen(listener)
    bus.emit(Event("lease.lost", 1.0))
    bus.unlisten(listener)
    bus.unlisten(listener)
    bus.emit(Event("lease.lost", 2.0))
    assert [event.at for event in heard] == [1.0]


def test_async_listener_is_refused() -> None:
    """A coroutine function would never run, so it is refused with the way out."""

    async def listener(event: Event) -> None:
        raise AssertionError

    class Callable:
        async def __call__(self, event: Event) -> None:
            raise AssertionError

    for wrong in (listener, Callable()):
        with pytest.raises(ConfigurationError, match="plain `def`"):
            Bus().listen(wrong)  # type: ignore[arg-type]


def test_member_outside_the_table_is_delivered_and_named(said_too_much: set[str]) -> None:
    """A detail member that the table does not name reaches listeners, and the bus says which it was."""
    bus, heard = Bus(), []
    bus.listen(heard.append)
    bus.emit(Event("order.taken", 1.0, detail={"by": "a", "mood": "bad"}))
    assert heard[0].detail["mood"] == "bad"
    assert bus.undeclared == {"order.taken:mood"}
    said_too_much.clear()
