"""Logs: one structured event per fact, with nothing in it that a shopper would not want read.

Every line of cxguard goes through the same steps, whatever the host program has configured, and even if it has
configured nothing: the exception becomes text (never with local variables: a request's body is one), then secrets go by
the name of their field, card numbers and e-mail addresses by their looks, and what is left is bounded and made
printable. The line then goes to the standard library's logger of its name, as JSON, for any handler to write.

`configure_logging` is for programs that have no logging of their own; `log_event` is the listener that writes events.
"""

from __future__ import annotations

import json as _json
import logging
import math
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, TextIO

import structlog

from cxguard.core.cards import CARD_MARK, redact, split_card
from cxguard.errors import ConfigurationError, StepMismatch
from cxguard.events import Event

FIELD_CHARS_MAX = 2_000  # of one value: longer ones are documents
EXCEPTION_CHARS_MAX = 12_000  # the head says where it began, the tail what it was
HALF_CHARS_MAX = 400  # the longest address that is recognised
CALLS_MAX = 8  # of a traceback: from the shop's own function to what it called
ITEMS_MAX = 50  # of one mapping or list
DEPTH_MAX = 4
LARGE_NUMBER = 10**12  # from here on an integer may be a card's number
HUGE_NUMBER = 10**40  # and from here on it counts nothing

REDACTED = "[redacted]"
CUT = "..."

# Parts of names in lower case, without anything but letters and digits.
_SECRET_NAMES = re.compile(
    "authorization|cookie|passw|secret|token|apikey|privatekey|credential|idempotencykey|csrf|session(?:key|cookie)|signature|"
    "cardn|ccnum|creditcard|cardholder|cvv|cvc|cvn|csc$|^pan$|securitycode|verificationvalue|iban|^key$|^contact$|^email|^phone"
)
# Line breaks, control characters, and those that turn the direction of writing: a value stays on its line, as it is read.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))

# Facts that somebody should look at. The others are news.
WARNINGS = frozenset(
    {
        *("operation.flagged", "order.held", "payment.false_decline_stopped", "lease.lost", "breaker.opened"),
        *("store.unavailable", "spool.refused", "owner.unstable", "session.dropped", "duty.failed"),
    }
)

Fields = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one part: `get_logger("leases").warning("lease.not_renewed", why=..)`. Safe with anything in its fields."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"cxguard.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # text, without locals
            _safe,
            _hand_over,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger


def where_raised(error: BaseException) -> dict[str, Any]:
    """An exception for a line's fields: its class, and the last calls down to where it came from.

    For what a shop's own code raises: its text may quote a cookie or what a shopper typed, and nobody could tell by its looks.
    Only where the code is wrong by our own word does the line say what to write instead.
    """
    calls = traceback.extract_tb(error.__traceback__)[-CALLS_MAX:]
    words = {"why": str(error)} if isinstance(error, ConfigurationError | StepMismatch) else {}
    return {"error": type(error).__name__, **words, "where": [f"{call.filename}:{call.lineno} {call.name}" for call in calls]}


def log_event(event: Event) -> None:
    """The listener that writes each event as one line; every guard has it."""
    level = logging.WARNING if event.name in WARNINGS else logging.INFO
    if not _EVENTS_LOGGER.isEnabledFor(level):
        return  # every guarded request tells a few: what nobody reads must cost next to nothing
    names = {"operation": event.operation, "reference": event.reference, "rule": event.rule, "session": event.session}
    about = {name: value for name, value in names.items() if value}
    _events.log(level, event.name, **{**event.detail, **about, "at": event.at})


def configure_logging(*, json: bool | None = None, level: int | str = logging.INFO, stream: TextIO | None = None) -> None:
    """Write cxguard's logs to *stream* (standard error by default). Calling it again replaces what it did before.

    Args:
        json: one JSON object a line; False: for eyes. By default for eyes if the stream is a terminal.
        level: from which level on, as in `logging`.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(SafeFormatter(json=not target.isatty() if json is None else json))
    logger = logging.getLogger("cxguard")
    for old in [old for old in logger.handlers if isinstance(old.formatter, SafeFormatter)]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # the root's handlers would write each line again


class SafeFormatter(logging.Formatter):
    """Formats any record, cxguard's or another's, with nothing secret in it. Put it on a handler of your own."""

    def __init__(self, *, json: bool = True) -> None:
        super().__init__()
        self._render = as_json if json else as_console

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "cxguard_fields", None)
        return self._render(safe(self._foreign(record)) if fields is None else fields)

    def _foreign(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        fields["timestamp"] = self.formatTime(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return fields


def safe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields without secrets, bounded and printable. Never raises."""
    kept = {_text(_text_of(name)): _value(name, value, depth=1) for name, value in list(fields.items())[:ITEMS_MAX]}
    if "exception" in fields:
        kept["exception"] = _lines(str(fields["exception"]))
    return kept


