"""What the guard would make of one request, and why: read by the middleware's own code, with nothing run or written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cxguard.asgi.bodies import read_body
from cxguard.asgi.foretelling import CLAIM, SAME, Foreteller, ReadingRow, StateRow, Told
from cxguard.asgi.identify import Identity, identify, submission_of, telling_of
from cxguard.asgi.telling import TOLD_IN_SCOPE, Teller
from cxguard.asgi.types import Message, Scope
from cxguard.core.answer import Situation, Telling, can_be_told, status_for
from cxguard.core.cards import carries_card
from cxguard.core.consent import NO_CONSENT
from cxguard.core.decide import Do
from cxguard.core.operation import Operation
from cxguard.core.snapshot import Snapshot, full_path
from cxguard.engine.entering import Submission
from cxguard.engine.keeping import CANNOT_WAIT, promise_for
from cxguard.engine.operations import SEIZING
from cxguard.errors import BadRequest, StoreError
from cxguard.guard import Guard, Mode
from cxguard.render.renderer import Renderer
from cxguard.rules import Arrival, Rule
from cxguard.rules.near import NearRule, near_rules
from cxguard.stores.base import Query
from cxguard.stores.record import leased

KEY_CHARACTERS_SHOWN = 64
FINGERPRINT_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Client:
    """How this client can be spoken to."""

    medium: str
    audience: str
    can_be_told: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read from the request. Nothing here is a secret: the owner is a pseudonym.

    Attributes:
        owner_by, key_by: which part of the rule gave it.
        key: empty where the order is found as its owner's current one; masked where it was a cookie.
        reference: empty where a new name is made for each order.
        purchase: what the purchase is found by under another key; empty: it is not.
        not_kept: why the order would not be kept through an outage; empty: it would be.
    """

    owner: str
    owner_by: str
    key: str
    key_by: str
    chosen_by_client: bool
    operation: str
    reference: str
    fingerprint: str
    purchase: str
    amount_minor: int | None
    currency: str | None
    not_kept: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has for the request now."""

    operation: Operation
    leased: bool
    meets: StateRow


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it.

    Attributes:
        passes: why the request goes by unguarded; empty: it does not.
        refusal: the error's own text, which says what to do; *told* is its answer.
        store: what is known of the store, in words.
    """

    method: str
    path: str
    watched: bool = False
    rule: Rule | None = None
    near: tuple[NearRule, ...] = ()
    client: Client | None = None
    passes: str = ""
    refusal: str = ""
    told: Told | None = None
    facts: Facts | None = None
    stored: Stored | None = None
    store: str = ""
    readings: tuple[ReadingRow, ...] = ()
    states: tuple[StateRow, ...] = ()

    @property
    def guarded(self) -> bool:
        """Whether the request would enter."""
        return self.facts is not None


async def explain(guard: Guard, scope: Scope, body: bytes) -> Explanation:
    """Say what *guard*, made by `for_looking` and started, would make of a request.

    The rule's own callables (owner, key, ...) are asked, as for a real request; the handler is not.
    """
    snapshot = Snapshot.from_scope(scope, body=body)
    method, path = snapshot.method, snapshot.path
    found = guard.matcher.find(method, full_path(scope), scope.get("root_path") or "")
    bare = Explanation(method, path, watched=guard.mode is Mode.WATCH)
    if found is None:
        return replace(bare, near=near_rules(guard.rules, method=method, path=path), passes="no rule is for it")
    teller = Teller(guard, Renderer(guard.shop, texts=guard.messages, prefix=guard.prefix, specs=guard.specs), scope)
    telling = telling_of(found, snapshot)
    bare = replace(bare, rule=found, client=_client(telling))
    try:
        snapshot = replace(snapshot, body=await _limited(found, scope, body))
        rule = guard.matcher.choose(found, snapshot)
        if rule is None:
            return replace(bare, rule=None, passes="it selects no mutation that has a rule")
        identity = await identify(rule, Arrival(snapshot, scope, rule.params(snapshot.path, snapshot.root_path)))
    except BadRequest as error:
        teller.refusal(error, telling, snapshot)
        return replace(bare, refusal=str(error), told=_told(scope, telling))
    except Exception as error:  # noqa: BLE001 - the rule's own callables may raise anything, here as there
        teller.situation(Situation.STORE_AWAY, telling, snapshot)
        raised = f"the rule's own code raised {type(error).__name__}: does it need what the app's lifespan opens?"
        return replace(bare, refusal=raised, told=_told(scope, telling))
    if identity is None:
        return replace(bare, rule=rule, passes="it carries no key, and the rule demands none (key_required=False)")
    return await _entering(guard, teller, scope, identity, replace(bare, rule=rule))


