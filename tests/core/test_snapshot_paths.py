"""A full path as the app sees it that is served below a root."""

from __future__ import annotations

import pytest

from cxguard.core.snapshot import below_root


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/pay", "", "/pay"),
        ("/pay", "/", "/pay"),
        ("/shop/pay", "/shop", "/pay"),
        ("/shop/pay", "/shop/", "/pay"),
        ("/shop", "/shop", "/"),
        ("/shop/", "/shop", "/"),
        ("/pay/shop", "/shop", "/pay/shop"),
        ("/shopX/pay", "/shopX", "/pay"),
    ],
)
def test_path_below_its_root(path: str, root: str, below: str) -> None:
    """Without what stands in front, and never empty."""
    assert below_root(path, root) == below