def as_json(fields: Mapping[str, Any]) -> str:
    return _json.dumps(fields, ensure_ascii=False, default=_text_of, separators=(",", ":"))


def as_console(fields: Mapping[str, Any]) -> str:
    """`12:00:01 warning breaker.opened gateway=cards why="5 failures"`, and an exception in the lines after it."""
    rest = {name: value for name, value in fields.items() if name not in ("timestamp", "level", "event", "logger", "exception")}
    time_of_day = str(fields.get("timestamp", ""))[11:19]
    parts = [time_of_day, f"{fields.get('level', ''):<7}", str(fields.get("event", ""))]
    parts += [f"{name}={value if isinstance(value, str) and value.isalnum() else as_json_value(value)}" for name, value in rest.items()]
    trace = str(fields.get("exception", "")).replace("\n", "\n    ")
    return " ".join(parts) + (f"\n    {trace}" if trace else "")


def as_json_value(value: Any) -> str:
    return _json.dumps(value, ensure_ascii=False, default=_text_of)


def _safe(_logger: Any, _method: str, fields: Fields) -> Fields:
    return safe(fields)


def _hand_over(_logger: Any, _method: str, fields: Fields) -> tuple[tuple[str], dict[str, Any]]:
    """The line as text for any handler, and its fields for `SafeFormatter`.

    The exception is text by now. Left on the record, another's formatter would write it again, with all that it quotes.
    """
    return (as_json(fields),), {"extra": {"cxguard_fields": fields}, "exc_info": None}


def _value(name: Any, value: Any, *, depth: int) -> Any:
    if value is not None and _is_secret(name):
        return REDACTED
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no nan
    if isinstance(value, int):
        return _number(value)
    if isinstance(value, Mapping):
        return _mapping(value, depth=depth)
    if is_dataclass(value) and not isinstance(value, type):
        return _mapping({one.name: getattr(value, one.name, None) for one in dataclass_fields(value) if one.repr}, depth=depth)
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) >= 3 and split_card(list(value)[:ITEMS_MAX]):
            return CARD_MARK
        return [_value("", one, depth=depth + 1) for one in list(value)[:ITEMS_MAX]] if depth < DEPTH_MAX else CUT
    return _text(_text_of(value))


@lru_cache(1_024)
def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and _SECRET_NAMES.search(re.sub("[^a-z0-9]", "", name.lower())) is not None


def _mapping(value: Mapping[Any, Any], *, depth: int) -> Any:
    if depth >= DEPTH_MAX:
        return CUT
    return {_text(_text_of(name)): _value(name, one, depth=depth + 1) for name, one in list(value.items())[:ITEMS_MAX]}


def _number(value: int) -> int | str:
    if abs(value) < LARGE_NUMBER:
        return value
    if abs(value) >= HUGE_NUMBER:
        return CUT
    text = _text(str(value))
    return value if text == str(value) else text


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value[: FIELD_CHARS_MAX * 2]).decode("utf-8", "replace")
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  somebody's own repr may fail in any way; a line must not
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _text(text: str) -> str:
    short = text[: FIELD_CHARS_MAX * 2]  # so that a huge value costs little
    clean = redact(short)
    if len(short) < len(text):
        clean = clean[:-HALF_CHARS_MAX]  # the cut may have left half of a number or an address, which nobody recognises
    clean = _UNPRINTABLE.sub(_escaped, clean)
    return clean if len(clean) <= FIELD_CHARS_MAX and len(short) == len(text) else clean[:FIELD_CHARS_MAX] + CUT


def _lines(text: str) -> str:
    clean = _UNPRINTABLE_IN_LINES.sub(_escaped, redact(text))
    half = EXCEPTION_CHARS_MAX // 2
    return clean if len(clean) <= EXCEPTION_CHARS_MAX else f"{clean[:half]}\n{CUT}\n{clean[-half:]}"


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


_EVENTS_LOGGER = logging.getLogger("cxguard.event")
_events = get_logger("event")
