"""A rule: which request is guarded, whose it is, what it buys, and what its handler's answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from cxguard.core.caps import Caps
from cxguard.core.limits import limit
from cxguard.core.outcomes import Outcome
from cxguard.core.reading import Case, Matcher, Reading
from cxguard.rules.amounts import AmountSource
from cxguard.rules.checks import check_rule, tuple_of
from cxguard.rules.match import Pattern, parse_pattern
from cxguard.rules.reads import cases_of, graphql_cases
from cxguard.rules.sources import AnySource, Arrival, PerPurchase, Source, header, parts_of


class Replay(Enum):
    """The type of `replay`."""

    REPLAY = "replay"


replay: Final = Replay.REPLAY
"""For `later=`: run the kept request again through the app. Fit where it names token and basket itself."""

Later: TypeAlias = Callable[[Any], Awaitable[Any]] | Replay
CanWait: TypeAlias = bool | Callable[[Arrival], Any]
Revalidate: TypeAlias = Callable[[Any], Any]
Resolve: TypeAlias = Callable[[Any], Awaitable[Outcome] | Outcome]
Reads: TypeAlias = Mapping[Reading, Matcher] | Sequence[Case]

_NOT_GIVEN: Any = None  # a required setting that was left out is refused with the line to write, not with a TypeError


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of request that must take effect at most once. Checked when it is made.

    Attributes:
        match: method and path: `POST /checkout/pay`, `POST /orders/{id}/pay`, `POST /cart/*`.
        owner: whose request it is, from something verified that survives login. No default: a wrong one would show one
            shopper's answer to another.
        key: what tells two purchases apart; parts are tried in order.
        name: enters every id: keep it when the path changes. Default: the match.
        purchase: the fields that say what is bought; the same purchase under another key is found.
        amount_minor, currency: what is to be paid, when the request says so; `currency` may be a plain code.
        charged_by: `guard`: by `op.charge`. `shop`: by the shop's own code, unseen.
        gateway: the name of the one that `op.charge` uses, or several in order: the next one is asked only after a known
            not-charge, and with a token of its own (`Charge.sources`). Default: the guard's first.
        resolve: asks the gateway what became of an operation; for charges that the guard does not see. Async or not.
        later: how an order that was kept through an outage is placed; needs `terms`, the version of the consent text.
        consent: where the request says that the shopper agreed to be charged later: true, `on`, or the version in `terms`.
            Without that the order is not kept. Default: `terms` says that pressing the button is agreeing.
        revalidate: looks at price and stock again before a late charge: a function of the operation that answers `GoOn()`,
            `GoOnLower(amount_minor)`, `AskShopper()` or `Stop("out_of_stock")`. Default: what was accepted is charged while
            its quote holds; after that, the shopper is asked.
        quote_until: where the request says how long its price holds: seconds since the epoch, or ISO 8601 with a zone.
        resume_at, resume_token: where a shopper goes on with an order that waits for them: a page of the shop's own checkout
            (`https://shop.example/checkout?resume={token}`), and where its submit carries that token.
        can_wait: False for goods that nobody buys for tomorrow (downloads, gift cards, age checks), or a function of the
            request that says so. They are never kept. Asked only in an outage; True alone lets an order wait.
        caps: the most that is kept for later; see `Caps`. Default: the guard's.
        reads: what the handler's answer means, where its status does not say. Default for a GraphQL mutation: `errors` is a failure.
        key_required: without it, requests that carry no key pass unguarded, counted.
        audience: `machine` is never told a 202 or shown a page (webhooks).
        client_reads_202: the rule's client knows that a 202 is not "paid".
        rerun_safe: the shop's handler, and its `later`, pass our gateway key on, and its gateway remembers keys for an hour or more,
            so running them twice charges once.
        ignore_fields: form fields or JSON members that change with every submit (CSRF tokens).
        contact: the shopper's e-mail or phone, to tell what became of a kept order.
        graphql_mutation: the root mutation field that this rule is for.

    Raises:
        ConfigurationError: with the corrected line.
    """

    match: str
    owner: AnySource = field(default=_NOT_GIVEN, kw_only=True)
    key: AnySource = field(default=header("Idempotency-Key"), kw_only=True)
    name: str = field(default="", kw_only=True)
    purchase: tuple[AnySource, ...] = field(default=(), kw_only=True)
    amount_minor: AmountSource | None = field(default=None, kw_only=True)
    currency: AnySource | str | None = field(default=None, kw_only=True)
    charged_by: Literal["guard", "shop"] = field(default="guard", kw_only=True)
    gateway: str | tuple[str, ...] | None = field(default=None, kw_only=True)
    resolve: Resolve | None = field(default=None, kw_only=True)
    later: Later | None = field(default=None, kw_only=True)
    terms: str = field(default="", kw_only=True)
    consent: AnySource | None = field(default=None, kw_only=True)
    revalidate: Revalidate | None = field(default=None, kw_only=True)
    quote_until: AnySource | None = field(default=None, kw_only=True)
    resume_at: str = field(default="", kw_only=True)
    resume_token: AnySource | None = field(default=None, kw_only=True)
    can_wait: CanWait = field(default=True, kw_only=True)
    caps: Caps | None = field(default=None, kw_only=True)
    reads: Reads = field(default=(), kw_only=True)
    key_required: bool = field(default=True, kw_only=True)
    audience: Literal["browser", "machine"] = field(default="browser", kw_only=True)
    client_reads_202: bool = field(default=False, kw_only=True)
    rerun_safe: bool = field(default=False, kw_only=True)
    ignore_fields: tuple[str, ...] = field(default=(), kw_only=True)
    contact: AnySource | None = field(default=None, kw_only=True)
    graphql_mutation: str = field(default="", kw_only=True)

    deadline_seconds: float = limit(10.0, 1.0, 60.0, why="a shopper who waits longer has pressed the button again")
    wait_seconds: float = limit(5.0, 0.0, 30.0, why="how long a second click waits for the first one's answer")
    lease_seconds: float = limit(30.0, 2.0, 3_600.0, why="how long an order of a process that died waits for another")
    run_seconds_max: float = limit(120.0, 1.0, 3_600.0, why="a handler that hangs longer ends as unknown, not as a lease for ever")
    settle_seconds: float = limit(0.2, 0.0, 10.0, why="how long the answer's last byte waits for the app to return")
    body_bytes_max: int = limit(65_536, 1_024, 16_777_216, why="a checkout's body is a few kB, and every one is held in memory")
    body_seconds_max: float = limit(10.0, 0.5, 300.0, why="a body that takes longer is a dead client or an attack")
    answer_bytes_max: int = limit(1_048_576, 1_024, 16_777_216, why="a longer answer passes live and is not kept")
    double_click_seconds: float = limit(10.0, 1.0, 300.0, why="within it, the same submit is the same press of the button")
    duplicate_window_seconds: float = limit(900.0, 10.0, 86_400.0, why="within it, the same purchase is taken for a repeat")
    give_up_seconds: float = limit(86_400.0, 60.0, 86_400.0, why="nobody wants yesterday's order charged today")
    consent_seconds: float = limit(86_400.0, 60.0, 86_400.0, why="how long the shopper's word holds; no longer than the text says")
    quote_seconds: float = limit(86_400.0, 60.0, 86_400.0, why="how long the accepted price holds; less where prices or stock move")
    keep_seconds: float = limit(2_592_000.0, 3_600.0, 34_560_000.0, why="how long an answer can be replayed and looked at")

    pattern: Pattern = field(init=False, repr=False, compare=False)
    cases: tuple[Case, ...] = field(init=False, repr=False, compare=False)
    per_purchase: PerPurchase | None = field(init=False, repr=False, compare=False)
    done: Pattern | None = field(init=False, repr=False, compare=False)
    optional_header: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._set(pattern=parse_pattern(self.match, write='Rule("{}", ...)'))
        self._set(purchase=tuple_of(self.purchase))
        check_rule(self)
        last = parts_of(self.key)[-1]
        per_purchase = last if isinstance(last, PerPurchase) else None
        self._set(
            name=self.name or " ".join(part for part in (self.match, self.graphql_mutation) if part),
            cases=cases_of(self.reads) or (graphql_cases(self.charged_by) if self.graphql_mutation else ()),
            per_purchase=per_purchase,
            done=parse_pattern(per_purchase.done, write='per_purchase(done="{}")', usual="GET") if per_purchase else None,
            optional_header=self._optional_header(),
        )

    @property
    def gateways(self) -> tuple[str, ...]:
        """The names in `gateway`, in order."""
        return () if self.gateway is None else tuple(self.gateway) if isinstance(self.gateway, list | tuple) else (self.gateway,)

    def params(self, path: str, root: str = "") -> Mapping[str, str]:
        """The named parts of a path that this rule matches, with or without *root*."""
        return self.pattern.params(path, root)

    def _optional_header(self) -> bytes:
        """The one header without which a request passes unguarded, as ASGI spells it; empty: more has to be read to know."""
        if self.key_required or self.graphql_mutation or not isinstance(self.key, Source) or self.key.kind != "header":
            return b""
        return self.key.member.lower().encode("latin-1")

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
