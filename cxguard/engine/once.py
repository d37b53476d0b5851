"""`@guard.once(key=...)`: a function that takes effect once for each key, however often it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from cxguard.engine.library import Purpose
from cxguard.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

OWNER = "once"  # such a key names the thing itself: an event, a refund, a mail


class RunsOnce(Protocol):
    """What the decorator needs of a guard."""

    purposes: dict[str, Purpose]

    @property
    def sync(self) -> Any: ...

    async def run(self, call: Any, *args: Any, **options: Any) -> Any: ...


def once(
    guard: RunsOnce,
    *,
    key: str | Callable[..., str],
    purpose: str | None,
    owner: str,
    repeatable: bool,
    wait_seconds: float,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """See `Guard.once`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = purpose or f"{function.__module__}.{function.__qualname__}"
        if "<locals>" in name and purpose is None:
            raise ConfigurationError(f'{function.__name__} is made anew each time: give it a lasting name, @guard.once(purpose="...")')
        guard.purposes[name] = Purpose(name, wait_seconds=wait_seconds)
        key_of = _key_of(function, key)
        options = {"purpose": name, "owner": owner}
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                async def call(op: Any) -> Any:
                    if repeatable:
                        return await function(*args, **kwargs)
                    return await op.step("call", function, *args, **kwargs)

                return await guard.run(call, key=key_of(*args, **kwargs), **options)

            return cast(Callable[P, R], wrapped)

        @functools.wraps(function)
        def wrapped_sync(*args: P.args, **kwargs: P.kwargs) -> R:
            def call(op: Any) -> R:
                if repeatable:
                    return function(*args, **kwargs)
                result: R = op.step("call", function, *args, **kwargs)
                return result

            result: R = guard.sync.run(call, key=key_of(*args, **kwargs), **options)
            return result

        return wrapped_sync

    return decorate


def _key_of(function: Callable[..., Any], key: str | Callable[..., str]) -> Callable[..., str]:
    """A function from the call's arguments to its key.

    Raises:
        ConfigurationError: no such parameter.
    """
    if callable(key):
        return lambda *args, **kwargs: _named(key(*args, **kwargs), function)
    signature = inspect.signature(function)
    if key not in signature.parameters:
        raise ConfigurationError(
            f"{function.__name__} has no parameter {key!r}: write @guard.once(key=lambda event: event['id']), or the name of one of "
            f"{', '.join(signature.parameters) or 'its parameters (it has none)'}"
        )

    def of(*args: Any, **kwargs: Any) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return _named(bound.arguments[key], function)

    return of


def _named(value: Any, function: Callable[..., Any]) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise TypeError(f"the key of {function.__name__} is {value!r}: give a text or a number that names what must happen once")
    return str(value)
