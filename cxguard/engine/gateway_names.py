"""The gateways of a guard by their names, and who names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cxguard.engine.library import Purpose
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import Gateway
from cxguard.rules import Rule


def gateways_by_name(gateways: Sequence[Gateway]) -> dict[str, Gateway]:
    """Each account and mode under a name of its own.

    Raises:
        ConfigurationError: two have the same.
    """
    named = {gateway.name: gateway for gateway in gateways}
    if len(named) != len(gateways):
        raise ConfigurationError("two gateways have the same name: give each account and mode a name of its own")
    return named


def check_gateway_names(gateways: Mapping[str, Gateway], rules: Sequence[Rule], purposes: Iterable[Purpose]) -> None:
    """Refuse a name that no gateway has: it would be found out by a shopper."""
    named = [(f'Rule("{rule.match}")', rule.gateways) for rule in rules]
    named += [(f'Purpose("{purpose.name}")', purpose.gateways) for purpose in purposes]
    known = ", ".join(map(repr, gateways)) or "none"
    for where, names in named:
        for name in names:
            if name not in gateways:
                raise ConfigurationError(f"{where} names the gateway {name!r}; the guard has {known}: add it to Guard(..., gateways=[...])")
