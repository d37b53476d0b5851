"""What the shops and their tests both know."""

from __future__ import annotations

SECRET = "of the shops in these tests"  # the frameworks' own, for their sessions
NAMING = bytes(range(32))
KEYS = [bytes(range(1, 33))]
BODY_BYTES_MAX = 2_048
TROUBLE_HEADER = "x-trouble"  # a header: no part of the fingerprint, so that the retry of the same request goes well