async def _limited(rule: Rule, scope: Scope, body: bytes) -> bytes:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return await read_body(scope, receive, body_bytes_max=rule.body_bytes_max, body_seconds_max=rule.body_seconds_max)


def _told(scope: Scope, telling: Telling) -> Told:
    """The answer that the teller has just made."""
    told = scope[TOLD_IN_SCOPE]
    money = told.money.value if told.money else None
    return Told(status_for(told, telling), told.situation.value, money, told.order_saved, told.safe_to_retry)


async def _entering(guard: Guard, teller: Teller, scope: Scope, identity: Identity, bare: Explanation) -> Explanation:
    submission = submission_of(guard, identity)
    why_not = await _not_kept(guard, identity, submission)
    foreteller = Foreteller(guard, teller, scope, identity, submission, keeps=not why_not)
    store, stored = await _stored(guard, submission, foreteller)
    return replace(
        bare,
        client=_client(identity.telling),
        facts=_facts(identity, submission, why_not),
        store=store,
        stored=stored,
        readings=tuple(foreteller.readings()),
        states=tuple(foreteller.states()),
    )


def _client(telling: Telling) -> Client:
    return Client(telling.medium.value, telling.audience.value, can_be_told(telling))


def _facts(identity: Identity, submission: Submission, why_not: str) -> Facts:
    asked, fresh = identity.asked, submission.fresh
    named = bool(asked.key.value)
    shown = asked.key.value[:KEY_CHARACTERS_SHOWN]
    return Facts(
        owner=fresh.owner,
        owner_by=asked.owner_part,
        key="***" if asked.key.part_name.startswith("cookie ") else shown,
        key_by=asked.key.part_name,
        chosen_by_client=fresh.client_key,
        operation=fresh.id if named else "",
        reference=fresh.reference if named else "",
        fingerprint=fresh.fingerprint[:FINGERPRINT_SHOWN],
        purchase=next(iter(fresh.claims), ""),
        amount_minor=fresh.amount_minor,
        currency=fresh.currency,
        not_kept=why_not,
    )


async def _not_kept(guard: Guard, identity: Identity, submission: Submission) -> str:
    """Why an outage would end this order, in the order in which it is decided; the rule's own callables are asked."""
    card, keeping = carries_card(identity.snapshot), submission.tenor.keeping
    if identity.rule.later is None:
        return "the rule has no later="
    if card is not None:
        return f"card data is never kept: {card}"
    if not can_be_told(identity.telling):
        return "this client would take a 202 for 'paid': send Prefer: respond-async, or set client_reads_202=True"
    if keeping is None:
        return ""
    try:
        why = (await promise_for(guard.engine, submission.fresh, keeping)).why_not
    except StoreError:
        return ""  # the caps cannot be counted now
    return _WHY_NOT.get(why, why.replace("_", " "))


_WHY_NOT = {
    CANNOT_WAIT: "these goods cannot wait (can_wait=)",
    NO_CONSENT: "the shopper did not agree to be charged later (consent=)",
}


async def _stored(guard: Guard, submission: Submission, foreteller: Foreteller) -> tuple[str, Stored | None]:
    try:
        stored = await _meets(guard, submission, foreteller)
    except StoreError as error:
        return f"not asked: {error}", None
    if stored is None:
        return "nothing: this request would be the first", None
    how = "by its own name" if stored.meets.request == SAME else "as the same purchase, under another name"
    return f"an order, found {how}", stored


async def _meets(guard: Guard, submission: Submission, foreteller: Foreteller) -> Stored | None:
    """What the store has: by the order's own name first, then by what it claims, past what it supersedes, as `Operations.enter` looks."""
    store: Any = guard.store
    fresh, now = submission.fresh, await store.clock()

    def met(found: Operation, request: str) -> Stored:
        held = leased(found, now=now)
        return Stored(found, held, foreteller.meeting(found, request=request, leased=held))

    own = await store.get(fresh.id)
    first = met(own, SAME) if own is not None else None
    if first is not None and first.meets.do not in SEIZING:
        return first
    for claim in fresh.claims:
        page = await store.search(Query(guard.namespace, claim=claim, limit=1))
        for other in (met(one, CLAIM) for one in page.operations if one.id != fresh.id):
            if other.meets.do != Do.SUPERSEDE:
                return other
            first = first or other
    return first
