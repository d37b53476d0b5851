"""Seals open only where they belong, rotation loses nothing, and a link's token cannot be guessed or bent."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.errors import ConfigurationError, SealBroken, SealKeyMissing
from cxguard.seal import RING_KEYS_MAX, TOKEN_CHARS_MAX, Seal

OLD, NEW, OTHER = (bytes([first]) + os.urandom(31) for first in (1, 2, 3))
ABOUT = ("operation-1", "owner-1", "request")
NOW = 1_800_000_000.0


def test_what_was_sealed_opens() -> None:
    """The same content comes back, the empty one too."""
    seal = Seal([NEW])
    assert [seal.open(seal.seal(data, about=ABOUT), about=ABOUT) for data in (b"", b"4 pots of fern")] == [b"", b"4 pots of fern"]


def test_the_content_cannot_be_read_from_the_seal() -> None:
    """The sealed bytes do not contain what they hold, and two seals of one content have nothing in common but their head."""
    one, two = (Seal([NEW]).seal(b"4 pots of fern", about=ABOUT) for _ in range(2))
    assert b"fern" not in one
    assert one[5:17] != two[5:17]
    assert one[17:] != two[17:]


@pytest.mark.parametrize(
    "about",
    [
        ("operation-2", "owner-1", "request"),
        ("operation-1", "owner-2", "request"),
        ("operation-1", "owner-1", "answer"),
        ("operation-1owner-1", "", "request"),
        ("operation-1", "owner-1request"),
        ("operation-1", "owner-1", "request", ""),
    ],
)
def test_a_seal_moved_elsewhere_does_not_open(about: tuple[str, ...]) -> None:
    """Another record, owner or member, or the same letters divided otherwise, is refused."""
    with pytest.raises(SealBroken, match="trust none of it"):
        Seal([NEW]).open(Seal([NEW]).seal(b"x", about=ABOUT), about=about)


def test_every_changed_bit_is_noticed() -> None:
    """No single flipped bit, in head, nonce, content or tag, still opens."""
    seal = Seal([NEW])
    sealed = seal.seal(b"abc", about=ABOUT)
    for bit in range(len(sealed) * 8):
        bent = bytearray(sealed)
        bent[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SealBroken, SealKeyMissing)):
            seal.open(bytes(bent), about=ABOUT)


def test_every_cut_is_noticed() -> None:
    """No shorter piece opens, the empty one included."""
    seal = Seal([NEW])
    sealed = seal.seal(b"abc", about=ABOUT)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            seal.open(sealed[:length], about=ABOUT)


def test_old_keys_still_open() -> None:
    """After a new key was put in front, what the old one sealed opens."""
    sealed = Seal([OLD]).seal(b"x", about=ABOUT)
    assert Seal([NEW, OLD]).open(sealed, about=ABOUT) == b"x"


def test_the_first_key_seals() -> None:
    """What was sealed since opens without the old key."""
    assert Seal([NEW]).open(Seal([NEW, OLD]).seal(b"x", about=ABOUT), about=ABOUT) == b"x"


def test_a_missing_key_is_named() -> None:
    """Sealed with a key that was taken out of the ring: the error names its id and says to put it back."""
    sealed = Seal([OLD]).seal(b"x", about=ABOUT)
    with pytest.raises(SealKeyMissing, match=r"put that key back into CXGUARD_KEYS") as caught:
        Seal([NEW]).open(sealed, about=ABOUT)
    assert caught.value.key_id == Seal([OLD]).key_ids[0]
    assert caught.value.key_id in str(caught.value)


def test_threads_share_a_seal() -> None:
    """Many threads on one seal get back what each of them put in."""
    seal = Seal([NEW])

    def round_trip(number: int) -> bool:
        data, about = os.urandom(2048), (f"operation-{number}", "owner", "request")
        return all(seal.open(seal.seal(data, about=about), about=about) == data for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(32)))


@pytest.mark.parametrize(
    ("ring", "says"),
    [
        ([], "has 0 keys: give 1 to 16"),
        ([bytes([n]) * 32 for n in range(RING_KEYS_MAX + 1)], "has 17 keys: give 1 to 16"),
        ([NEW, b"x" * 31], "shorter than 32 bytes: make one with `openssl rand -hex 32`"),
        ([NEW, NEW], "the same key twice: keep the first"),
    ],
)
def test_a_wrong_ring_is_refused(ring: list[bytes], says: str) -> None:
    """No key, too many, a short one and a repeated one each get an error that says what to do."""
    with pytest.raises(ConfigurationError, match=says):
        Seal(ring)


@given(st.text(min_size=1, max_size=255), st.integers(1, 2**33), st.text(max_size=20))
def test_a_token_names_its_operation(id: str, expires_at: int, purpose: str) -> None:
    """Any id comes back from its own token before it ends, and the token needs no escaping in a path."""
    seal = Seal([NEW])
    token = seal.sign_token(id, expires_at=expires_at, purpose=purpose)
    assert seal.read_token(token, now=expires_at - 1, purpose=purpose) == id
    assert token.isascii() and all(letter.isalnum() or letter in "-_" for letter in token)


def test_a_token_ends() -> None:
    """At its expiry a token says nothing any more."""
    token = Seal([NEW]).sign_token("operation-1", expires_at=NOW + 60, purpose="status")
    assert Seal([NEW]).read_token(token, now=NOW + 59.9, purpose="status") == "operation-1"
    assert Seal([NEW]).read_token(token, now=NOW + 60, purpose="status") is None


def test_a_link_is_the_same_for_a_while_and_never_shorter_than_promised() -> None:
    """Two answers about an order that are given in the same minute are equal to the byte."""
    seal, links = Seal([NEW]), set()
    for second in range(60):
        made_at = NOW - NOW % 20.0 + second
        link = seal.sign_link("operation-1", now=made_at, seconds=600.0, purpose="status")
        assert seal.read_token(link, now=made_at + 600.0 - 0.1, purpose="status") == "operation-1"
        assert seal.read_token(link, now=made_at + 620.0, purpose="status") is None
        links.add(link)
    assert len(links) == 3


def test_a_token_is_for_one_purpose() -> None:
    """A status link's token does not pass for another use."""
    token = Seal([NEW]).sign_token("operation-1", expires_at=NOW + 60, purpose="status")
    assert Seal([NEW]).read_token(token, now=NOW, purpose="csrf") is None


