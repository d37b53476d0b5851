"""Where a rule finds a key, an owner, an amount: small readers of the request, tried in order with `|`.

A source of ours is read at once. A callable of the shop is handed the `Arrival`: an async one is awaited, any other
runs in a thread, since it will look something up.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from cxguard.core.names import check_derived_key, parse_key
from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadBody, ConfigurationError
from cxguard.threads import Threads

ASK_SECONDS_MAX = 5.0  # a look-up of the shop's that takes longer is down, and a shopper waits for it


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as a source sees it: its values, and the ASGI scope in which it came (`session`, `user`, ...)."""

    snapshot: Snapshot
    scope: Mapping[str, Any] = field(default_factory=dict)
    path_params: Mapping[str, str] = field(default_factory=dict)


Ask: TypeAlias = Callable[[Arrival], Any]  # the shop's own: returns text, a number or None, or an awaitable of these


class InThread(Protocol):
    """Runs a blocking callable elsewhere: `asyncio.to_thread`, `anyio.to_thread.run_sync`."""

    def __call__(self, ask: Ask, arrival: Arrival, /) -> Awaitable[Any]: ...


ASKING = Threads("cxguard-ask", most=16)  # look-ups of the shop's, in all requests of this process


@dataclass(frozen=True, slots=True)
class Source:
    """One place in a request.

    Attributes:
        kind, member: `json_field`, `cart_id`: the function that made it and its argument.
        chosen_by_client: the client makes the value up (a key in a header); otherwise it names the basket.
        words: for whoever sends the request: `json field cart_id`.
    """

    kind: str
    member: str
    read: Callable[[Arrival], Any]
    chosen_by_client: bool = False
    words: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", f"{self.kind.replace('_', ' ')} {self.member}")

    @property
    def name(self) -> str:
        """As it is written in code, for whoever writes the code."""
        return f'{self.kind}("{self.member}")'

    def __or__(self, other: Source | Chain | PerPurchase | Ask) -> Chain:
        return Chain((self,)) | other


@dataclass(frozen=True, slots=True)
class PerPurchase:
    """No key in the request: each owner has one current operation, until the confirmation page was seen.

    Attributes:
        done: the confirmation page, for instance `GET /checkout/thank-you*`.
        window_seconds: after this time the next submit is a new purchase anyway.
    """

    done: str
    window_seconds: float = 1800.0  # half an hour: longer than a shopper stays on one confirmation page


Part: TypeAlias = Source | PerPurchase | Ask


@dataclass(frozen=True, slots=True)
class Chain:
    """Sources in order: the first that has a value gives it."""

    parts: tuple[Part, ...]

    def __or__(self, other: Part | Chain) -> Chain:
        last = self.parts[-1]
        if isinstance(last, PerPurchase):
            raise ConfigurationError(
                'per_purchase(...) always has a value: write it last, as in header("Idempotency-Key") | per_purchase(...)'
            )
        return Chain(self.parts + (other.parts if isinstance(other, Chain) else (other,)))


AnySource: TypeAlias = Part | Chain


@dataclass(frozen=True, slots=True)
class FoundKey:
    """The key of one request.

    Attributes:
        value: empty when `per_purchase` has to name it.
        part_name: which part of the chain gave it.
        basket: what the request's other parts say of the basket; they join the purchase.
    """

    value: str
    chosen_by_client: bool
    part_name: str
    basket: tuple[str, ...] = ()


def header(name: str) -> Source:
    """A header. For a key: exactly one, an RFC 8941 string or bare. The client chooses its value."""
    lower = name.lower()
    return Source("header", name, lambda arrival: arrival.snapshot.header(lower), chosen_by_client=True)


def cookie(name: str) -> Source:
    """A cookie's value."""
    return Source("cookie", name, lambda arrival: arrival.snapshot.cookie(name))


def json_field(path: str) -> Source:
    """A member of a JSON body, whatever its content type: `cart_id`, `cart.id`, `items.0.sku`. Other bodies do not have it."""
    steps = tuple(path.split("."))
    return Source("json_field", path, lambda arrival: _json_member(arrival.snapshot, steps))


def graphql_variable(path: str) -> Source:
    """A variable of a GraphQL request, however it was encoded: `cartId`, `input.cartId`."""
    steps = tuple(path.split("."))

    def read(arrival: Arrival) -> Any:
        from cxguard.rules.graphql_reading import variables_of

        return json_member(variables_of(arrival.snapshot), steps)

    return Source("graphql_variable", path, read)


def form_field(name: str) -> Source:
    """A field of a form body, urlencoded or multipart. Other content types do not have it."""

    def read(arrival: Arrival) -> str | None:
        return arrival.snapshot.form().field(name) if arrival.snapshot.is_form else None

    return Source("form_field", name, read)


def path_field(name: str) -> Source:
    """A part of the path: `id` in `POST /orders/{id}/pay`."""
    return Source("path_field", name, lambda arrival: arrival.path_params.get(name))


def per_purchase(done: str, *, window_seconds: float = 1800.0) -> PerPurchase:
    """For a submit that carries no basket identity: one current operation for each owner.

    Args:
        done: the confirmation page: once it was served, the next submit is a new purchase. Where the order's answer leads to one of
            its own (`/thank-you/42`), that very one: an older order's, opened again, ends nothing. One address for all orders does
            (`/thank-you` in an old tab), so let it name the order.
        window_seconds: 60 to 86400; after this time the next submit is a new purchase as well.
    """
    return PerPurchase(done, window_seconds)


