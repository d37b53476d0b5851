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


class PartlyRenewed(StoreUnavailable):
    """Some servers of a store answered a renewal and others did not: what is known stands here, the rest may have happened or not.

    Attributes:
        lost: ids whose lease is no longer ours.
        unanswered: ids of which nobody knows.
    """

    def __init__(self, text: str, *, lost: frozenset[str], unanswered: frozenset[str]) -> None:
        super().__init__(text)
        self.lost = lost
        self.unanswered = unanswered


class PartAway(StoreUnavailable):
    """One server of a store does not answer, or one record is held by a transaction of the shop's own, while others answer. It
    may have happened or not; the store itself is not away."""


class StoreRelocated(StoreUnavailable):
    """The shop's orders are being moved, or were moved, to another store: nothing may be begun here."""

    def __init__(self, to: str) -> None:
        super().__init__(f"the orders of this store go to {to}: start the shop there once `cxguard migrate-store` has ended")
        self.to = to


class OrdersArriving(StoreUnavailable):
    """The shop's orders are on their way into this store: one that is not here yet would look new, and be charged again."""

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"not all orders of {origin} have come here yet, and what is missing would be charged again: "
            f"run `cxguard migrate-store {origin} ...` again until it says that all is moved"
        )
        self.origin = origin


class SpoolFull(StoreUnavailable):
    """The spool takes nothing more in. Nothing was kept; bring the store back, or look at the disk."""


class StoreUnfit(StoreError):
    """The store answers, but may not be trusted with money. The text says why and how it is mended."""


class StoreDamaged(StoreUnfit):
    """Its file is damaged: what stands in it cannot be believed."""


class NotADatabase(ConfigurationError):
    """The file is no SQLite database: another program's, or one that is damaged where it begins."""


class IllegalMove(CxguardError):
    """The state table, or the money, forbids this move. Nothing has changed."""

    status = 409
    problem = "illegal-move"


class LeaseLost(CxguardError):
    """Somebody else holds the operation now: stop acting on it. Nothing of this write was kept."""

    status = 409
    problem = "lease-lost"


class OfParentProcess(CxguardError):
    """An operation that was opened before a fork, used in the child: its lease, and all that follows, are its parent's."""

    status = 503
    problem = "of-parent-process"

    def __init__(self) -> None:
        super().__init__(
            "this operation was opened before the fork, and is the parent process's: nothing was sent or written here; "
            "in the child, open one of its own under the same key, or leave with os._exit"
        )


class LoopEnded(CxguardError):
    """The event loop that worked for this thread ended before it was done. Ask again later, under the same key."""

    status = 503
    problem = "loop-ended"

    def __init__(self) -> None:
        super().__init__(
            "the event loop that worked on this has ended: what became of it is on record, and whoever has the order next goes on with it; "
            "ask again later under the same key"
        )


class OperationInFlight(CxguardError):
    """The same operation is being worked on elsewhere. Ask again in a moment; nothing was run."""

    status = 409
    problem = "in-flight"

    def __init__(self, reference: str) -> None:
        super().__init__(f"order {reference} is being worked on elsewhere: ask again in a moment; nothing was run here")
        self.reference = reference


class OperationHeld(CxguardError):
    """The operation waits for a person or for proof, or it was cancelled: see the desk, or `cxguard orders show TARGET REFERENCE`."""

    status = 409
    problem = "held"

    def __init__(self, reference: str, why: str, *, state: str = "held") -> None:
        said = f"{why}: no run of it ended well in its time; a new key begins anew" if why == "gave_up" else why
        super().__init__(f"order {reference} is {state} ({said}): see `cxguard orders show TARGET {reference}`; nothing was run here")
        self.reference = reference
        self.why = why


class HookFailed(CxguardError):
    """A function of the shop's raised, or gave no answer in time. The text is for a record, without a word of what it raised:
    mend the function (the log says where), then put the order back into the queue.
    """


class NoSuchOrder(CxguardError):
    """No order of this shop has that reference. Search for the shopper's e-mail address or phone number instead."""

    status = 404
    problem = "no-such-order"

    def __init__(self, reference: str) -> None:
        super().__init__(f"no order here is called {reference[:40]!r}: search for the shopper's e-mail address or phone number instead")
        self.reference = reference


class KeyMismatch(CxguardError):
    """The key was used before with other content. Use a new key for a new request."""

    status = 422
    problem = "mismatch"


class AlreadyFinished(CxguardError):
    """The operation has ended; this charge or step was not part of it. Nothing was run."""

    status = 409
    problem = "already-finished"


class FinishRefused(CxguardError):
    """`op.finish` came too early or too late: a charge without an end, a wish to cancel, a step under way. Nothing was written."""

    status = 409
    problem = "finish-refused"

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(
            f"order {reference} cannot finish now ({why}): nothing was written; roll your transaction back: the guard tells the shopper, "
            "and sees the order through"
        )
        self.reference = reference
        self.why = why


