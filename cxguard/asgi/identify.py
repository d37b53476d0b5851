"""Read from a request whose it is, which key it has, and what it wants: everything that entering needs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxguard.asgi.keepable import keeping_of
from cxguard.core import names
from cxguard.core.answer import Audience, Medium, Telling, can_be_told
from cxguard.core.cards import carries_card
from cxguard.core.decide import Submit
from cxguard.core.fingerprint import fingerprint_of, same_request
from cxguard.core.operation import Operation, State, changed
from cxguard.core.resolve import SHOP
from cxguard.core.snapshot import Snapshot, Wants
from cxguard.engine.cold import seal_member
from cxguard.engine.engine import Engine
from cxguard.engine.entering import Submission
from cxguard.engine.operations import Terms
from cxguard.engine.resume_links import read_resume_token
from cxguard.engine.rulings import policy_of
from cxguard.engine.shop_lines import shop_line
from cxguard.engine.tenor import Tenor
from cxguard.guard import Guard
from cxguard.rules import Arrival, Asked, Rule, read_asked, resolve_source

CONFIRM_HEADER = "cxguard-confirm-duplicate"
CONFIRM_FIELD = "cxguard_confirm_duplicate"


@dataclass(frozen=True, slots=True)
class Resumed:
    """The order that a shopper goes on with, by a link that was made for one *generation* of it."""

    operation: Operation
    generation: int


async def resumed_by(guard: Guard, identity: Identity) -> Resumed | None:
    """The order that the request's token names; None: none is named, or none that is there. See `Identity.resume_token`.

    Raises:
        StoreUnavailable: it is not known.
    """
    named = read_resume_token(guard.engine, identity.resume_token) if identity.resume_token else None
    operation = await guard.store.get(named[0]) if named is not None else None
    if named is None or operation is None or (operation.namespace, operation.rule) != (guard.namespace, identity.rule.name):
        return None
    return Resumed(operation, named[1])


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks for what, as read from one request."""

    rule: Rule
    arrival: Arrival
    asked: Asked
    telling: Telling
    confirmed: str | None = None
    resume_token: str | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The request as a value."""
        return self.arrival.snapshot


def telling_of(rule: Rule, snapshot: Snapshot) -> Telling:
    """How this client can be spoken to."""
    medium = Medium.GRAPHQL if rule.graphql_mutation else Medium.HTML if snapshot.wants() is Wants.HTML else Medium.JSON
    audience = Audience.MACHINE if rule.audience == "machine" else Audience.SHOPPER
    return Telling(medium, audience, reads_202=snapshot.prefers_async or rule.client_reads_202)


async def identify(rule: Rule, arrival: Arrival) -> Identity | None:
    """Read owner, key, amounts and purchase. None: no key, and the rule lets such a request pass.

    Raises:
        BadRequest: something cannot be read, or is missing. Nothing was opened.
    """
    asked = await read_asked(rule, arrival)
    if asked is None:
        return None
    resumes = await resolve_source(rule.resume_token, arrival) if rule.resume_token is not None else None
    telling, confirmed = telling_of(rule, arrival.snapshot), _confirmed(arrival.snapshot)
    return Identity(rule, arrival, asked, telling, confirmed, resumes.value if resumes is not None and resumes.value else None)


def _confirmed(snapshot: Snapshot) -> str | None:
    """The reference that the shopper confirmed to buy again."""
    told = snapshot.header(CONFIRM_HEADER)
    if told is None and snapshot.is_form:
        told = snapshot.form().field(CONFIRM_FIELD)
    return names.normalise_reference(told) if told else None


def submission_of(guard: Guard, identity: Identity, *, resumed: Resumed | None = None) -> Submission:
    """Everything that entering needs.

    Args:
        resumed: the order that the shopper goes on with; None: an order of its own.
    """
    engine, rule = guard.engine, identity.rule
    key = identity.asked.key.value or secrets.token_hex(16)  # a purchase without a key is found again by its claim
    fresh = _record(guard, engine, identity, key, of=resumed.operation if resumed else None)
    why_not = _why_not_keep(identity)

    def submit_of(there: Operation) -> Submit:
        return Submit(
            owner=fresh.owner,
            client_key=fresh.client_key,
            same_request=same_request(engine.naming, there.fingerprint, identity.snapshot, ignore=rule.ignore_fields),
            amount_minor=fresh.amount_minor,
            currency=fresh.currency,
            confirmed=identity.confirmed,
            basket=fresh.basket,
            claims=fresh.claims,
            may_keep=not why_not,
            resumes=resumed.generation if resumed else None,
        )

    return Submission(
        fresh=fresh,
        terms=Terms(policy_of(rule), lease_seconds=rule.lease_seconds, run_seconds_max=rule.run_seconds_max),
        submit_of=submit_of,
        again=lambda there: _record(guard, engine, identity, f"{key}\x1fagain:{there.reference}"),
        tenor=_tenor_of(guard, identity, why_not=why_not),
        deadline=engine.clock.monotonic() + rule.deadline_seconds,
        gateways=rule.gateways,
        rerun_safe=rule.rerun_safe,
    )


def _tenor_of(guard: Guard, identity: Identity, *, why_not: str) -> Tenor:
    """What the rule says about ending a run."""
    rule = identity.rule
    return Tenor(
        may_keep=not why_not,
        has_later=rule.later is not None,
        ask=rule.resolve,
        queue_seconds=rule.give_up_seconds,
        keep_seconds=rule.keep_seconds,
        why_not=why_not if rule.later is not None else "",
        keeping=keeping_of(guard, rule, identity.arrival) if not why_not else None,
    )


def _why_not_keep(identity: Identity) -> str:
    """Why this order may not be kept for later; empty: it may. It is kept only once that is told: a record begins as not
    kept, so that a process which dies, or a store which goes away, before the shopper has heard anything leaves nothing
    that is charged."""
    if identity.rule.later is None:
        return "no_later"
    if not can_be_told(identity.telling):
        return "client_not_told"
    return "card_data" if carries_card(identity.snapshot) is not None else ""


def _holds_nothing_forbidden(rule: Rule, snapshot: Snapshot) -> bool:
    return rule.later is not None and carries_card(snapshot) is None


def _record(guard: Guard, engine: Engine, identity: Identity, key: str, *, of: Operation | None = None) -> Operation:
    """The record that this request would open under *key* (or in the name of the order *of*), its contents sealed for it."""
    rule, asked, snapshot, now = identity.rule, identity.asked, identity.snapshot, guard.clock.now()
    owner = of.owner if of else guard.owner_name(asked.owner)
    id = of.id if of else engine.operation_id(purpose=rule.name, owner=owner, key=key)
    keepable = _holds_nothing_forbidden(rule, snapshot)
    record = Operation(
        id=id,
        namespace=guard.namespace,
        rule=rule.name,
        owner=owner,
        reference=names.reference_of(id),
        fingerprint=fingerprint_of(engine.naming, snapshot, ignore=rule.ignore_fields),
        state=State.RUNNING,
        created_at=now,
        updated_at=now,
        claims=_claims(guard, identity, owner) if of is None else (),
        basket=_basket(guard, identity, owner),
        client_key=asked.key.chosen_by_client,
        charged_by=rule.charged_by,
        amount_minor=asked.amount_minor,
        currency=asked.currency,
        session=visit_of(identity.arrival.scope),
        locale=_locale(snapshot),
    )
    members = _contents(guard, engine, record, identity, keepable=keepable)
    if rule.charged_by == SHOP:
        members["sends"] = shop_line(engine, record, record)
    return changed(record, **members) if members else record


def _claims(guard: Guard, identity: Identity, owner: str) -> tuple[str, ...]:
    """The owner's current operation, or the purchase: at most one record has each."""
    if not identity.asked.key.value:
        return (current_claim(guard, identity.rule, owner),)
    basket, amount_minor = _basket(guard, identity, owner), identity.asked.amount_minor
    if not basket or amount_minor is None:
        return (basket,) if basket else ()
    currency = identity.asked.currency or ""
    return (basket, names.amount_claim(guard.engine.naming, basket=basket, amount_minor=amount_minor, currency=currency))


