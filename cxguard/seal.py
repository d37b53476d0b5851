"""Seals for what the store must keep but nobody may read, and signed tokens for links that shoppers hold.

A seal is AES-256-GCM. Its bytes, in this order:

    format (1) | key id (4) | nonce (12, random) | ciphertext | tag (16)

The associated data names the record, its owner and the member, each length-prefixed: a snapshot copied into another
record, or into another member of the same one, does not open. The first key of the ring seals and signs, the others
still open: to rotate, put a new key in front, and whatever is written from then on is sealed with it.

A token is base64url of

    key id (4) | expiry (5, seconds since the epoch) | HMAC-SHA256 cut to 128 bits | operation id

It is unguessable twice over: by its signature, and because the id is itself a keyed hash.

Sources: NIST SP 800-38D, section 8.3 (at most 2**32 random nonces under one key: rotate long before); RFC 5869 (each use
has a key of its own, derived from the ring's); RFC 2104, section 5 (a cut HMAC keeps half the bits of its hash).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cxguard.errors import ConfigurationError, SealBroken, SealKeyMissing

KEY_BYTES_MIN = 32
RING_KEYS_MAX = 16  # each is tried by id, not in turn: a longer ring means that old keys are never taken out
TOKEN_CHARS_MAX = 1024  # an id is at most 255 characters; longer input is not worth decoding

_FORMAT = b"\x01"
_KEY_ID_BYTES = 4  # enough that a key which is gone is named, and not mistaken for one that is here
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = len(_FORMAT) + _KEY_ID_BYTES
_EXPIRY_BYTES = 5
_LINK_STEPS = 30  # a link may last so much of its time longer
_EXPIRY_MAX = 2 ** (8 * _EXPIRY_BYTES) - 1
_MAC_BYTES = 16


class Seal:
    """Seals and opens bytes, signs and reads tokens. Holds no state but its keys: share it among threads and forks."""

    def __init__(self, ring: Sequence[bytes]) -> None:
        """Derive the keys of each use.

        Args:
            ring: master keys of 32 bytes or more; the first signs, the others still open. 1 to `RING_KEYS_MAX`.

        Raises:
            ConfigurationError: no key, too many, a short one, or the same twice.
        """
        _check_ring(ring)
        keys = [_derive(master) for master in ring]
        self._first = keys[0]
        self._by_id = {key.id: key for key in keys}
        self._head = _FORMAT + self._first.id

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the ring's keys, the sealing one first. They say nothing about the keys."""
        return tuple(id.hex() for id in self._by_id)

    def seal(self, data: bytes, *, about: tuple[str, ...]) -> bytes:
        """Seal *data* so that it opens only with the same *about*: (record id, owner, member name)."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._head + nonce + self._first.cipher.encrypt(nonce, data, _associated(about))

    def open(self, sealed: bytes, *, about: tuple[str, ...]) -> bytes:
        """The bytes that were sealed.

        Raises:
            SealKeyMissing: sealed with a key that is not in the ring.
            SealBroken: changed, cut, or sealed about something else.
        """
        key_id = sealed[len(_FORMAT) : _HEAD_BYTES]
        if sealed[:1] != _FORMAT or len(sealed) < _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise SealBroken(about[-1])
        key = self._by_id.get(key_id)
        if key is None:
            raise SealKeyMissing(key_id.hex())
        body = _HEAD_BYTES + _NONCE_BYTES
        try:
            return key.cipher.decrypt(sealed[_HEAD_BYTES:body], sealed[body:], _associated(about))
        except InvalidTag:
            raise SealBroken(about[-1]) from None

    def sign_link(self, operation_id: str, *, now: float, seconds: float, purpose: str) -> str:
        """A token that lasts *seconds* or a little longer: the same one for a while, so that two answers about an order are equal."""
        step = seconds / _LINK_STEPS
        return self.sign_token(operation_id, expires_at=(now // step + 1) * step + seconds, purpose=purpose)

    def sign_token(self, operation_id: str, *, expires_at: float, purpose: str) -> str:
        """A url-safe token that names the operation to whoever holds it, for one purpose, until *expires_at*."""
        expiry = min(max(math.ceil(expires_at), 0), _EXPIRY_MAX).to_bytes(_EXPIRY_BYTES, "big")
        id = operation_id.encode()
        mac = _mac(self._first, id, expiry=expiry, purpose=purpose)
        return _to_text(self._first.id + expiry + mac + id)

    def read_token(self, token: str, *, now: float, purpose: str) -> str | None:
        """The operation id, or None: not ours, changed, expired, or for another purpose. All of these take the same time."""
        raw = _from_text(token)
        start = _KEY_ID_BYTES + _EXPIRY_BYTES
        expiry, mac, id = raw[_KEY_ID_BYTES:start], raw[start : start + _MAC_BYTES], raw[start + _MAC_BYTES :]
        known = self._by_id.get(raw[:_KEY_ID_BYTES])
        # An unknown key costs the same signature as a known one, and then fails.
        signed = hmac.compare_digest(mac, _mac(known or self._first, id, expiry=expiry, purpose=purpose))
        fresh = now < int.from_bytes(expiry, "big")
        return id.decode() if signed & fresh & (known is not None) else None


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    id: bytes
    cipher: AESGCM
    token_key: bytes


def _check_ring(ring: Sequence[bytes]) -> None:
    if not 1 <= len(ring) <= RING_KEYS_MAX:
        raise ConfigurationError(f"the key ring has {len(ring)} keys: give 1 to {RING_KEYS_MAX}, the newest first")
    if any(len(key) < KEY_BYTES_MIN for key in ring):
        raise ConfigurationError(f"a key of the ring is shorter than {KEY_BYTES_MIN} bytes: make one with `openssl rand -hex 32`")
    if len(set(ring)) != len(ring):
        raise ConfigurationError("the key ring names the same key twice: keep the first of the two")


def _derive(master: bytes) -> _Key:
    return _Key(
        id=_hkdf(master, use=b"key id", length=_KEY_ID_BYTES),
        cipher=AESGCM(_hkdf(master, use=b"seal", length=32)),
        token_key=_hkdf(master, use=b"token", length=32),
    )


def _hkdf(master: bytes, *, use: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"cxguard 1 " + use).derive(master)


def _associated(about: tuple[str, ...]) -> bytes:
    """Each part with its length in front, so that no two lists of parts give the same bytes."""
    parts = [part.encode() for part in about]
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def _mac(key: _Key, id: bytes, *, expiry: bytes, purpose: str) -> bytes:
    said = purpose.encode()
    message = len(said).to_bytes(4, "big") + said + len(expiry).to_bytes(4, "big") + expiry + id
    return hmac.digest(key.token_key, message, "sha256")[:_MAC_BYTES]


def _to_text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_text(token: str) -> bytes:
    """The bytes of a token, or none for anything that `_to_text` would not have written."""
    if len(token) > TOKEN_CHARS_MAX:
        return b""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _to_text(raw) == token else b""
