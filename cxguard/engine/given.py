"""What a guard is given, looked at before anything is made of it: a wrong kind of thing is refused with the line to write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cxguard.config import Settings
from cxguard.core.answer import AnswerSpec
from cxguard.core.breaker import BreakerPolicy
from cxguard.core.caps import Caps
from cxguard.engine.engine import Timeouts
from cxguard.engine.library import Purpose
from cxguard.errors import ConfigurationError
from cxguard.rules import Funnel, Rule, Shop
from cxguard.rules.sources import Chain, Source

_ONE: Mapping[str, tuple[type, str]] = {
    "shop": (Shop, 'Shop("Fern & Co", phone="+44 20 7946 0000")'),
    "funnel": (Funnel, 'Funnel(cart="GET /cart", pay="POST /checkout/pay")'),
    "caps": (Caps, "Caps(order_minor=50_000)"),
    "settings": (Settings, "Settings(heartbeat_seconds=5)"),
    "timeouts": (Timeouts, "Timeouts(attempt_seconds=5)"),
    "breakers": (BreakerPolicy, "BreakerPolicy(consecutive_failures=5)"),
    "duties": (bool, "False"),
}
_EACH: Mapping[str, tuple[type, str]] = {
    "rules": (Rule, '[Rule("POST /checkout/pay", owner=...)]'),
    "purposes": (Purpose, '[Purpose("refund order", later=refund)]'),
}
_GATEWAY = '[HttpGateway("http:shop:live", "https://gateway.example")]'
_GATEWAY_MEMBERS = ("name", "keyed", "key_lifetime_seconds", "settle_seconds", "charge", "find", "cancel", "capture", "refund")


def check_given(store: object, **given: object) -> None:
    """Refuse arguments of `Guard` that are another kind of thing than it works with. None stands for the default.

    Raises:
        ConfigurationError: the first one, and the line to write instead.
    """
    if not isinstance(store, str) and not callable(getattr(store, "open", None)):
        raise ConfigurationError(f'store={_short(store)} is neither an address nor a store: write Guard("sqlite:///shop.db", ...)')
    for name, (kind, example) in _ONE.items():
        if not isinstance(given[name], kind) and (given[name] is not None or name == "shop"):
            raise _refusal(name, given[name], f"no {kind.__name__}", example)
    for name, (kind, example) in _EACH.items():
        for each in _several(name, given[name], example):
            if not isinstance(each, kind):
                raise _refusal(name, each, f"no {kind.__name__}", example)
    _check_purposes(given["purposes"])
    _check_gateways(given["gateways"])
    _check_answers(given["answers"])
    _check_words(given["visitor"], given["namespace"])
    for listener in _several("listeners", given["listeners"], "[count]"):
        if not callable(listener):
            raise _refusal("listeners", listener, "no function", "[count]")


def _check_purposes(purposes: Any) -> None:
    names = [purpose.name for purpose in purposes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f'two purposes have the name {twice!r}, and one of them would be lost: write Purpose("{twice} 2", ...)')


def _check_gateways(gateways: object) -> None:
    for gateway in _several("gateways", gateways, _GATEWAY):
        lacking = [name for name in _GATEWAY_MEMBERS if not hasattr(gateway, name)]
        if lacking:
            raise _refusal("gateways", gateway, f"no gateway, for it has no {lacking[0]!r}", _GATEWAY)


def _check_answers(answers: object) -> None:
    rows = {} if answers is None else answers
    if not isinstance(rows, Mapping) or not all(isinstance(row, AnswerSpec) for row in rows.values()):
        raise _refusal("answers", answers, "no table of AnswerSpec", "{Situation.KEPT: replace(SPECS[Situation.KEPT], status=200)}")


def _check_words(visitor: object, namespace: object) -> None:
    if visitor is not None and not isinstance(visitor, Source | Chain) and not callable(visitor):
        raise _refusal("visitor", visitor, "no source", 'cookie("visitor_id")')
    if not isinstance(namespace, str) or not namespace:
        raise _refusal("namespace", namespace, "no name", '"shop"')


def _several(name: str, value: object, example: str) -> Collection[object]:
    """What can be gone through twice: a generator would be empty afterwards, and the guard without rules."""
    if isinstance(value, str | Mapping) or not isinstance(value, Collection):
        raise _refusal(name, value, "no list", example)
    return value


def _refusal(name: str, value: object, what: str, example: str) -> ConfigurationError:
    return ConfigurationError(f"{name}={_short(value)} is {what}: write Guard(..., {name}={example})")


def _short(value: object) -> str:
    """A value in an error's text: of an object, its class alone."""
    return repr(value)[:60] if isinstance(value, str | int | float | type(None)) else type(value).__name__
