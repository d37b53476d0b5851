"""A session as the bytes that the store keeps. Newer members are ignored, newer choices are left out: an old process
may fold a session that a newer one has written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from cxguard.core.message import Message, message_of
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Session, Shown, Stage

FORMAT = 1
_STAGES = {stage.value: stage for stage in Stage}
_Made = TypeVar("_Made")


def session_to_bytes(session: Session) -> bytes:
    """Compact JSON that `session_from_bytes` reads back."""
    value = {
        "v": FORMAT,
        "id": session.id,
        "reached": dict(session.reached),
        "shown": [_shown_to_json(shown) for shown in session.shown],
        "exposures": [_exposed_to_json(exposure) for exposure in session.exposures],
        "bought": session.bought and [session.bought.at, session.bought.amount_minor, session.bought.currency, session.bought.reference],
        "basket": session.basket and [*_basket_to_json(session.basket), session.basket_at],
        "about": [session.market, session.language, session.device],
        "last_at": session.last_at,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def session_from_bytes(body: bytes) -> Session:
    """Read what `session_to_bytes` wrote.

    Raises:
        ValueError: it is not a session. The caller starts a new one.
    """
    try:
        return _session(json.loads(body))
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"these {len(body)} bytes are not a session ({type(error).__name__}): start a new one") from error


def _session(value: Mapping[str, Any]) -> Session:
    market, language, device = value["about"][:3]
    basket = value["basket"]
    return Session(
        id=value["id"],
        reached={_STAGES[stage]: float(at) for stage, at in value["reached"].items() if stage in _STAGES},
        shown=_known(_shown_from_json, value["shown"]),
        exposures=_known(lambda told: _exposed_from_json(value["id"], told), value["exposures"]),
        bought=Bought(value["id"], *value["bought"][:4]) if value["bought"] else None,
        basket=Basket(*basket[:3]) if basket else None,
        basket_at=float(basket[3]) if basket else 0.0,
        market=market,
        language=language,
        device=device,
        last_at=float(value["last_at"]),
    )


def _known(read: Any, values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(made for made in map(read, values) if made is not None)


def _basket_to_json(basket: Basket) -> list[Any]:
    return [basket.amount_minor, basket.currency, basket.items]


def _shown_to_json(shown: Shown) -> list[Any]:
    return [shown.stage, shown.message.label, shown.cause, shown.by, shown.first_at, shown.times]


def _shown_from_json(value: Sequence[Any]) -> Shown | None:
    stage, label, cause, by, first_at, times = value[:6]
    try:
        return Shown(Stage(stage), message_of(label), Cause(cause), By(by), float(first_at), int(times))
    except ValueError:
        return None


def _exposed_to_json(exposure: Exposed) -> dict[str, Any]:
    value = {
        "id": exposure.id,
        "stage": exposure.stage,
        "at": exposure.at,
        "message": [exposure.message.key, exposure.message.version, exposure.message.text],
        "cause": exposure.cause,
        "by": exposure.by,
        "status": exposure.status,
        "basket": exposure.basket and _basket_to_json(exposure.basket),
        "about": [exposure.market, exposure.language, exposure.device],
        "field": exposure.field_name,
        "reference": exposure.reference,
    }
    return {name: member for name, member in value.items() if member not in (None, "", ["", "", ""])}


def _exposed_from_json(session: str, value: Mapping[str, Any]) -> Exposed | None:
    key, version, text = value["message"][:3]
    market, language, device = value.get("about", ("", "", ""))[:3]
    basket = value.get("basket")
    try:
        stage, cause, by = Stage(value["stage"]), Cause(value["cause"]), By(value["by"])
    except ValueError:
        return None
    return Exposed(
        id=value["id"],
        session=session,
        stage=stage,
        at=float(value["at"]),
        message=Message(key=key, version=version, text=text),
        cause=cause,
        by=by,
        status=value.get("status", 0),
        basket=Basket(*basket[:3]) if basket else None,
        market=market,
        language=language,
        device=device,
        field_name=value.get("field", ""),
        reference=value.get("reference", ""),
    )
