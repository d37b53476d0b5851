"""Whether what was read is of the kinds that were written: nobody reckons with a record that is damaged."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Made = TypeVar("Made")

_TYPES = tuple[type, ...]


@cache
def kinds_of(kind: type) -> dict[str, _TYPES]:
    """For each member of a dataclass, what its value may be."""
    return {name: tuple(_kinds(hint)) for name, hint in get_type_hints(kind).items()}


def checked(made: Made) -> Made:
    """The same value.

    Raises:
        TypeError: a member is of a kind that was never written.
    """
    kind: type = type(made)
    for name, kinds in kinds_of(kind).items():
        if not isinstance(getattr(made, name), kinds):
            raise TypeError(f"{name} of a {kind.__name__} is damaged: restore the record from a backup")
    return made


def _kinds(hint: Any) -> Iterator[type]:
    """A union's members one by one; of `tuple[Send, ...]` and the like only what holds them."""
    origin = get_origin(hint)
    if hint is Any:
        yield object
    elif origin in (Union, types.UnionType):
        for each in get_args(hint):
            yield from _kinds(each)
    elif hint is float:
        yield from (float, int)
    elif origin is not None:
        yield dict if issubclass(dict, origin) else origin
    else:
        yield hint
