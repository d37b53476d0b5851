"""Card data: found in requests, blotted out of texts."""

from __future__ import annotations

import json
import random
from urllib.parse import quote_plus

import pytest

from cxguard.core.cards import CARD_MARK, EMAIL_MARK, carries_card, is_card_number, redact
from cxguard.core.snapshot import Snapshot

# Test numbers that gateways publish, one or more of each scheme.
CARDS = [
    "4242424242424242",
    "4000056655665556",
    "4222222222222",
    "4000000000000000006",
    "5555555555554444",
    "2223003122003222",
    "2720994326581252",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3056930009020004",
    "36227206271667",
    "3566002020360505",
    "6205500000000000004",
    "6759649826438453",
    "2200000000000053",
]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def request(body: str, content_type: str = JSON, *, path: str = "/pay", query: str = "") -> Snapshot:
    return Snapshot("POST", path, query, (("content-type", content_type),), body.encode())


@pytest.mark.parametrize("number", CARDS)
def test_numbers_of_all_schemes(number: str) -> None:
    """A published test number of each scheme is a card number; with a wrong last digit it is none."""
    assert is_card_number(number)
    assert not is_card_number(number[:-1] + str((int(number[-1]) + 1) % 10))


@pytest.mark.parametrize(
    "digits",
    ["", "4242", "1700000000000", "1763800000000", "9999999999999995", "0000000000000000", "42424242424242424242", "4242424242424"],
)
def test_numbers_that_are_no_cards(digits: str) -> None:
    """Times in milliseconds, other schemes' lengths and unknown issuers are no cards, also where Luhn holds."""
    assert not is_card_number(digits)


def test_random_numbers_are_rarely_cards() -> None:
    """Of random 13-digit numbers, far fewer than Luhn's one in ten are taken for a card."""
    numbers = random.Random(7)
    hits = sum(is_card_number(str(numbers.randrange(10**12, 10**13))) for _ in range(5_000))
    assert hits < 5_000 * 0.03


# --- in requests

BY_NAME = ["card_number", "cardNumber", "card-number", "ccNumber", "cc_number", "PAN", "creditCardNumber", "cardno"]
BY_CODE = ["cvv", "cvv2", "CVC", "cvc2", "card_cvc", "securityCode", "card-verification-value", "csc"]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("shape", ["json", "nested", "form"])
def test_number_by_its_field(name: str, shape: str) -> None:
    """A field named like a card number is one, also when its digits are no real card's."""
    value = "1234 5678 9012 3456"
    bodies = {
        "json": json.dumps({name: value}),
        "nested": json.dumps({"x": [{"card": {name: value}}]}),
        "form": f"{name}={quote_plus(value)}",
    }
    found = carries_card(request(bodies[shape], FORM if shape == "form" else JSON))
    assert found == f"the field {name}"


@pytest.mark.parametrize("name", BY_CODE)
def test_security_code_by_its_field(name: str) -> None:
    """A field named like a security code with three digits or more is one, as text or number."""
    assert carries_card(request(json.dumps({name: "123"}))) == f"the field {name}"
    assert carries_card(request(json.dumps({name: 1234}))) == f"the field {name}"


@pytest.mark.parametrize("number", CARDS)
def test_number_by_its_value(number: str) -> None:
    """A card's number is found in any field, as text, as a number, in a sentence, and in a form."""
    grouped = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    for value in (number, int(number), grouped, grouped.replace(" ", "-"), f"pay with {number}, please"):
        assert carries_card(request(json.dumps({"note": value}))) == "a value of the field note"
    assert carries_card(request(f"note={quote_plus(grouped)}", FORM)) == "a value of the field note"


@pytest.mark.parametrize(
    ("snapshot", "where"),
    [
        (request("{}", path="/pay/4242424242424242"), "the path"),
        (request("{}", query="n=4242%204242%204242%204242"), "the query"),
        (request("number 4242424242424242", "text/plain"), "the body"),
        (request('{"n": "４２４２４２４２４２４２４２４２"}'), "a value of the field n"),
        (request('{"n": "\\u0034242424242424242"}'), "a value of the field n"),
        (request('{"\\u0063vv": "123"}'), "the field cvv"),
        (request('{"cvv": "123"}', "text/plain"), "the field cvv"),
        (request('{"cvv": "123"}', FORM), "the field cvv"),
        (request("c%76v=123", FORM), "the field cvv"),
        (request('{"note": "4242424242424242"'), "the body"),
        (request('{"4242424242424242": "4242424242424242"}'), "the body"),
        (request("[4242424242424242]"), "the body"),
        (
            request(
                '--b\r\nContent-Disposition: form-data; name="n"; filename="x"\r\n\r\n4242424242424242\r\n--b--\r\n',
                "multipart/form-data; boundary=b",
            ),
            "a value of the field n",
        ),
    ],
)
def test_hidden_places(snapshot: Snapshot, where: str) -> None:
    """Path, query, files, escapes, other scripts, broken bodies: a card is found, and told without its number."""
    assert carries_card(snapshot) == where


