"""Names: keyed hashes that tell purchases apart without telling what they hold.

Every name is HMAC-SHA256 under the naming secret, which never rotates: with another secret, yesterday's paid order
would be a stranger today. Parts are length-prefixed and led by what the name is for, so that no two lists of parts,
and no two kinds of name, can meet.

Source: IETF draft idempotency-key-header, section 2 (the key's syntax: RFC 8941, section 3.3.3). Crockford, "Base 32".
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from functools import lru_cache

from cxguard.errors import MalformedKey

KEY_CHARACTERS_MAX = 255  # what the draft's implementers agree on, and what fits an index row everywhere
GATEWAY_KEY_CHARACTERS = 52  # gateways allow 64 (PPRO) to 255 (Stripe)
REFERENCE_CHARACTERS = 12  # 60 bits, five a character
OWNER_DIGITS = 3  # hex digits of an id that is led by its owner: 4096 owners apart, and a reference of 48 bits among one's own
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # pragma: allowlist secret


def keyed_hash(secret: bytes, label: str, *parts: str, content: bytes = b"") -> str:
    """64 hex digits that stand for *parts* and *content* under *label*; without the secret they tell nothing."""
    state = _keyed(secret).copy()
    state.update(_framed(label, parts))
    state.update(content)
    return state.hexdigest()


@lru_cache(maxsize=8)  # one naming secret a guard; making the keyed state anew costs as much as hashing
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")


def _framed(label: str, parts: tuple[str, ...]) -> bytes:
    """How many parts there are, then each behind its length; what follows can only be the content."""
    return "".join([f"{len(parts)};{len(label)}:{label}", *[f"{len(part)}:{part}" for part in parts]]).encode("utf-8", "surrogatepass")


def operation_id(secret: bytes, *, namespace: str, purpose: str, owner: str, key: str, home: str | None = None) -> str:
    """64 hex digits. Another shop on the store, another rule, another owner or another key: another operation.

    Args:
        home: the owner, for a store that keeps together what belongs to one owner, and has to find it by the id alone: the
            first digits come from it. One shop never changes this: its paid orders would become strangers.
    """
    id = keyed_hash(secret, "operation", namespace, purpose, owner, key)
    return id if home is None else keyed_hash(secret, "home", namespace, home)[:OWNER_DIGITS] + id[OWNER_DIGITS:]


def owner_name(secret: bytes, *, namespace: str, owner: str) -> str:
    """The owner's pseudonym, 32 hex digits: the same for all rules of one shop."""
    return keyed_hash(secret, "owner", namespace, owner)[:32]


def purchase_claim(secret: bytes, *, namespace: str, purpose: str, owner: str, parts: tuple[str, ...]) -> str:
    """The name that a purchase claims beside its id: owner and basket, whatever the amount, whatever the key."""
    return "p-" + keyed_hash(secret, "purchase", namespace, purpose, owner, *parts)[:40]


def amount_claim(secret: bytes, *, basket: str, amount_minor: int, currency: str) -> str:
    """The name that a purchase claims beside its *basket* claim: the basket at what it costs.

    A basket that costs something else by now takes the basket's claim from the order that paid for it before; that order keeps
    this one, so that it is found again when the basket costs what it did.
    """
    return "a-" + keyed_hash(secret, "amount", basket, str(amount_minor), currency)[:40]


def is_amount_claim(claim: str) -> bool:
    """Whether `amount_claim` has made it."""
    return claim.startswith("a-")


def current_claim(secret: bytes, *, namespace: str, purpose: str, owner: str) -> str:
    """The name of the owner's one current operation under a rule (`per_purchase`)."""
    return "c-" + keyed_hash(secret, "current", namespace, purpose, owner)[:40]


def gateway_key(id: str, *, step: str, generation: int) -> str:
    """The key that a gateway is sent: printable, at most 64 characters. Derived once, then re-read from the send.

    Keyed by the operation's id, which is a keyed hash itself.
    """
    digest = hmac.digest(id.encode(), _framed("gateway", (step, str(generation))), "sha256").hex()
    return f"cxg-{digest}"[:GATEWAY_KEY_CHARACTERS]


def arguments_hash(secret: bytes, *, step: str, arguments: bytes) -> str:
    """What a step was called with, so that the same name with other arguments is found out. 32 hex digits."""
    return keyed_hash(secret, "arguments", step, content=arguments)[:32]


