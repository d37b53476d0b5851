"""What one request asks for, as its rule reads it: key, owner, amount, purchase, contact. Read once, then passed on."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxguard.errors import MissingKey, OwnerMissing
from cxguard.rules.amounts import resolve_amount
from cxguard.rules.rule import Rule
from cxguard.rules.sources import ASKING, Arrival, FoundKey, InThread, parts_of, resolve_key, resolve_source, words_of

OWNER_CHARACTERS_MAX = 255  # a longer one is a session value, not an id
# How programs write that they know of nobody: taken for a name, all guests of a shop would be one owner, and share their answers.
NOBODY = frozenset({"", "none", "null", "nil", "nan", "undefined", "anonymous", "anonymoususer"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks for.

    Attributes:
        owner_part: which part of the rule's `owner` named them.
        purchase: what says which basket it is, in a fixed order; empty if nothing does. Names the purchase with the owner.
    """

    key: FoundKey
    owner: str
    amount_minor: int | None = None
    currency: str | None = None
    purchase: tuple[str, ...] = ()
    contact: str | None = None
    owner_part: str = field(default="", compare=False)


async def read_asked(rule: Rule, arrival: Arrival, *, in_thread: InThread = ASKING) -> Asked | None:
    """Read everything that *rule* wants of a request; None: no key, and none required, so it passes unguarded.

    Raises:
        MissingKey, MalformedKey, OwnerMissing, BadAmount, BadRequest: nothing was opened.
    """
    key = await resolve_key(rule.key, arrival, in_thread=in_thread)
    if key is None:
        if rule.key_required:
            raise MissingKey(
                f"the request carries no key: send {' or '.join(words_of(part) for part in parts_of(rule.key))}, one for each basket"
            )
        return None
    arrival.snapshot.check_body()
    owner = await _found_owner(rule, arrival, in_thread=in_thread)
    amount_minor, currency = await resolve_amount(rule.amount_minor, rule.currency, arrival, in_thread=in_thread)
    purchase = key.basket + await _purchase(rule, arrival, in_thread=in_thread) if rule.purchase else key.basket
    contact = await resolve_source(rule.contact, arrival, in_thread=in_thread) if rule.contact is not None else None
    return Asked(key, owner.value, amount_minor, currency, purchase, contact.value if contact else None, owner.part_name)


async def resolve_owner(rule: Rule, arrival: Arrival, *, in_thread: InThread = ASKING) -> str:
    """Whose request it is.

    Raises:
        OwnerMissing: nobody could be named.
    """
    return (await _found_owner(rule, arrival, in_thread=in_thread)).value


async def _found_owner(rule: Rule, arrival: Arrival, *, in_thread: InThread) -> FoundKey:
    found = await resolve_source(rule.owner, arrival, in_thread=in_thread)
    if found is None or len(found.value) > OWNER_CHARACTERS_MAX or found.value.strip().lower() in NOBODY:
        raise OwnerMissing("nobody can be named as the owner of this request: sign in, or allow cookies, and send it again")
    return found


async def _purchase(rule: Rule, arrival: Arrival, *, in_thread: InThread) -> tuple[str, ...]:
    """What the rule's purchase fields hold; nothing if the request has none of them."""
    found = [await resolve_source(source, arrival, in_thread=in_thread) for source in rule.purchase]
    if not any(found):
        return ()
    return tuple(text for one in found for text in (one.basket if one else ("", "")))