@pytest.mark.parametrize(
    "body",
    [
        {"source": "tok_1NqJ4k2eZvKYlo2C", "amount": 4999, "currency": "EUR", "cart_id": "8e03978e-40d5-43dd-bc93-6894a57f9324"},
        {"cvc_check": "pass", "card": {"last4": "4242", "exp_month": 12, "exp_year": 2029, "brand": "visa"}},
        {"cvc": "", "cardNumber": "", "pan": "ABCPE1234F"},
        {"cvv": "***", "card_number": "**** **** **** 4242"},
        {"phone": "+44 20 7946 0000", "created_ms": 1763800000000, "promo_code": "SAVE20"},
        {"order": "2026-11-22-0000017", "iban": "DE89 3704 0044 0532 0130 00"},
        [],
        {},
    ],
)
def test_honest_requests_are_let_be(body: object) -> None:
    """Tokens, last digits, masks, phone numbers, IBANs and times are no card data."""
    assert carries_card(request(json.dumps(body))) is None


TOKENS = [
    "c0mutZZLTCI.3c13389bb25befed34827ae771f5950c5390f2616030839004677bed0fb6bbff",
    "i5o1gfaarPo.2edd4ad5d0bf5be3943e302073928873761534b9c84ee91740ceb3547b9301f9",
    "8e03978e-40d5-43dd-bc93-6894a57f9324-4242424242424242",
]


@pytest.mark.parametrize("token", TOKENS)
def test_digits_inside_a_random_token_are_no_card(token: str) -> None:
    """A form token that happens to hold sixteen fitting digits must not keep its order from being kept."""
    assert carries_card(request(f"csrf_token={token}&basket_id=b_1", FORM)) is None
    assert carries_card(request(json.dumps({"token": token}))) is None


@pytest.mark.parametrize("text", ["visa4242424242424242exp1229cvv123", "no_4242-4242-4242-4242_x", f"{TOKENS[0]} 4242424242424242"])
def test_number_glued_to_words_is_a_card(text: str) -> None:
    """Letters before or after a number do not hide it, and neither does a token beside it."""
    assert carries_card(request(json.dumps({"note": text}))) == "a value of the field note"


def test_random_tokens_are_let_be() -> None:
    """Of twenty thousand hex tokens none is taken for a card; without looking at the word around, a dozen would be."""
    chance = random.Random(11)
    assert not any(carries_card(request(f"csrf_token={chance.randbytes(32).hex()}", FORM)) for _ in range(20_000))


def test_empty_body_has_no_card() -> None:
    """A request without a body carries no card."""
    assert carries_card(request("")) is None


def test_monstrous_body_counts_as_a_card() -> None:
    """A body with more values than are looked at is not called free of cards."""
    assert carries_card(request(json.dumps(["value"] * 10_001))) == "a body with too many values to look at"


# --- in texts


@pytest.mark.parametrize("number", CARDS)
def test_numbers_are_blotted_out(number: str) -> None:
    """No writing of a card's number leaves the text."""
    for separator in ("", " ", "-", "\u00a0", "%20", "+", "–"):
        written = separator.join(number[at : at + 4] for at in range(0, len(number), 4))
        assert redact(f"card {written}.") == f"card {CARD_MARK}."
    wide = number.translate({ord("0") + digit: ord("０") + digit for digit in range(10)})
    assert redact(f"card {wide}!") == f"card {CARD_MARK}!"


def test_what_stands_around_a_number_stays() -> None:
    """Only the number goes: its expiry, a second number, and the words stay apart."""
    text = "4242 4242 4242 4242 12/26 and 5555555555554444; order 17"
    assert redact(text) == f"{CARD_MARK} 12/26 and {CARD_MARK}; order 17"


@pytest.mark.parametrize(
    "text", ["order 1763800000000 at 2026-11-22T10:00:00", "tel +44 20 7946 0000", "id 123456789012345678901234567890", ""]
)
def test_other_numbers_stay(text: str) -> None:
    """Times, phones and long ids stay readable."""
    assert redact(text) == text


@pytest.mark.parametrize("address", ["fern@example.com", "Fern.O'Hara+x@mail.example.co.uk", "fern%40example.com", "jürgen@bücher.example"])
def test_addresses_are_blotted_out(address: str) -> None:
    """E-mail addresses do not leave, whatever surrounds them."""
    assert redact(f"told <{address}> twice").endswith(f"{EMAIL_MARK}> twice")
    assert "@" not in redact(f"to:{address}.")


def test_long_hostile_text_takes_no_time() -> None:
    """Texts made to keep the search busy are read once."""
    for text in ("4 " * 50_000, "a" * 100_000 + "@", "4242" * 20_000, "a@" * 30_000, "1-" * 50_000):
        redact(text)


REPRS = ["', '", "\\', \\'", "\\\\\\', \\\\\\'", '\\\\\\", \\\\\\"']  # of a list of texts, and of the text that it is in, and so on


@pytest.mark.parametrize("between", [".", "/", "_", "\t", "\n", "|", ":", " – ", "\u200b", ", ", *REPRS])
@pytest.mark.parametrize("number", ["4111{0}1111{0}1111{0}1111", "3782{0}822463{0}10005", "６０１１{0}1111{0}1111{0}1117"])
def test_a_number_as_it_stands_on_the_card_is_found_whatever_is_between_its_groups(number: str, between: str) -> None:
    """Grouped as printed, with the same mark between the groups: blotted out, and its request carries a card."""
    text = number.format(between)
    assert redact(f"it is {text} !") == f"it is {CARD_MARK} !"
    assert carries_card(request(json.dumps({"note": f"it is {text} !"}))) is not None


@pytest.mark.parametrize("text", ["2021, 2022, 2023, 2024", "4111.1111.1111.1112", "1111/1111/1111/1117", "36, 38, 40, 42, 44, 46, 48"])
def test_other_groups_of_four_are_no_card(text: str) -> None:
    """Years, wrong sums, unknown issuers, and lists of sizes."""
    assert redact(text) == text