def contact_hash(secret: bytes, *, namespace: str, contact: str) -> str:
    """A contact as it can be searched for, exactly and without being kept: e-mail or phone, however it was typed."""
    return keyed_hash(secret, "contact", namespace, _plain_contact(contact))[:40]


def _plain_contact(contact: str) -> str:
    text = unicodedata.normalize("NFKC", contact).strip().casefold()
    if "@" in text:
        return text
    digits = re.sub(r"[^0-9]", "", text)
    return re.sub(r"^00", "", digits) if digits else text


# --- references


_REFERENCE = re.compile(rf"[{_CROCKFORD}]{{4}}(?:-[{_CROCKFORD}]{{4}}){{2}}")
_PAIRS = tuple(one + other for one in _CROCKFORD for other in _CROCKFORD)  # ten bits at a time


def reference_of(id: str) -> str:
    """The sayable name of an operation, from its id: `7K3M-9QXA-2TFV`. No letter that looks like a digit."""
    bits = int(id[:15], 16)
    a, b, c = bits >> 40, bits >> 20 & 0xFFFFF, bits & 0xFFFFF
    return f"{_PAIRS[a >> 10]}{_PAIRS[a & 1023]}-{_PAIRS[b >> 10]}{_PAIRS[b & 1023]}-{_PAIRS[c >> 10]}{_PAIRS[c & 1023]}"


def id_prefix(reference: str) -> str | None:
    """The first 15 hex digits of the id that *reference* says; None if it says none."""
    if not _REFERENCE.fullmatch(reference):
        return None
    bits = 0
    for letter in reference.replace("-", ""):
        bits = bits << 5 | _CROCKFORD.index(letter)
    return f"{bits:015x}"


def normalise_reference(text: str) -> str | None:
    """What somebody typed or said, as a reference; None if it cannot be one.

    Forgives case, spaces and dashes of any kind, the letter O for zero, and the letters I and L for one.
    """
    plain = unicodedata.normalize("NFKC", text[:80]).upper()
    letters = re.sub(r"[\s\-\u2010-\u2015\u2212._]", "", plain).translate({ord("O"): "0", ord("I"): "1", ord("L"): "1"})
    if len(letters) != REFERENCE_CHARACTERS or any(letter not in _CROCKFORD for letter in letters):
        return None
    return f"{letters[:4]}-{letters[4:8]}-{letters[8:]}"


# --- the client's key

_BARE = re.compile(r"[!#-+\--~]{1,255}")  # printable ASCII without space, quote, and the comma that joins two headers
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPE = re.compile(r'\\(["\\])')


def parse_key(header: str) -> str:
    """Read the value of an `Idempotency-Key` header: a string of RFC 8941 in quotes, or the bare key.

    Raises:
        MalformedKey: empty, longer than 255 characters, not printable ASCII, or two keys joined.
    """
    text = header.strip(" \t")
    if _BARE.fullmatch(text):
        return text
    quoted = _QUOTED.fullmatch(text)
    key = _ESCAPE.sub(r"\1", quoted[1]) if quoted else ""
    if 1 <= len(key) <= KEY_CHARACTERS_MAX:
        return key
    raise MalformedKey(_what_is_wrong_with(text, empty=quoted is not None and not key))


def check_derived_key(text: str, *, part: str) -> str:
    """Pass a key that the request carries (a basket's number) if it can be one: 1 to 255 printable characters.

    Raises:
        MalformedKey: it cannot be one.
    """
    if not text:
        raise MalformedKey(f"{part} is empty: send the basket's own number")
    if len(text) > KEY_CHARACTERS_MAX:
        raise MalformedKey(f"{part} has {len(text)} characters: send at most {KEY_CHARACTERS_MAX}")
    if not text.isprintable():
        raise MalformedKey(f"{part} holds characters that cannot be printed: send the basket's own number")
    return text


def _what_is_wrong_with(text: str, *, empty: bool) -> str:
    wanted = f"send 1 to {KEY_CHARACTERS_MAX} printable ASCII characters, for instance a UUID"
    if not text or empty:
        return f"the idempotency key is empty: {wanted}"
    if len(text) > KEY_CHARACTERS_MAX:
        return f"the idempotency key has {len(text)} characters: {wanted}"
    if "," in text or '"' in text:
        return f"the idempotency key is two keys joined, or a quoted string without its end: {wanted}"
    return f"the idempotency key holds spaces, control characters or letters outside ASCII: {wanted}"
