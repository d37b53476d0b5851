"""Card numbers and security codes: found, so that they are never kept, and blotted out, so that they are never shown.

Found by the name of the field first, by the value second: 13 to 19 digits of a known scheme and length that pass Luhn.
Luhn alone would hit one in ten of all long numbers. Digits may be grouped, or of another script. Long runs of digits
also come up by chance in random tokens (one in a thousand 64-digit hex tokens holds a "card number"): what stands inside
a word that changes between letters and digits again and again is part of a token.

Source: PCI DSS 4.0, 3.3.1 and 3.5.1. ISO/IEC 7812-1 (Luhn, issuer ranges).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadRequest

CARD_MARK = "[card]"
EMAIL_MARK = "[email]"
VALUES_MAX = 10_000  # of one body; what is longer than that counts as carrying a card, since nobody can say that it does not
TOKEN_CHANGES_MIN = 8  # between letters and digits in one word: more than "visa4242424242424242exp1229cvv123" has
TOKEN_CHARS_MAX = 256  # looked at on each side of a run
DIGITS_MAX = 19  # of a card's number
GROUPS_MAX = 400  # of digits in one run; a longer run is not looked through but counts as card data from end to end

# Names in lower case without anything but letters and digits, and what their values hold at least.
_FIELDS_THAT_HOLD = {
    r"(?:\D*\d){12}": (
        "cardnumber cardno cardnum ccnumber ccno ccnum creditcard creditcardnumber creditcardno debitcardnumber cardpan pan "
        "primaryaccountnumber kartennummer numerocarte"
    ),
    r"(?:\D*\d){3}": (
        "cvv cvv2 cvc cvc2 cvn cvd csc cardcvv cardcvv2 cardcvc cardcode cardverificationvalue cardverificationcode ccvv cccvv cccvc "
        "cccode securitycode cardsecuritycode verificationvalue pruefziffer"
    ),
}
_FIELDS = {name: re.compile(digits) for digits, names in _FIELDS_THAT_HOLD.items() for name in names.split()}

_SCHEMES = {
    r"4": (13, 16, 18, 19),  # Visa
    r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720": (16,),  # Mastercard
    r"3[47]": (15,),  # American Express
    r"6011|64[4-9]|65": (16, 17, 18, 19),  # Discover, RuPay
    r"30[0-5]|3095|36|3[89]": (14, 15, 16, 17, 18, 19),  # Diners Club
    r"35(?:2[89]|[3-8])": (16, 17, 18, 19),  # JCB
    r"62|81": (16, 17, 18, 19),  # UnionPay
    r"5018|5020|5038|5893|6304|6759|676[1-3]|60|82|508": (13, 14, 15, 16, 17, 18, 19),  # Maestro, RuPay
    r"220[0-4]|9792|506[01]": (16, 17, 18, 19),  # Mir, Troy, Verve
}
_LENGTHS = range(13, DIGITS_MAX + 1)
_ISSUERS = {length: re.compile("|".join(prefix for prefix, lengths in _SCHEMES.items() if length in lengths)) for length in _LENGTHS}
_DOUBLED = str.maketrans("0123456789", "0246813579")  # twice the digit, its own digits added up

_BETWEEN = r"(?:[ \-\u00a0\u2009\u202f\u2010-\u2015+]|%20)"
_RUN = re.compile(rf"(?<!\d)\d(?:{_BETWEEN}{{0,2}}\d){{12,}}")
_GROUP = re.compile(r"\d+")
# As it stands on the card, whatever is between the groups, as long as it is the same: dots, slashes, tabs, a list's quotes, and
# those of a list in a text in an error: each text around it more than doubles the backslashes.
_PRINTED = re.compile(r"(?<!\d)\d{4}(\D{1,6}|[\\\"', ]{7,40})(?:\d{4}\1\d{4}\1\d{1,7}|\d{6}\1\d{4,5})(?!\d)")
_AROUND_WORDS = re.compile(r"[^A-Za-z0-9_\-]")
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_HINTS = (b"card", b"karte", b"carte", b"account", b"cc", b"cv", b"csc", b"pan", b"code", b"value", b"pruef")  # one in each field above
_SPLIT = {4: (4, 4, 4), 3: (4, 6)}  # how many digits all groups but the last have
_BOXES = re.compile(rb"(?<!\d)\d{4,6}(?!\d)")
_DIGITS = re.compile(rb"\d(?:\D{0,3}\d){12}")
# A security code by the name before it, in whatever writing: `cvv=123`, `"cvc": "1234"`, `security code is 123`.
_CODE_HINTS = ("cvv", "cvc", "cvn", "cvd", "csc", "ccv", "security", "verification")
_CODE = re.compile(
    r"(?i)((?<![a-z])(?:card[ _-]?)?(?:cvv2?|cvc2?|cvn2?|cvd|csc|ccv|(?:card[ _-]?)?security[ _-]?code|verification[ _-]?(?:value|code))"
    r"(?:\]|%5d)?(?:\\?[\"'])?(?:\s*[:=,]\s*|%3[ad](?:%20|\+)?|\s+(?:is\s+|was\s+)?)(?:\\?[\"']|%22)?)\d{3,4}(?!\d)"
)
_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]{1,64}(?:@|%40)[\w\-%]{1,63}(?:\.[\w\-%]{1,63}){1,8}")


def carries_card(snapshot: Snapshot) -> str | None:
    """Where the request carries card data, in words without the data; None if it does not seem to."""
    return snapshot.once(carries_card, lambda: next(_found(snapshot), None))


def is_card_number(digits: str) -> bool:
    """Whether plain ASCII digits are the number of a payment card: scheme, length and Luhn."""
    return len(digits) in _LENGTHS and _ISSUERS[len(digits)].match(digits) is not None and _luhn(digits)


def redact(text: str) -> str:
    """*text* without card numbers and e-mail addresses. For logs, pages and events, after everything is one text."""
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(EMAIL_MARK, text)
    text = _RUN.sub(lambda run: _blotted(run[0]), text)
    for start, end in sorted(_printed(text), reverse=True):
        text = text[:start] + CARD_MARK + text[end:]
    lower = text.lower()
    return _CODE.sub(rf"\1{CARD_MARK}", text) if any(hint in lower for hint in _CODE_HINTS) else text


def holds_card(text: str) -> bool:
    """Whether a card's number stands in *text*, or a security code beside its name."""
    return _has_card(text) or _CODE.search(text) is not None


