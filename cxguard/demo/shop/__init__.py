"""Fern & Co, a small plant shop: pages that work without scripts, a JSON API, and a checkout with or without the guard."""

from __future__ import annotations

from cxguard.demo.shop.app import make_shop

__all__ = ["make_shop"]
