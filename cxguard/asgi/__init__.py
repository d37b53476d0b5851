"""The edge to ASGI stores: pure ASGI, no framework."""

from cxguard.asgi.middleware import GuardMiddleware

__all__ = ["GuardMiddleware"]
