"""An order as text and as JSON."""

from __future__ import annotations

from typing import Any

from cxguard.cli.printing import amount, moment, print_table, say
from cxguard.core.money import Note, Send
from cxguard.core.operation import Entry, Operation, money_of
from cxguard.core.outcomes import outcome_kind
from cxguard.core.reading import HandlerAnswer
from cxguard.engine.cold import KeptResult, open_answer, open_member
from cxguard.errors import SealError
from cxguard.seal import Seal

OLDER = "NOBODY KNOWS whether it was charged: the store has lost its last writes, and this may be an older copy. Ask the gateway."
_SEND_COLUMNS = ("no", "when (UTC)", "kind", "gateway", "gateway key", "amount", "answer")


def order_row(operation: Operation, *, doubted: bool = False) -> tuple[str, ...]:
    """One line of the list. What may be an older copy is not shown as what it says."""
    return (
        operation.reference,
        str(operation.state),
        "unknown?" if doubted else str(operation.money),
        amount(operation.amount_minor, operation.currency),
        str(operation.waiting_for or ""),
        operation.why,
        moment(operation.created_at),
        moment(operation.due_at),
        operation.rule,
    )


def order_json(operation: Operation, *, whole: bool = False) -> dict[str, Any]:
    """An order for programs; amounts as texts, so that no reader rounds them. *whole*: with its sends and its timeline."""
    head: dict[str, Any] = {
        "reference": operation.reference,
        "id": operation.id,
        "rule": operation.rule,
        "state": operation.state,
        "money": operation.money,
        "amount_minor": _text(operation.amount_minor),
        "currency": operation.currency,
        "waiting_for": operation.waiting_for,
        "why": operation.why,
        "kept": operation.kept,
        "cancel_asked": operation.cancel_asked,
        "generation": operation.generation,
        "attempts": operation.attempts,
        "created_at": operation.created_at,
        "updated_at": operation.updated_at,
        "due_at": operation.due_at,
        "give_up_at": operation.give_up_at,
        "lease": {"holder": operation.lease.holder, "until": operation.lease.until} if operation.lease else None,
    }
    if not whole:
        return head
    figures = {name: _text(getattr(operation, name)) for name in ("authorised_minor", "captured_minor", "refunded_minor")}
    return {
        **head,
        **figures,
        "session": operation.session,
        "sends": [_send_json(send) for send in operation.sends],
        "notes": [_note_json(note) for note in operation.notes],
        "steps": [{"name": step.name, "began_at": step.began_at, "ended_at": step.ended_at} for step in operation.steps],
        "history": [{"at": entry.at, "event": entry.event, "by": entry.by, "detail": dict(entry.detail)} for entry in operation.history],
    }


def print_order(operation: Operation, sealed: dict[str, Any], *, doubted: bool = False) -> None:
    """One order, for a person who has somebody on the phone.

    Args:
        doubted: it may be an older copy of one that was charged.
    """
    money = money_of(operation)
    if doubted:
        say(OLDER)
    say(f"Order {operation.reference}: {operation.state}, money {money.state}{_why(operation)}")
    figures = {"wanted": operation.amount_minor, "captured": money.captured_minor, "reserved": money.authorised_minor}
    figures["given back"] = money.refunded_minor
    told = [f"{name} {amount(minor, operation.currency or money.currency)}" for name, minor in figures.items() if minor]
    say("Money: " + (", ".join(told) or "nothing is known of any amount"))
    if operation.lease:
        say(f"In the hands of {operation.lease.holder} until {moment(operation.lease.until)} UTC")
    for name, value in sealed.items():
        say(f"{name}: {value}")
    if operation.sends:
        print_table("Sent to gateways", _SEND_COLUMNS, map(_send_row, operation.sends))
    entries = [*map(_entry_row, operation.history), *map(_note_row, operation.notes)]
    print_table("Timeline", ("when (UTC)", "what", "by", "detail"), sorted(entries))


def sealed_parts(seal: Seal, operation: Operation) -> dict[str, Any]:
    """What is sealed, as far as a person may need it. Never the kept request: it holds cookies."""
    found: dict[str, Any] = {}
    try:
        if operation.contact is not None:
            found["contact"] = open_member(seal, operation, "contact", operation.contact).decode("utf-8", "replace")
        stored = open_answer(seal, operation)
    except SealError as error:
        return {**found, "unreadable": str(error)}
    match stored:
        case HandlerAnswer():
            found["answer"] = {"status": stored.status, "body": stored.text()}
        case KeptResult():
            found["result"] = stored.value
        case _:
            pass
    return found


def _why(operation: Operation) -> str:
    waits = f", waiting for the {operation.waiting_for}" if operation.waiting_for else ""
    return waits + (f" ({operation.why})" if operation.why else "")


def _text(figure: int | None) -> str | None:
    return str(figure) if figure is not None else None


def _send_json(send: Send) -> dict[str, Any]:
    return {
        "number": send.number,
        "at": send.sent_at,
        "kind": send.kind,
        "gateway": send.gateway,
        "gateway_key": send.key,
        "step": send.step,
        "generation": send.generation,
        "amount_minor": _text(send.amount_minor),
        "currency": send.currency,
        "outcome": outcome_kind(send.outcome),
        "why": getattr(send.outcome, "why", ""),
        "payment_id": getattr(send.outcome, "payment_id", ""),
    }


def _note_json(note: Note) -> dict[str, Any]:
    outcome = outcome_kind(note.outcome) if note.outcome is not None else None
    return {"at": note.at, "kind": note.kind, "source": note.source, "gateway_key": note.gateway_key, "outcome": outcome, "text": note.text}


def _send_row(send: Send) -> tuple[str, ...]:
    why, payment = getattr(send.outcome, "why", ""), getattr(send.outcome, "payment_id", "")
    answer = " ".join(part for part in (outcome_kind(send.outcome), payment, f"({why})" if why else "") if part)
    return str(send.number), moment(send.sent_at), str(send.kind), send.gateway, send.key, amount(send.amount_minor, send.currency), answer


def _entry_row(entry: Entry) -> tuple[str, ...]:
    detail = ", ".join(f"{name} {value}" for name, value in entry.detail.items() if value not in (None, ""))
    return moment(entry.at), entry.event, entry.by, detail


def _note_row(note: Note) -> tuple[str, ...]:
    outcome = outcome_kind(note.outcome) if note.outcome is not None else ""
    return moment(note.at), f"note: {note.kind}", note.source, " ".join(part for part in (outcome, note.text) if part)