def split_card(values: Iterable[object]) -> str:
    """The card's number that stands in *values* group by group, as it is printed: four boxes of a form, a list of texts."""
    groups = [_group(value) for value in values]
    for at in range(len(groups) - 2):
        for size in (4, 3):
            digits = "".join(groups[at : at + size])
            if tuple(map(len, groups[at : at + size]))[: size - 1] == _SPLIT[size] and is_card_number(digits):
                return digits
    return ""


# --- in a request


def _found(snapshot: Snapshot) -> Iterator[str]:
    if _has_card(unquote_plus(snapshot.path)):
        yield "the path"
    if _has_card(unquote_plus(snapshot.query)):
        yield "the query"
    if _surely_none(snapshot.body):
        return
    try:
        members = _members(snapshot)
        for number, (name, value) in enumerate(members):
            if number >= VALUES_MAX:
                yield "a body with too many values to look at"
                return
            where = _why(name, value)
            if where:
                yield where
    except BadRequest:
        if _has_card(unquote_plus(snapshot.body.decode(errors="replace"))):
            yield "the body"


def _surely_none(body: bytes) -> bool:
    """Most bodies: nothing is escaped in them, no name is one of ours, no digits follow each other for long, or stand in boxes."""
    if not body.isascii() or b"\\" in body or b"%" in body or _DIGITS.search(body) or len(_BOXES.findall(body)) >= 3:
        return False
    lower = body.lower()
    return not any(hint in lower for hint in _HINTS)


