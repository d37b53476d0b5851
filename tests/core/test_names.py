"""Names: keyed hashes, references, and the grammar of a client's key."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.names import (
    OWNER_DIGITS,
    amount_claim,
    arguments_hash,
    check_derived_key,
    contact_hash,
    current_claim,
    gateway_key,
    id_prefix,
    is_amount_claim,
    keyed_hash,
    normalise_reference,
    operation_id,
    owner_name,
    parse_key,
    purchase_claim,
    reference_of,
)
from cxguard.errors import MalformedKey

SECRET = b"s" * 32
OTHER = b"t" * 32
NAMED = {"namespace": "shop", "purpose": "POST /pay", "owner": "visitor-1", "key": "k-1"}


hashed = st.tuples(
    st.lists(st.text(alphabet="1:;ax", max_size=4), max_size=4), st.binary(max_size=4) | st.sampled_from([b"1:a", b"0:", b"1:a1:a"])
)


@given(hashed, hashed)
def test_different_parts_never_meet(one: tuple[list[str], bytes], other: tuple[list[str], bytes]) -> None:
    """Two lists of parts and contents have the same name only when they are the same, however they are split."""
    names = [keyed_hash(SECRET, "x", *parts, content=content) for parts, content in (one, other)]
    assert (names[0] == names[1]) == (one == other)


def test_half_a_character_has_a_name_too() -> None:
    """JSON can carry it; a basket must not fail for it, nor be another one's."""
    assert len({keyed_hash(SECRET, "x", part) for part in ("\ud800", "\ud801", "", "?")}) == 4


@pytest.mark.parametrize("changed", list(NAMED))
def test_each_part_makes_another_operation(changed: str) -> None:
    """Another shop, rule, owner or key is another operation."""
    assert operation_id(SECRET, **{**NAMED, changed: "other"}) != operation_id(SECRET, **NAMED)


def test_operation_id_is_stable() -> None:
    """The id of an order never changes from release to release: paid orders would become strangers."""
    assert operation_id(SECRET, **NAMED) == "118606ba7b2c4b1603aa8e4a3712ce324331600ffc4fbfb19c30f058319d3c1f"


def test_no_name_ever_changes() -> None:
    """A store that an earlier release has filled is read by these: each is what it was, to the letter."""
    assert [name(SECRET) for name in NAMES] == [
        "327839711cdf0198e67b49bf84802c61",  # pragma: allowlist secret
        "p-6c41196adc7e4fb45fea575bbc72ed1488e81865",  # pragma: allowlist secret
        "c-13a0e9bcaf8c20a9db478113fe053962a7dd1cfe",  # pragma: allowlist secret
        "f50aef3eea51a012de2ea7396b2b612c573a1a43",  # pragma: allowlist secret
        "fc710c2d6e514c85202b78804ab7e862",  # pragma: allowlist secret
    ]


@pytest.mark.parametrize(
    ("step", "generation", "key"),
    [
        ("charge", 1, "cxg-a53f9b59d624b26955057145aede3dc0606807a39d1b609f"),  # pragma: allowlist secret
        ("charge", 2, "cxg-04dd42aaca961d81784438ec6cb93aa44d9077a4106e7a23"),  # pragma: allowlist secret
        ("x" * 500, 2, "cxg-22ccc13062847a7735d7123de99780fc4f514ed1e9c1997e"),  # pragma: allowlist secret
    ],
)
def test_no_gateway_key_ever_changes(step: str, generation: int, key: str) -> None:
    """What was sent by an earlier release and is sent again by this one goes under the same key: else it is a second charge."""
    assert gateway_key(operation_id(SECRET, **NAMED), step=step, generation=generation) == key


def test_no_reference_ever_changes() -> None:
    """What a shopper was told on the phone is found by the next release, too."""
    assert reference_of(operation_id(SECRET, **NAMED)) == "2630-DEKV-5H5H"


def test_id_led_by_its_home_is_stable_and_begins_alike() -> None:
    """Where a store gathers by owner, all ids of one owner begin with the same digits; the rest is as everywhere."""
    ids = [operation_id(SECRET, **{**NAMED, "key": key}, home="visitor-1") for key in ("k-1", "k-2")]
    assert ids[0] == "48f606ba7b2c4b1603aa8e4a3712ce324331600ffc4fbfb19c30f058319d3c1f"  # pragma: allowlist secret
    assert {id[:OWNER_DIGITS] for id in ids} == {ids[0][:OWNER_DIGITS]}
    assert ids[0][OWNER_DIGITS:] == operation_id(SECRET, **NAMED)[OWNER_DIGITS:]
    assert operation_id(SECRET, **NAMED, home="visitor-2")[:OWNER_DIGITS] != ids[0][:OWNER_DIGITS]


def test_another_secret_is_another_id() -> None:
    """Without the naming secret nobody can make or guess an id."""
    assert operation_id(OTHER, **NAMED) != operation_id(SECRET, **NAMED)


