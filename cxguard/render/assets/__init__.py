"""Style and script of the pages, served under the guard's own prefix: the pages load nothing from anywhere else."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from cxguard.render.rendered import Rendered

_TYPES = {"cxguard.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8"}


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = resources.files(__package__).joinpath(name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]


def asset_url(prefix: str, name: str) -> str:
    """Where a page finds an asset. The address changes with the content, so that it may be kept for ever."""
    return f"{prefix}/assets/{name}?v={_read(name)[1]}"


def render_asset(name: str) -> Rendered | None:
    """The response for `{prefix}/assets/{name}`, or None when there is no such asset."""
    if name not in _TYPES:
        return None
    content, mark = _read(name)
    return Rendered(
        200,
        (
            ("content-type", _TYPES[name]),
            ("content-length", str(len(content))),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("etag", f'"{mark}"'),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
        ),
        content,
    )