def _members(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Every name and value of the body; a body of another kind is one value."""
    if snapshot.body and snapshot.holds_json:
        yield from _walk(snapshot.json())
    elif snapshot.is_form:
        form = snapshot.form()
        yield from form.fields
        yield from _together("", [value for _, value in form.fields])
        yield from ((file.name, file.content.decode(errors="replace")) for file in form.files)
    else:
        yield "", snapshot.body.decode(errors="replace")


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.items())
            yield from _together(name, value.values())
        elif isinstance(value, list):
            waiting.extend((name, one) for one in value)
            yield from _together(name, value)
        else:
            yield name, str(value)


def _together(name: str, values: Collection[object]) -> Iterator[tuple[str, str]]:
    """Neighbours that are one card's number, as the number that they are."""
    digits = split_card(values)
    if digits:
        yield name, digits


def _group(value: object) -> str:
    """A text or a whole number that may be a group of digits; else nothing."""
    text = value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) and value.bit_length() <= 32 else ""
    return _ascii(text) if text.isdecimal() and len(text) <= 7 else ""


def _why(name: str, value: str) -> str | None:
    where = f"the field {name[:40]}"
    digits = _FIELDS.get(re.sub(r"[^a-z0-9]", "", name.lower()))
    if digits and digits.match(value):
        return where
    if len(value) >= 13 and _has_card(value):
        return f"a value of {where}" if name and not _has_card(name) else "the body"
    return None


# --- in a text


def _has_card(text: str) -> bool:
    if any(next(_cards(run[0]), None) is not None and not _in_token(text, *run.span()) for run in _RUN.finditer(text)):
        return True
    return next(_printed(text), None) is not None


def _printed(text: str) -> Iterator[tuple[int, int]]:
    """Where numbers as on a card begin and end. What only looks like one, a year in front of it say, hides none behind it."""
    printed = _PRINTED.search(text)
    while printed:
        found = is_card_number(_ascii("".join(_GROUP.findall(printed[0]))))
        if found:
            yield printed.span()
        printed = _PRINTED.search(text, printed.end() if found else printed.start(1))


def _in_token(text: str, start: int, end: int) -> bool:
    """Whether the digits from *start* to *end* stand inside a random token."""
    before = _AROUND_WORDS.split(text[max(0, start - TOKEN_CHARS_MAX) : start])[-1]
    after = _AROUND_WORDS.split(text[end : end + TOKEN_CHARS_MAX])[0]
    return len(_CHANGE.findall(before + text[start:end] + after)) >= TOKEN_CHANGES_MIN


def _blotted(run: str) -> str:
    for start, end in sorted(_cards(run), reverse=True):
        run = run[:start] + CARD_MARK + run[end:]
    return run


def _cards(run: str) -> Iterator[tuple[int, int]]:
    """Where in a run of digits and separators a card's number begins and ends: at the edges of groups, never overlapping."""
    groups = [(group.start(), group.end(), _ascii(group[0])) for group in _GROUP.finditer(run.replace("%20", "   "))]
    if len(groups) > GROUPS_MAX:
        yield 0, len(run)
        return
    looked = 0
    for first, (start, _, _) in enumerate(groups):
        end = _card_end(groups[first : first + DIGITS_MAX]) if start >= looked else None
        if end is not None:
            looked = end
            yield start, end


def _card_end(groups: list[tuple[int, int, str]]) -> int | None:
    """Where the longest card's number ends that begins with the first of *groups*."""
    digits, found = "", None
    for _, end, group in groups:
        digits += group
        if len(digits) > DIGITS_MAX:
            break
        if is_card_number(digits):
            found = end
    return found


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)


def _luhn(digits: str) -> bool:
    return (sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0
