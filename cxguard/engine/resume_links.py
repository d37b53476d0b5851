"""The shopper's link to go on with one order: signed, for one try, and no longer than the order waits."""

from __future__ import annotations

from cxguard.core.asks import ASK_SECONDS, may_resume
from cxguard.core.operation import Operation
from cxguard.engine.engine import Engine
from cxguard.rules import Rule

RESUME_PURPOSE = "resume"  # what the token is for: a status link's token is refused here


def resume_url(engine: Engine, rule: Rule | None, operation: Operation) -> str | None:
    """The shop's own checkout page with the token of *operation*; None: nobody is asked, or there is no such page."""
    now = engine.clock.now()
    if rule is None or not rule.resume_at or not may_resume(operation, now=now):
        return None
    ends_at = operation.give_up_at or now + ASK_SECONDS
    token = engine.seal.sign_token(f"{operation.id}.{operation.generation}", expires_at=ends_at, purpose=RESUME_PURPOSE)
    return rule.resume_at.replace("{token}", token)


def read_resume_token(engine: Engine, token: str) -> tuple[str, int] | None:
    """The operation's id, and the generation that the link was made for; None: not ours, changed, or over."""
    named = engine.seal.read_token(token.strip(), now=engine.clock.now(), purpose=RESUME_PURPOSE)
    id, _, generation = (named or "").rpartition(".")
    return (id, int(generation)) if id and generation.isdecimal() else None
