"""The store on Redis: one server, Sentinel, or Cluster."""

from cxguard.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
