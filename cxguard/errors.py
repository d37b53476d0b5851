"""Every error that cxguard raises. Each text ends with what to do; those that reach a client know status and type."""

from __future__ import annotations


class CxguardError(Exception):
    """The base of all. `status` and `problem` are what an HTTP edge answers when nothing better is known."""

    status = 500
    problem = "internal"


class ConfigurationError(CxguardError):
    """Wrong code or settings: the program must not start. The text shows the corrected line."""


class StoreError(CxguardError):
    """Something about the store."""

    status = 503
    problem = "store-unavailable"


class StoreUnavailable(StoreError):
    """No answer came. What was asked may have happened or not: act on nothing, and let the lease lapse."""


class StoreUnfit(StoreError):
    """The store answers, but may not be trusted with money. The text says why and how it is mended."""


class IllegalMove(CxguardError):
    """The state table, or the money, forbids this move. Nothing has changed."""

    status = 409
    problem = "illegal-move"


class LeaseLost(CxguardError):
    """Somebody else holds the operation now: stop acting on it. Nothing of this write was kept."""

    status = 409
    problem = "lease-lost"


class OperationInFlight(CxguardError):
    """The same operation is being worked on elsewhere. Ask again in a moment; nothing was run."""

    status = 409
    problem = "in-flight"

    def __init__(self, reference: str) -> None:
        super().__init__(f"order {reference} is being worked on elsewhere: ask again in a moment; nothing was run here")
        self.reference = reference


class OperationHeld(CxguardError):
    """The operation waits for a person or for proof. Look at it on the desk, or `cxguard orders show REFERENCE`."""

    status = 409
    problem = "held"

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(f"order {reference} is held ({why}): see `cxguard orders show {reference}`; nothing was run here")
        self.reference = reference
        self.why = why


class KeyMismatch(CxguardError):
    """The key was used before with other content. Use a new key for a new request."""

    status = 422
    problem = "mismatch"


class AlreadyFinished(CxguardError):
    """The operation has ended; this charge or step was not part of it. Nothing was run."""

    status = 409
    problem = "already-finished"


class StepMismatch(CxguardError):
    """A step's name was used twice, or with other arguments than before. Give each step a name of its own."""


class StepUnfinished(CxguardError):
    """A step began and has no recorded end: it may have happened. Pass `repeatable=True` if running it twice is harmless."""


class PaymentDeclined(CxguardError):
    """The issuer refused. Not charged. Offer another card."""

    status = 402
    problem = "declined"

    def __init__(self, reason: str = "generic", code: str = "") -> None:
        super().__init__("the issuer did not approve the payment: nothing was charged; ask for another card")
        self.reason = reason
        self.code = code


class PaymentDeferred(CxguardError):
    """The payment has no end yet: kept for later, waiting for the shopper, or unknown. Return nothing to the shopper: the
    guard answers. In a script, look again later under the same key; never charge by another way.
    """

    status = 202
    problem = "deferred"

    def __init__(self, why: str, *, reference: str = "") -> None:
        super().__init__(f"the payment has no end yet ({why}): ask again later under the same key; do not charge by another way")
        self.why = why
        self.reference = reference