class TransactionOpen(CxguardError):
    """The transaction in which `op.finish` wrote has not ended: commit it, or roll it back, before anything else is done with the
    order, and before the handler returns.
    """

    status = 500
    problem = "transaction-open"

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"the transaction that finishes order {reference} is still open, and holds its record: commit it or roll it back before "
            "the next charge or step, and before your function returns (`async with connection.transaction():` around op.finish does)"
        )
        self.reference = reference


class TransactionRolledBack(CxguardError):
    """The transaction in which `op.finish` wrote was rolled back, and the function ended as if all were well: the order is not
    finished. What was charged stands, and a worker or a person goes on with it.
    """

    status = 500
    problem = "transaction-rolled-back"

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"order {reference} is not finished: the transaction that finishes it was rolled back. Let the error of your transaction out "
            "of your function, or write again and call op.finish again; what was charged stands, and is not charged again"
        )
        self.reference = reference


class StepMismatch(CxguardError):
    """A step's name was used twice, or with other arguments than before. Give each step a name of its own."""


class StepUnfinished(CxguardError):
    """A step began and has no recorded end: it may have happened. Pass `repeatable=True` if running it twice is harmless."""

    why = "step_unfinished"


class StepResultLost(CxguardError):
    """A step is done, and nothing can be read of its result: it is never run again, and a person ends the order. Pass
    `repeatable=True` if running it twice is harmless; return less, or give it a codec.
    """

    why = "result_not_kept"


class PaymentDeclined(CxguardError):
    """The issuer refused. Not charged. Offer another card. `reference`: of the order that is not paid; "" where the shop raises it."""

    status = 402
    problem = "declined"

    def __init__(self, reason: str = "generic", code: str = "", *, reference: str = "") -> None:
        super().__init__("the issuer did not approve the payment: nothing was charged; ask for another card")
        self.reason, self.code, self.reference = reason, code, reference


class PaymentRefused(CxguardError):
    """The gateway would not capture, refund or void. Nothing moved. Look at the payment in the gateway's own console."""

    status = 409
    problem = "refused"

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"the gateway refused the {kind} ({why}): nothing moved; look at the payment in the gateway's own console")
        self.kind = kind
        self.why = why


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


class GatewayUnreadable(CxguardError):
    """A gateway's books could not be read to their end. Ask again later; conclude nothing from what is missing."""

    status = 502
    problem = "gateway-unreadable"


class WebhookRefused(CxguardError):
    """A webhook without a valid signature, or one that cannot be read: answer 400, and believe nothing of it."""

    status = 400
    problem = "webhook-refused"


class SealError(CxguardError):
    """Sealed content cannot be read here. Nothing was lost: the sealed bytes are still in the record."""

    problem = "unreadable"


class SealKeyMissing(SealError):
    """The key that sealed this is not in the ring: put it back, behind the first one, in `CXGUARD_KEYS`."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"sealed with key {key_id}, which is not in the ring: put that key back into CXGUARD_KEYS, behind the first "
            "(`cxguard doctor` prints the ids of the keys that it has)"
        )
        self.key_id = key_id


class SealBroken(SealError):
    """The sealed bytes were changed, cut, or belong to another record. Restore the record from a backup; trust none of it."""

    def __init__(self, about: str) -> None:
        super().__init__(f"the sealed {about} was changed, cut, or moved from another record: restore it from a backup, trust none of it")


class BadRequest(CxguardError):
    """The request cannot be read without guessing. Nothing was opened and nothing was charged; send it again, corrected."""

    status = 400
    problem = "bad-request"


class BadHeader(BadRequest):
    """A header that must be there at most once came more often, or cannot be read."""

    problem = "bad-header"


class BadBody(BadRequest):
    """The body is not what its content type says: truncated, invalid UTF-8, a member twice."""

    problem = "bad-body"


class BadAmount(BadRequest):
    """The amount or the currency cannot be what the shopper pays."""

    problem = "bad-amount"


class MissingKey(BadRequest):
    """The rule demands a key, and the request carries none."""

    problem = "key-missing"


class MalformedKey(BadRequest):
    """The key is empty, too long, or holds characters that a key may not hold."""

    problem = "key-malformed"


class OwnerMissing(BadRequest):
    """Nobody can be named as the owner of this request: an answer must never be replayed to somebody else."""

    status = 401
    problem = "owner-missing"


class BodyTooSlow(BadRequest):
    """The body did not arrive in time."""

    status = 408
    problem = "body-too-slow"


class BodyTooLarge(BadRequest):
    """The body is over the rule's limit."""

    status = 413
    problem = "body-too-large"


class HeadersTooLarge(BadRequest):
    """The headers together are over the limit: most likely cookies that nobody takes away any more."""

    status = 431
    problem = "headers-too-large"


class UnsupportedMedia(BadRequest):
    """The rule needs to read the body, and cannot read this content type."""

    status = 415
    problem = "unsupported-media"


class SeveralMutations(BadRequest):
    """One GraphQL request selects more than one guarded mutation: one answer could not speak for both."""

    problem = "graphql-several-mutations"


class HiddenMutation(BadRequest):
    """A persisted hash stands for a query that the guard cannot read. `graphql_code` makes such clients send the whole text."""

    problem = "graphql-hidden-mutation"
    graphql_code = "PERSISTED_QUERY_NOT_FOUND"