NAMES: list[Callable[[bytes], str]] = [
    lambda secret: owner_name(secret, namespace="shop", owner="visitor-1"),
    lambda secret: purchase_claim(secret, namespace="shop", purpose="pay", owner="visitor-1", parts=("cart", "7")),
    lambda secret: current_claim(secret, namespace="shop", purpose="pay", owner="visitor-1"),
    lambda secret: contact_hash(secret, namespace="shop", contact="fern@example.com"),
    lambda secret: arguments_hash(secret, step="invoice", arguments=b"7"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_keyed_printable_and_short(name: Callable[[bytes], str]) -> None:
    """Each kind of name depends on the secret, is the same each time, and fits an index row."""
    assert name(SECRET) == name(SECRET) != name(OTHER)
    assert name(SECRET).isascii() and name(SECRET).isprintable() and len(name(SECRET)) <= 64


def test_kinds_of_names_never_meet() -> None:
    """The same parts under different kinds of name give different names."""
    assert len({name(SECRET) for name in NAMES}) == len(NAMES)


def test_purchase_is_the_owners_basket() -> None:
    """The purchase changes with the basket and the owner, and with nothing else."""
    claim = purchase_claim(SECRET, namespace="shop", purpose="pay", owner="a", parts=("cart", "7"))
    assert claim != purchase_claim(SECRET, namespace="shop", purpose="pay", owner="b", parts=("cart", "7"))
    assert claim != purchase_claim(SECRET, namespace="shop", purpose="pay", owner="a", parts=("cart", "8"))


def test_basket_at_its_price_is_a_name_of_its_own() -> None:
    """Another basket, amount or currency is another one."""
    figures = [("p-1", 1_000, "EUR"), ("p-2", 1_000, "EUR"), ("p-1", 1_001, "EUR"), ("p-1", 1_000, "USD")]
    claims = {amount_claim(SECRET, basket=basket, amount_minor=minor, currency=currency) for basket, minor, currency in figures}
    assert len(claims) == len(figures)
    basket = purchase_claim(SECRET, namespace="shop", purpose="pay", owner="a", parts=("cart", "7"))
    assert [all(map(is_amount_claim, claims)), is_amount_claim(basket)] == [True, False]


def test_basket_at_its_price_has_the_name_that_it_had() -> None:
    """By another one, an order that was paid yesterday would not be found."""
    name = "a-18b74ad291aaaf5b1ea947b749d26870aa4ef41d"  # pragma: allowlist secret
    assert amount_claim(SECRET, basket="p-1", amount_minor=1_000, currency="EUR") == name


# --- gateway keys


def test_gateway_key_is_one_per_step_and_generation() -> None:
    """Another operation, step or generation is another gateway key; the same is the same."""
    id = operation_id(SECRET, **NAMED)
    keys = {gateway_key(id, step=step, generation=generation) for step in ("charge", "refund") for generation in (1, 2)}
    assert len(keys) == 4 and gateway_key(id, step="charge", generation=1) in keys


def test_gateway_key_fits_every_gateway() -> None:
    """A gateway key is printable ASCII without spaces and at most 64 characters, however long the step's name is."""
    key = gateway_key("a" * 64, step="x" * 500, generation=10**6)
    assert set(key) <= set(string.ascii_letters + string.digits + "-") and len(key) <= 64


# --- references


def test_reference_is_sayable() -> None:
    """A reference has twelve letters and digits in groups of four, none of which looks like another."""
    reference = reference_of(operation_id(SECRET, **NAMED))
    assert [len(group) for group in reference.split("-")] == [4, 4, 4]
    assert not set(reference) & set("ILOUilou")


def test_reference_holds_sixty_bits_of_the_id() -> None:
    """The first sixty bits of the id are in the reference, and the rest is not."""
    assert reference_of("0" * 15 + "f" * 49) == "0000-0000-0000"
    assert reference_of("f" * 15 + "0" * 49) == "ZZZZ-ZZZZ-ZZZZ"
    assert reference_of("0" * 14 + "1" + "0" * 49) == "0000-0000-0001"


@given(st.integers(min_value=0, max_value=2**60 - 1))
def test_reference_survives_being_typed(number: int) -> None:
    """Whatever the reference, typing it in lower case, with spaces, with O for 0 and l for 1 finds it again."""
    reference = reference_of(f"{number:015x}" + "0" * 49)
    typed = reference.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert normalise_reference(typed) == reference == normalise_reference(reference)
    assert id_prefix(reference) == f"{number:015x}"


@pytest.mark.parametrize("text", ["", "7K3M", "7k3m-9qxa-2tfv", "7K3M9QXA2TFV", "7K3M-9QXA-2TFV-", "7K3M-9QXA-2TFU"])
def test_what_is_no_reference_leads_to_no_id(text: str) -> None:
    """Typed ones are made plain first."""
    assert id_prefix(text) is None


@pytest.mark.parametrize("typed", ["7k3m9qxa2tfv", " 7K3M-9QXA-2TFV\n", "7K3M–9QXA—2TFV", "７K3M-9QXA-2TFV", "7K3M.9QXA.2TFV"])
def test_forgiven_writings(typed: str) -> None:
    """Case, spaces, other dashes and full-width digits are forgiven."""
    assert normalise_reference(typed) == "7K3M-9QXA-2TFV"


def test_letters_that_look_like_digits_are_taken_for_them() -> None:
    """In either case."""
    assert normalise_reference("IiLl-oO01-ABCD") == "1111-0001-ABCD"


@pytest.mark.parametrize("typed", ["", "7K3M-9QXA-2TF", "7K3M-9QXA-2TFVV", "7K3M-9QXA-2TFU", "<script>", "7" * 500])
def test_what_cannot_be_a_reference(typed: str) -> None:
    """Too short, too long, or with a letter that no reference has: none."""
    assert normalise_reference(typed) is None


# --- contacts


@pytest.mark.parametrize(
    ("one", "other"),
    [("Fern@Example.com ", "fern@example.com"), ("+44 20 7946-0000", "004420 79460000"), ("ｆern@example.com", "fern@example.com")],
)
def test_contact_is_found_however_it_was_typed(one: str, other: str) -> None:
    """An e-mail's case and a phone's separators do not matter."""
    assert contact_hash(SECRET, namespace="shop", contact=one) == contact_hash(SECRET, namespace="shop", contact=other)


@pytest.mark.parametrize(("one", "other"), [("ann1@example.com", "bob1@example.com"), ("+44 20 1", "+44 20 2"), ("ann", "bob")])
def test_two_contacts_have_two_names(one: str, other: str) -> None:
    """An address is more than its digits, and what is neither an address nor a number is all that was typed."""
    assert contact_hash(SECRET, namespace="shop", contact=one) != contact_hash(SECRET, namespace="shop", contact=other)


def test_contacts_of_two_shops_are_strangers() -> None:
    """The same address in two shops has two hashes."""
    assert contact_hash(SECRET, namespace="a", contact="f@x.yz") != contact_hash(SECRET, namespace="b", contact="f@x.yz")


# --- the key's grammar


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (" k \t", "k"),
        ("X-k-X", "X-k-X"),
        ('"k"', "k"),
        ("a" * 255, "a" * 255),
        ('"' + "a" * 255 + '"', "a" * 255),
        (r'"a \"quoted\" \\ key"', 'a "quoted" \\ key'),
        ('"a, b"', "a, b"),
        ("a;b=c/d+e", "a;b=c/d+e"),
        ("~!#$%&'()*+-./:<=>?@[]^_`{|}", "~!#$%&'()*+-./:<=>?@[]^_`{|}"),
    ],
)
def test_accepted_keys(header: str, key: str) -> None:
    """A bare key and the same key as an RFC 8941 string are one key."""
    assert parse_key(header) == key


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("k\r", "control characters"),
        ('""', "is empty"),
        ("a" * 256, "has 256 characters"),
        ('"' + "a" * 256 + '"', "has 258 characters"),
        ("a\x00b", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\tb", "control characters"),
        ("a b", "spaces"),
        ("a " * 127 + "b", "spaces"),
        ("schlüssel", "outside ASCII"),
        ("a, b", "two keys joined"),
        ('"a", "b"', "two keys joined"),
        ('"a', "without its end"),
        ('a"', "without its end"),
        (r'"a\b"', "quoted string"),
        ('"a";b=1', "quoted string"),
    ],
)
def test_refused_keys(header: str, says: str) -> None:
    """A key that is empty, too long, unprintable or joined is refused, with what to send instead."""
    with pytest.raises(MalformedKey, match=says) as refused:
        parse_key(header)
    assert "send 1 to 255 printable ASCII characters" in str(refused.value)
    assert refused.value.status == 400


@given(st.text(max_size=300))
def test_every_header_is_a_key_or_refused(header: str) -> None:
    """Whatever a header holds, it is 1 to 255 printable ASCII characters or it is refused."""
    try:
        key = parse_key(header)
    except MalformedKey:
        return
    assert 1 <= len(key) <= 255 and all(" " <= letter <= "~" for letter in key)


def test_derived_key_may_be_any_text() -> None:
    """A basket's number need not be ASCII, and may be as long as any key."""
    for text in ("Körbchen 7", "a" * 255):
        assert check_derived_key(text, part="json field cart_id") == text


@pytest.mark.parametrize(("value", "says"), [("", "is empty"), ("a" * 256, "256 characters"), ("a\nb", "cannot be printed")])
def test_refused_derived_keys(value: str, says: str) -> None:
    """An empty, huge or unprintable basket number is refused by its name."""
    with pytest.raises(MalformedKey, match=f"json field cart_id .*{says}"):
        check_derived_key(value, part="json field cart_id")
