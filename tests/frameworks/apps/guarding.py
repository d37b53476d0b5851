"""The guard that stands around each of these shops: the same rules, whatever the framework."""

from __future__ import annotations

import os
from typing import Any

from frameworks.apps.known import BODY_BYTES_MAX, KEYS, NAMING
from frameworks.apps.till import GATEWAY, ask, place

from cxguard import Guard, Reading, Rule, Shop, form_field, header, json_field, redirects_to, replay
from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.engine import Timeouts
from cxguard.rules.sources import AnySource

ROOT = os.environ.get("SHOP_ROOT", "")  # where the shop is mounted
LIFESPAN_FAILS = "SHOP_LIFESPAN_FAILS" in os.environ
LIMITS: dict[str, Any] = {"body_bytes_max": BODY_BYTES_MAX, "body_seconds_max": 0.5, "lease_seconds": 2.0, "wait_seconds": 10.0}


def rules(owner: AnySource) -> list[Rule]:
    """One where the guard charges, one where the shop does, and a form."""
    money: dict[str, Any] = {"amount_minor": json_field("amount"), "currency": json_field("currency")}
    return [
        Rule(f"POST {ROOT}/pay", owner=owner, key=header("Idempotency-Key"), later=place, terms="1", **money, **LIMITS),
        Rule(f"POST {ROOT}/pay-now", owner=owner, key=header("Idempotency-Key"), **money, **LIMITS),
        Rule(f"POST {ROOT}/shop-pay", owner=owner, key=header("Idempotency-Key"), charged_by="shop", resolve=ask, **money, **LIMITS),
        Rule(
            f"POST {ROOT}/checkout",
            owner=owner,
            key=form_field("cart"),
            amount_minor=form_field("amount"),
            currency=form_field("currency"),
            reads={Reading.SUCCEEDED: redirects_to("*/thank-you/*")},
            ignore_fields=("csrf_token", "csrfmiddlewaretoken"),
            later=replay,
            terms="1",
            **LIMITS,
        ),
    ]


def make_guard(shop_rules: list[Rule]) -> Guard:
    """The guard; its breaker never opens here, because one test's outage must not be the next one's."""
    return Guard(
        os.environ["SHOP_STORE"],
        rules=shop_rules,
        shop=Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example"),
        gateways=[GATEWAY],
        secret=NAMING,
        keys=KEYS,
        timeouts=Timeouts(attempt_seconds=1.0, find_seconds=0.5, pause_seconds=0.02),
        breakers=BreakerPolicy(consecutive_failures=1_000_000, calls_min=1_000_000),
    )
