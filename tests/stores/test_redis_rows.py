"""Texts as the Redis scripts keep them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cxguard.stores.redis.rows import joined, plain, quoted, split

ANY_TEXT = st.text(st.characters() | st.sampled_from('"\\\t\n\x7f\u2028\ud800'))  # lone surrogates too


@given(ANY_TEXT)
def test_text_is_kept_as_one_line_of_ascii(text: str) -> None:
    """Whatever a caller names its holder or its claim, no line and no list of names is cut in two."""
    kept = quoted(text)
    assert kept == json.dumps(text)[1:-1]
    assert kept.isascii() and "\n" not in kept and "\t" not in kept
    assert plain(kept) == text


@given(st.lists(ANY_TEXT.filter(bool), max_size=4))
def test_names_in_one_text_come_apart_as_they_were(names: list[str]) -> None:
    """A list of claims is read back name by name."""
    assert split(joined(names)) == tuple(names)
