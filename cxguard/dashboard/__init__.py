"""The desk as a web page: `app.mount("/ops", dashboard(guard, auth=...))`.

Closed without `auth`. A Starlette app of its own, so it can be mounted anywhere, or served alone.
"""

from __future__ import annotations

from cxguard.dashboard.app import dashboard
from cxguard.dashboard.auth import Auth, BasicAuth, password_hash

__all__ = ["Auth", "BasicAuth", "dashboard", "password_hash"]