def test_purpose_and_id_cannot_trade_letters() -> None:
    """Letters moved from the id to the purpose give another signature."""
    seal = Seal([NEW])
    assert seal.sign_token("bc", expires_at=NOW, purpose="a")[12:34] != seal.sign_token("c", expires_at=NOW, purpose="ab")[12:34]


def test_no_changed_token_is_read() -> None:
    """Whichever character is replaced, cut or added: None, never an error."""
    seal = Seal([NEW])
    token = seal.sign_token("operation-1", expires_at=NOW + 60, purpose="status")
    bent = [token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :] for i in range(len(token))]
    bent += [token[:i] for i in range(len(token))] + [token + letter for letter in "A=\n é"]
    assert {seal.read_token(other, now=NOW, purpose="status") for other in bent} == {None}


@pytest.mark.parametrize("token", ["", "=", "a", "é" * 40, "\x00", "A" * 40, "A" * (TOKEN_CHARS_MAX + 4), "../../etc/passwd", "%2e%2e"])
def test_rubbish_is_no_token(token: str) -> None:
    """Anything that is not a token reads as None, whatever it is made of."""
    assert Seal([NEW]).read_token(token, now=NOW, purpose="status") is None


def test_a_token_has_one_spelling() -> None:
    """The spare bits of the last character must be as they were written: one operation, one address."""
    seal = Seal([NEW])
    token = seal.sign_token("four", expires_at=NOW + 60, purpose="status")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # pragma: allowlist secret
    assert [seal.read_token(token[:-1] + last, now=NOW, purpose="status") for last in alphabet].count("four") == 1


def test_tokens_outlive_a_rotation() -> None:
    """A link that was mailed before the rotation still works, and one from an unknown ring does not."""
    token = Seal([OLD]).sign_token("operation-1", expires_at=NOW + 60, purpose="status")
    assert Seal([NEW, OLD]).read_token(token, now=NOW, purpose="status") == "operation-1"
    assert Seal([OTHER]).read_token(token, now=NOW, purpose="status") is None


def test_far_expiry_is_the_latest_that_fits() -> None:
    """A time beyond what the token can hold is cut to the latest one, not wrapped round."""
    token = Seal([NEW]).sign_token("operation-1", expires_at=1e15, purpose="status")
    assert Seal([NEW]).read_token(token, now=NOW * 10, purpose="status") == "operation-1"
