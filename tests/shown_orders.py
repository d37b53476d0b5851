"""Orders to show, and a small app that shows them: `/{name}` is an order's status page, `PUT /{name}/{other}` changes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cxguard.core.answer import About, Medium, Situation, Telling, answer_for
from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import Charged, NeedsShopper, Outcome, Refunded, Unknown
from cxguard.render.html import confirm_form
from cxguard.render.rendered import Rendered
from cxguard.render.renderer import Renderer
from cxguard.render.status import Extras
from cxguard.rules.shop import Shop

NOW = 1_795_383_000.0  # 22 November 2026, 21:30 UTC
REFERENCE = "7K4M-Q2XN-8PHD"
URL = "/_cxguard/orders/token"
SHOP = Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")


def order(
    outcome: Outcome | None = None, *, state: State = State.QUEUED, refund: Outcome | None = None, notes: tuple[Note, ...] = (), **more: Any
) -> Operation:
    """A record of 49.99 EUR with one send, if it has an outcome, and one refund."""
    sends: tuple[Send, ...] = ()
    if outcome:
        sends = (Send(1, "http:eu:test", "k1", "charge", 1, SendKind.CHARGE, 4999, "EUR", 0.0, outcome=outcome),)
    if refund:
        sends = (*sends, Send(2, "http:eu:test", "k2", "refund", 1, SendKind.REFUND, 4999, "EUR", 0.0, outcome=refund, of="k1"))
    record: dict[str, Any] = {
        "id": "0" * 64,
        "namespace": "shop",
        "rule": "POST /pay",
        "owner": "o",
        "reference": REFERENCE,
        "fingerprint": "f",
        "state": state,
        "created_at": NOW,
        "updated_at": NOW,
        "kept": True,
        "amount_minor": 4999,
        "currency": "EUR",
        "give_up_at": NOW + 7200,
        "sends": sends,
        "notes": notes,
    }
    return Operation(**{**record, **more})


PAID = Charged(4999, "EUR")
WISH = (Note("n1", NoteKind.CANCEL, NOW),)
ORDERS: dict[str, tuple[Operation, Extras]] = {
    "kept": (order(), Extras(again=True)),
    "unknown": (order(Unknown("timeout")), Extras(next_update_at=NOW + 900)),
    "in_flight": (order(Unknown("no answer"), state=State.RUNNING), Extras(at_work=True)),
    "held": (order(Unknown("timeout"), state=State.HELD, waiting_for=WaitingFor.AGENT), Extras()),
    "bank": (
        order(NeedsShopper("3ds"), state=State.HELD, waiting_for=WaitingFor.SHOPPER),
        Extras(resume_url="https://bank.example/step"),
    ),
    "unfinished": (order(PAID), Extras(next_update_at=NOW + 90_000)),
    "reserved": (order(Charged(4999, "EUR", captured=False)), Extras()),
    "placed": (order(PAID, state=State.FINISHED, answer=b"sealed"), Extras(order_url=f"{URL}/answer")),
    "cancel_asked": (order(Unknown("timeout"), notes=WISH), Extras()),
    "cancelled": (order(state=State.CANCELLED), Extras()),
    "refunded": (order(PAID, state=State.CANCELLED, refund=Refunded(4999, "EUR")), Extras()),
    "saying": (order(Unknown("timeout")), Extras(saying=True)),
    "said": (order(Unknown("timeout")), Extras(said=True)),
}
RENDERER = Renderer(SHOP)
ANSWERS = {
    "declined": answer_for(Situation.DECLINED, About(reason="funds")),
    "not_kept": answer_for(Situation.NOT_KEPT),
    "duplicate": answer_for(Situation.DUPLICATE, About(reference=REFERENCE, minutes=4, status_url=URL)),
    "key_missing": answer_for(Situation.KEY_MISSING, About(hint="send the header Idempotency-Key")),
}

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Give = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_SHOWN: dict[str, str] = {}
_POSTED: list[str] = []


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Give) -> None:
    """The server of the browser tests."""
    if scope["type"] != "http":
        return
    parts = scope["path"].strip("/").split("/")
    body = (await receive()).get("body", b"").decode()
    if scope["method"] == "PUT":
        _SHOWN[parts[0]] = parts[1]
        shown = Rendered(204, (), b"")
    elif scope["method"] == "POST":
        _POSTED.append(f"{scope['path']} {body}")
        shown = Rendered(200, (("content-type", "text/plain"),), "\n".join(_POSTED).encode())
    else:
        shown = _get(parts, scope)
    for message in shown.to_asgi():
        await send(message)


def _get(parts: list[str], scope: MutableMapping[str, Any]) -> Rendered:
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    language = headers.get("accept-language", "")
    if parts[:2] == ["_cxguard", "assets"]:
        asset = RENDERER.asset(parts[2])
        assert asset is not None
        return asset
    if parts[0] in ANSWERS:
        confirm = confirm_form("/pay", [("basket", "b<1>"), ("basket", "b2")], reference=REFERENCE)
        return RENDERER.render(ANSWERS[parts[0]], Telling(Medium.HTML), accept_language=language, now=NOW, confirm=confirm)
    operation, extras = ORDERS[_SHOWN.get(parts[0], parts[0])]
    medium = Medium.JSON if "json" in headers.get("accept", "") else Medium.HTML
    return RENDERER.status(operation, medium=medium, status_url=f"/{parts[0]}", accept_language=language, now=NOW, extras=extras)
