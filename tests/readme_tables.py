"""The README's tables of settings and events, as the code has them. `python tests/readme_tables.py` writes them anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from cxguard import Caps, Guard, Purpose, Rule
from cxguard.config import Settings
from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.engine import Timeouts
from cxguard.events import EVENTS
from cxguard.rules.sources import Source

README = Path(__file__).resolve().parent.parent / "README.md"
NEEDED = "required"
_ENTRY = re.compile(r"^(?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): (?P<text>.*)$")


def described(thing: type) -> Iterator[tuple[list[str], str]]:
    """What the docstring says of each setting, below `Args:` or `Attributes:`; several may share one sentence."""
    doc = inspect.getdoc(thing) or ""
    part = re.search(r"(?ms)^(?:Args|Attributes):\n(.*?)(?:\n\n|\Z)", doc)
    found: list[tuple[list[str], str]] = []
    for line in part[1].splitlines() if part else []:
        entry = _ENTRY.match(line.strip()) if line.startswith("    ") and not line.startswith("     ") else None
        if entry:
            found.append((entry["names"].split(", "), entry["text"]))
        else:
            names, text = found[-1]
            found[-1] = (names, f"{text} {line.strip()}")
    return iter(found)


def value_text(value: Any) -> str:
    """A default as it is written in code."""
    if isinstance(value, Source):
        return value.name
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return repr(value)
    return f"{value:_.10g}" if value == int(value) else f"{value:g}"


def code(text: str) -> str:
    return f"`{text}`"


def limits(thing: type, *, prefix: str = "") -> list[str]:
    """Numbers with their range and the reason for their default."""
    numbers = [one for one in fields(thing) if "why" in one.metadata]
    rows = [(code(prefix + one.name), code(value_text(one.default)), _range(one), one.metadata["why"]) for one in numbers]
    return table(("setting", "default", "from to", "why"), rows)


def _range(one: Field[Any]) -> str:
    if isinstance(one.default, bool):
        return "on or off"
    return f"{value_text(one.metadata['least'])} to {value_text(one.metadata['most'])}"


def choices(thing: type) -> list[str]:
    """Settings that are no numbers: what each means."""
    signature = inspect.signature(thing)
    rows = [
        (", ".join(code(name) for name in names), ", ".join(_default(signature, name) for name in names), _escaped(text))
        for names, text in described(thing)
        if all(name in signature.parameters for name in names)
    ]
    return table(("setting", "default", "what it says"), rows)


def _default(signature: inspect.Signature, name: str) -> str:
    default = signature.parameters[name].default
    return NEEDED if default is inspect.Parameter.empty or name == "owner" else code(value_text(default))


def plain(thing: type) -> list[str]:
    """A dataclass of numbers, told by its docstring."""
    defaults = {one.name: NEEDED if one.default is MISSING else code(value_text(one.default)) for one in fields(thing)}
    rows = []
    for names, text in described(thing):
        meant = names + [name for name in re.findall(r"`([a-z_]+)`", text) if name in defaults and name not in names]
        rows.append((", ".join(map(code, meant)), ", ".join(defaults[name] for name in meant), _escaped(text)))
    return table(("setting", "default", "what it says"), rows)


def events() -> list[str]:
    """Every event with its members."""
    rows = [(code(name), kind.meaning, ", ".join(sorted(kind.members))) for name, kind in EVENTS.items()]
    return table(("event", "what happened", "members"), rows)


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows)]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


TABLES: dict[str, Callable[[], list[str]]] = {
    "guard": lambda: choices(Guard),
    "rule": lambda: choices(Rule),
    "rule numbers": lambda: limits(Rule),
    "settings": lambda: limits(Settings),
    "timeouts": lambda: limits(Timeouts),
    "caps": lambda: plain(Caps),
    "breakers": lambda: limits(BreakerPolicy),
    "purpose": lambda: plain(Purpose),
    "purpose numbers": lambda: limits(Purpose),
    "events": events,
}


def block(name: str) -> re.Pattern[str]:
    """Where a table stands in the README."""
    return re.compile(rf"(?s)(?<=<!-- table: {name} -->\n).*?\n?(?=<!-- end -->)")


def main() -> None:
    text = README.read_text("utf-8")
    for name, make in TABLES.items():
        written = "\n".join(make()) + "\n"
        text = block(name).sub(lambda _: written, text)  # noqa: B023 - used at once
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
