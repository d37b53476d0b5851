"""Whether an HTTP service keeps the rules of the Idempotency-Key header, seen from outside: `cxguard conform`."""