def json_member(value: Any, steps: tuple[str, ...]) -> Any:
    """Follow *steps* into parsed JSON; None where there is nothing."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step[:6]) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _json_member(snapshot: Snapshot, steps: tuple[str, ...]) -> Any:
    return json_member(snapshot.json(), steps) if snapshot.body and snapshot.holds_json else None


# --- reading them


def parts_of(source: AnySource) -> tuple[Part, ...]:
    """The parts of a chain; a single source is a chain of one."""
    return source.parts if isinstance(source, Chain) else (source,)


def name_of(part: Part) -> str:
    """How a part is written in code."""
    if isinstance(part, Source):
        return part.name
    if isinstance(part, PerPurchase):
        return f'per_purchase(done="{part.done}")'
    return getattr(part, "__name__", type(part).__name__)


def words_of(part: Part) -> str:
    """How a part is called to whoever sends the request."""
    return part.words if isinstance(part, Source) else "per purchase" if isinstance(part, PerPurchase) else name_of(part)


def thing_of(part: Part) -> str:
    """What a part names, however the request was encoded: the JSON and the form of one checkout speak of the same `cart_id`."""
    return part.member if isinstance(part, Source) else words_of(part)


def as_text(value: Any, *, part: Source | Ask) -> str | None:
    """What a source gave, as text; None when it gave nothing.

    Raises:
        BadBody: it is a list, an object or a truth value: those name nothing.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | Decimal | UUID) and not isinstance(value, bool):
        return str(value)
    raise BadBody(f"{words_of(part)} is a {type(value).__name__}: send text or a whole number")


def read_now(part: Source, arrival: Arrival) -> str | None:
    """Ask one source of ours: nothing to wait for."""
    value = part.read(arrival)
    return value if type(value) is str else as_text(value, part=part)


async def read_part(part: Source | Ask, arrival: Arrival, *, in_thread: InThread = ASKING) -> str | None:
    """Ask one part. Text, or None when it has nothing.

    Raises:
        BadRequest: the request cannot be read there.
        TimeoutError: the shop's own callable took longer than `ASK_SECONDS_MAX`.
    """
    if isinstance(part, Source):
        return read_now(part, arrival)
    return as_text(await read_raw(part, arrival, in_thread=in_thread), part=part)


async def read_raw(part: Source | Ask, arrival: Arrival, *, in_thread: InThread = ASKING) -> Any:
    """What one part gives, as it is: a truth value, too.

    Raises:
        BadRequest: the request cannot be read there.
        TimeoutError: the shop's own callable took longer than `ASK_SECONDS_MAX`.
    """
    if isinstance(part, Source):
        return part.read(arrival)
    async with asyncio.timeout(ASK_SECONDS_MAX):
        return await _asked(part, arrival, in_thread)


async def _asked(part: Ask, arrival: Arrival, in_thread: InThread) -> Any:
    if _is_async(part):
        return await part(arrival)
    value = await in_thread(part, arrival)
    return await value if inspect.isawaitable(value) else value


async def resolve_source(source: AnySource, arrival: Arrival, *, in_thread: InThread = ASKING) -> FoundKey | None:
    """The first part that has a value; None if none has. No grammar is applied.

    Raises:
        BadRequest: a part of the request cannot be read.
    """
    for part in parts_of(source):
        if isinstance(part, PerPurchase):
            return _per_purchase(part)
        value = read_now(part, arrival) if isinstance(part, Source) else await read_part(part, arrival, in_thread=in_thread)
        if value is not None:
            return FoundKey(value, _chosen(part), words_of(part), (thing_of(part), value))
    return None


async def resolve_key(source: AnySource, arrival: Arrival, *, in_thread: InThread = ASKING) -> FoundKey | None:
    """The key of a request, its grammar checked, with what the other parts of the chain say of the basket.

    Raises:
        MalformedKey: a part has a value that cannot be a key.
        BadRequest: a part of the request cannot be read.
    """
    parts = parts_of(source)
    key = ""
    by: Part | None = None
    basket: list[str] = []
    for part in parts:
        chosen = _chosen(part)
        if isinstance(part, PerPurchase) or (chosen and by is not None):
            by = part if by is None else by
            continue
        value = read_now(part, arrival) if isinstance(part, Source) else await read_part(part, arrival, in_thread=in_thread)
        if value is None:
            continue
        value = parse_key(value) if chosen else check_derived_key(value, part=words_of(part))
        basket += () if chosen else (thing_of(part), value)
        key, by = (value, part) if by is None else (key, by)
    if by is None:
        return None
    return FoundKey(key, _chosen(by), words_of(by), tuple(basket) if len(parts) > 1 else ())


def _per_purchase(part: PerPurchase) -> FoundKey:
    return FoundKey("", chosen_by_client=False, part_name=words_of(part))


def _chosen(part: Part) -> bool:
    return isinstance(part, Source) and part.chosen_by_client


def _is_async(part: Ask) -> bool:
    return inspect.iscoroutinefunction(part) or inspect.iscoroutinefunction(getattr(part, "__call__", None))  # noqa: B004
