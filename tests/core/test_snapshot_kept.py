"""A request that is kept, and read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.snapshot import Snapshot

texts = st.text(max_size=20)


@given(texts, texts, texts, st.lists(st.tuples(texts, texts), max_size=4), st.binary(max_size=60), texts)
def test_kept_request_comes_back(method: str, path: str, query: str, headers: list[tuple[str, str]], body: bytes, root: str) -> None:
    """Whatever a request holds, it comes back byte for byte."""
    snapshot = Snapshot(method, path, query, tuple(headers), body, "http", root)
    assert Snapshot.from_bytes(snapshot.to_bytes()) == snapshot


def test_another_versions_kept_request_is_refused() -> None:
    """Whatever it has written, also where its head reads like ours."""
    with pytest.raises(ValueError, match="of version 2 cannot be read here: run the cxguard that wrote it"):
        Snapshot.from_bytes(b"\x02" + Snapshot("GET", "/", "", (), b"").to_bytes()[1:])


def head(text: bytes) -> bytes:
    """A kept request of this version, of nothing but *text*."""
    return b"\x01" + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize(
    "kept",
    [b"", b"\x01", b"\x02" + b"\x00" * 8, b"\x01\x00\x00\x00\xffx", head(b""), head(b"[]"), head(b"7"), head(b"\xff")],
)
def test_unreadable_kept_request_is_refused(kept: bytes) -> None:
    """Bytes of another version, cut ones, or a head that says nothing are not guessed at."""
    with pytest.raises(ValueError, match="cannot be read here"):
        Snapshot.from_bytes(kept)
