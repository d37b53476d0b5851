"""How a step's result becomes bytes and comes back: JSON by default, or a codec of the shop's own.

A dataclass codec is strict about the class, not about the bytes: what it could not read back is refused when the codec
is made, at the program's start, and not days later over a paid order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Generic, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from cxguard.errors import ConfigurationError

T = TypeVar("T")


class Codec(Protocol[T]):
    """Writes a result of one kind, and reads it back: `op.step(..., codec=...)`.

    What it wrote must be readable by every later version of the shop for as long as an order may be on its way.
    """

    def dumps(self, value: T, /) -> bytes: ...

    def loads(self, data: bytes, /) -> T: ...


class _Functions(Generic[T]):
    """A codec of two functions."""

    def __init__(self, dumps: Callable[[T], bytes], loads: Callable[[bytes], T]) -> None:
        self.dumps = dumps
        self.loads = loads


def _plain_json_bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


PLAIN: Codec[Any] = _Functions(_plain_json_bytes, json.loads)
"""Numbers, strings, lists and dicts, as JSON has them: a tuple comes back as a list."""


def codec_of(kind: Any) -> Codec[Any]:
    """A codec for the results of one class.

    Args:
        kind: a dataclass whose members are plain (texts, numbers, `Decimal`, dates, UUIDs, enums, other such dataclasses,
            and lists, dicts or `None` of these); a pydantic model; or a pydantic `TypeAdapter`, for all else.

    Raises:
        ConfigurationError: a class that could not be read back. The text names the member.
    """
    if hasattr(kind, "model_validate_json"):
        return _Functions(lambda value: value.model_dump_json().encode(), kind.model_validate_json)
    if hasattr(kind, "validate_json") and hasattr(kind, "dump_json"):
        return _Functions(kind.dump_json, kind.validate_json)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ConfigurationError(
            f"codec_of({getattr(kind, '__name__', repr(kind))}) knows dataclasses, pydantic models and TypeAdapters: write "
            "codec_of(Invoice), or give op.step a codec of your own with dumps and loads"
        )
    return _Dataclass(kind)


def check_codec(codec: Any) -> Codec[Any]:
    """*codec*, if it is one; None stands for JSON.

    Raises:
        ConfigurationError: it is none: nothing was run.
    """
    if codec is None:
        return PLAIN
    if isinstance(codec, type) or not (callable(getattr(codec, "dumps", None)) and callable(getattr(codec, "loads", None))):
        name = getattr(codec, "__name__", type(codec).__name__)
        raise ConfigurationError(f"codec={name} is none: write codec=codec_of(Invoice), or an object with dumps and loads; nothing was run")
    return cast(Codec[Any], codec)


# --- dataclasses


class _Dataclass(Generic[T]):
    """Writes one dataclass, and nothing that would come back as something else: a text where a number is declared, say."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._read = _reader(kind, where=kind.__name__)

    def dumps(self, value: T) -> bytes:
        if type(value) is not self._kind:
            raise TypeError(f"a {type(value).__name__} instead of a {self._kind.__name__}")
        members = asdict(cast(Any, value))
        data = json.dumps(members, separators=(",", ":"), allow_nan=False, default=_as_json).encode()
        if asdict(cast(Any, self.loads(data))) != members:
            raise TypeError(f"a {self._kind.__name__} that holds other types than it declares")
        return data

    def loads(self, data: bytes) -> T:
        read: T = self._read(json.loads(data))
        return read


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} cannot be written")


def _decimal(text: Any) -> Decimal:
    """A number that was written as one is refused: from a float it would come back with all its binary digits."""
    if not isinstance(text, str):
        raise TypeError("a Decimal is written as text")
    return Decimal(text)


_FROM_TEXT: Mapping[Any, Callable[[Any], Any]] = {
    Decimal: _decimal,
    UUID: UUID,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}
_AS_IT_IS = frozenset({str, int, float, bool, NoneType, Any})


def _reader(kind: Any, *, where: str) -> Callable[[Any], Any]:
    """From what JSON gives to a value of *kind*."""
    if kind in _AS_IT_IS:
        return lambda value: value
    if kind in _FROM_TEXT:
        return _FROM_TEXT[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    return _generic_reader(kind, where=where)


def _dataclass_reader(kind: type[Any]) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    for member in fields(kind):
        if not member.init:
            raise ConfigurationError(f"{kind.__name__}.{member.name} is not given when it is made: write a codec of your own for it")
    readers = {member.name: _reader(hints[member.name], where=f"{kind.__name__}.{member.name}") for member in fields(kind)}
    return lambda value: kind(**{name: readers[name](each) for name, each in value.items()})


def _generic_reader(kind: Any, *, where: str) -> Callable[[Any], Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType) and len(inner) == 2 and NoneType in inner:
        read = _reader(next(each for each in inner if each is not NoneType), where=where)
        return lambda value: None if value is None else read(value)
    if origin is list or (origin is tuple and inner[1:] == (...,)):
        read = _reader(inner[0], where=where)
        return lambda value: origin(read(each) for each in value)
    if origin is dict and inner[0] is str:
        read = _reader(inner[1], where=where)
        return lambda value: {name: read(each) for name, each in value.items()}
    raise ConfigurationError(f"{where} is a {kind}, which could not be read back: write codec_of(TypeAdapter(...)), or a codec of your own")
