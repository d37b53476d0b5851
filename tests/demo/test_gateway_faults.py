"""Scripts of faults: read, refused, and written back."""

from __future__ import annotations

import pytest

from cxguard.demo.gateway.faults import (
    FLAP_SECONDS,
    SCRIPT_PHASES_MAX,
    FaultMode,
    Phase,
    ScriptError,
    parse_script,
    script_text,
    without_flap,
)


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("healthy", (Phase(FaultMode.HEALTHY),)),
        ("  HEALTHY 5s ,refuse 500ms", (Phase(FaultMode.HEALTHY, 5), Phase(FaultMode.REFUSE, 0.5))),
        ("500 1m,down", (Phase(FaultMode.ERROR, 60), Phase(FaultMode.REFUSE))),
        ("slow 2, time_out_after 1.5 s", (Phase(FaultMode.SLOW, 2), Phase(FaultMode.TIME_OUT_AFTER, 1.5))),
    ],
)
def test_script_is_read(text: str, phases: tuple[Phase, ...]) -> None:
    """A mode and a duration for each phase; the last may stay for good."""
    assert parse_script(text) == phases


@pytest.mark.parametrize(
    "text", ["", ",,", "wat", "refuse, healthy", "refuse -1s", "refuse 1h", "refuse 1s healthy", "healthy 1s," * (SCRIPT_PHASES_MAX + 1)]
)
def test_unreadable_script_is_refused_with_an_example(text: str) -> None:
    """Whoever mistypes learns how it is written."""
    with pytest.raises(ScriptError, match=r"write|use one of|has 1 to"):
        parse_script(text)


@pytest.mark.parametrize("mode", list(FaultMode))
def test_each_mode_can_be_written_and_read_back(mode: FaultMode) -> None:
    """The text of a script reads as the same script."""
    phases = (Phase(mode, 2.5), Phase(mode))
    assert parse_script(script_text(phases)) == phases


@pytest.mark.parametrize("mode", list(FaultMode))
def test_flap_is_healthy_and_broken_by_turns(mode: FaultMode) -> None:
    """Only `flap` changes by itself, each FLAP_SECONDS."""
    seen = [without_flap(mode, elapsed_seconds=turn * FLAP_SECONDS + 0.01) for turn in range(3)]
    assert seen == ([FaultMode.HEALTHY, FaultMode.ERROR, FaultMode.HEALTHY] if mode is FaultMode.FLAP else [mode] * 3)