def current_claim(guard: Guard, rule: Rule, owner: str) -> str:
    """The name of an owner's one current operation under a `per_purchase` rule."""
    return names.current_claim(guard.engine.naming, namespace=guard.namespace, purpose=rule.name, owner=owner)


def _basket(guard: Guard, identity: Identity, owner: str) -> str:
    parts, purpose = identity.asked.purchase, identity.rule.name
    if not parts:
        return ""
    return names.purchase_claim(guard.engine.naming, namespace=guard.namespace, purpose=purpose, owner=owner, parts=parts)


def _contents(guard: Guard, engine: Engine, record: Operation, identity: Identity, *, keepable: bool) -> dict[str, Any]:
    """Seal what must be kept from the start: a process that dies in the middle leaves an order that can be completed."""
    members: dict[str, Any] = {}
    if keepable:
        members["request"] = seal_member(engine.seal, record, "request", identity.snapshot.to_bytes())
    if identity.asked.contact:
        members["contact"] = seal_member(engine.seal, record, "contact", identity.asked.contact.encode(errors="replace"))
        members["contact_hash"] = names.contact_hash(engine.naming, namespace=guard.namespace, contact=identity.asked.contact)
    return members


def visit_of(scope: Mapping[str, Any]) -> str | None:
    """The session that the middleware found for this request."""
    visit: str | None = scope.get("cxguard.session")
    return visit


def _locale(snapshot: Snapshot) -> str:
    accepted = next(iter(snapshot.header_all("accept-language")), "en")
    return accepted.partition(",")[0].partition(";")[0].partition("-")[0].strip().lower()[:8] or "en"
