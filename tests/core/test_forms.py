"""Content types, as far as they are remembered between requests."""

from __future__ import annotations

import pytest

from cxguard.core.forms import REMEMBERED_CHARS_MAX, content_type_of


@pytest.mark.parametrize(("chars", "kept"), [(REMEMBERED_CHARS_MAX, True), (REMEMBERED_CHARS_MAX + 1, False)])
def test_content_type_is_kept_for_the_next_request_unless_it_is_long(chars: int, kept: bool) -> None:
    """A shop sees the same few all day; long ones would fill the memory."""
    header = "text/plain; charset=utf-8; note=".ljust(chars, "x")
    assert (content_type_of(header) is content_type_of(header)) is kept
