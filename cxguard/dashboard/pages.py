"""The desk's pages and what its buttons do. Each works without scripts: forms, and a 303 after what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from cxguard.core.desk import Action, Said
from cxguard.core.message import message_of
from cxguard.core.operation import Operation
from cxguard.dashboard.door import actor_of
from cxguard.dashboard.forms import SEEN_FIELD, TOKEN_FIELD, WHY_FIELD, form_token, read_form, token_fits
from cxguard.dashboard.gateways import SPANS, breaker_lines, decide, said_lately
from cxguard.dashboard.order import OrderPage, order_page
from cxguard.dashboard.reading import (
    OPEN_WORD,
    filters_of,
    find_by_words,
    list_mark,
    name_of,
    next_unknown,
    read_costs,
    read_live,
    read_now,
    read_orders,
)
from cxguard.dashboard.rendering import asset, page, root_of
from cxguard.dashboard.words import LOCALE
from cxguard.engine.casefile import REASON_CHARS_MAX, Actor, Became, Word
from cxguard.engine.desk import Desk
from cxguard.errors import BadAmount
from cxguard.guard import Guard
from cxguard.render.renderer import Renderer
from cxguard.rules.amounts import check_currency, minor_of_major

SAID_SECONDS = 120.0  # how long "it was done" may stand on a page that is opened by its address
_STALE = "This form was not yours, or it was opened too long ago: nothing was done. Your words are kept; press the button again."


class Pages:
    """The pages of one guard's desk."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._renderer = Renderer(guard.shop, texts=guard.messages, prefix=guard.prefix, specs=guard.specs)

    # --- to look at

    async def now(self, request: Request) -> Response:
        """The first page: what needs a person."""
        now, costs = await read_now(self._guard), await read_costs(self._guard)
        titles = {row["message"]: self._title(row["message"]) for row in costs.rows}
        values: dict[str, Any] = {"view": now, "mark": list_mark(now), "costs": costs, "titles": titles}
        return page(request, "now.html", **self._frame(request, "now"), **values, none_left="none" in request.query_params)

    async def live(self, request: Request) -> Response:
        """The counters of the first page, for its script."""
        return JSONResponse(await read_live(self._guard))

    async def orders(self, request: Request) -> Response:
        """A page of the list."""
        filters = filters_of(request.query_params, rules=self._rules())
        listed = await read_orders(self._guard, filters)
        values: dict[str, Any] = {"filters": filters, "listed": listed, "rules": self._rules(), "open_word": OPEN_WORD}
        return page(request, "orders.html", **self._frame(request, "orders"), **values)

    async def search(self, request: Request) -> Response:
        """Where a search leads. It is posted, so that no e-mail address stands in an address or a log."""
        root, form = root_of(request), await read_form(request)
        if not self._fits(request, form):
            return self._refused(request, "Search again", _STALE)
        words = form.get("q", "")[:200]
        if not words.strip():
            return _see(f"{root}/orders")
        found, contact = await find_by_words(self._guard, words)
        return _see(f"{root}/orders/{_quoted(found)}" if found else f"{root}/orders?{urlencode({'contact': contact})}")

    async def next(self, request: Request) -> Response:
        """The next order whose money is unknown."""
        name = await next_unknown(self._guard, after=request.query_params.get("after", ""))
        root = root_of(request)
        return _see(f"{root}/orders/{quote(name, safe='')}" if name else f"{root}/?none")

    async def order(self, request: Request) -> Response:
        """One order."""
        said = self._said(request)
        return await self._order(request, notice=said, good=True)

    async def gateways(self, request: Request) -> Response:
        """How the breakers stand, and what may be decided about them."""
        return await self._gateways(request)

    async def decide(self, request: Request) -> Response:
        """What a person decides about a breaker: 303 to the page when it was done, and the page with the reason when not."""
        form = await read_form(request)
        if not self._fits(request, form):
            return await self._gateways(request, notice=_STALE, typed=form, status=403)
        why_not = await decide(self._guard, form, by=actor_of(request))
        if why_not:
            return await self._gateways(request, notice=why_not, typed=form, status=422)
        return _see(f"{root_of(request)}/gateways")

    async def order_live(self, request: Request) -> Response:
        """Whether the order has changed since the page was made."""
        operation = await self._desk().find(request.path_params["name"])
        return JSONResponse({"mark": str(operation.revision if operation else "")})

    async def asset(self, request: Request) -> Response:
        """Style and script."""
        return asset(request.path_params["name"]) or Response("there is no such file", status_code=404, media_type="text/plain")

    # --- to act

    async def act(self, request: Request) -> Response:
        """What a button does: 303 to the order when it was done, and the same page with the reason when not."""
        action = _action(request.path_params["action"])
        if action is None:
            return self._refused(request, "No such button", "The desk has no such button: go back to the order.", status=404)
        form = await read_form(request)
        if not self._fits(request, form):
            return await self._order(request, notice=_STALE, typed={**form, "action": action}, status=403)
        try:
            became = await self._do(action, request, form)
        except BadAmount as error:
            return await self._order(request, notice=f"Nothing was done: {error}.", typed={**form, "action": action}, status=422)
        if not became.done:
            return await self._order(request, notice=became.words, typed={**form, "action": action}, status=409)
        expires_at = self._guard.clock.now() + SAID_SECONDS
        said = self._guard.engine.seal.sign_token(became.words, expires_at=expires_at, purpose=_said_to(request))
        return _see(f"{root_of(request)}/orders/{_quoted(became.operation)}?{urlencode({'said': said})}")

    async def _do(self, action: Action, request: Request, form: Mapping[str, str]) -> Became:
        desk, name = self._desk(), request.path_params["name"]
        seen = form.get(SEEN_FIELD, "")
        actor = Actor(actor_of(request), form.get(WHY_FIELD, ""), int(seen) if seen.isdecimal() and len(seen) < 19 else None)
        match action:
            case Action.RESOLVE:
                return await desk.resolve(name, actor, _word(form))
            case Action.TAKE:
                return await desk.take_over(name, actor)
            case Action.GIVE_BACK:
                return await desk.give_back(name, actor)
            case Action.REQUEUE:
                return await desk.requeue(name, actor)
            case Action.FINISH:
                return await desk.finish(name, actor)
            case Action.CANCEL:
                return await desk.cancel(name, actor)
            case Action.REMARK:
                return await desk.remark(name, actor)

    # --- parts

    async def _order(
        self, request: Request, *, notice: str, good: bool = False, typed: Mapping[str, str] | None = None, status: int = 200
    ) -> Response:
        file = await self._desk().look(request.path_params["name"], name=actor_of(request))
        view: OrderPage = order_page(file, engine=self._guard.engine, renderer=self._renderer)
        values = {"view": view, "notice": notice, "good": good, "typed": dict(typed or {}), "reason_max": REASON_CHARS_MAX}
        return page(request, "order.html", status=status, **self._frame(request, "order"), **values)

    async def _gateways(self, request: Request, *, notice: str = "", typed: Mapping[str, str] | None = None, status: int = 200) -> Response:
        at = self._guard.clock.now()
        values: dict[str, Any] = {"lines": breaker_lines(self._guard, now=at), "said": await said_lately(self._guard), "at": at}
        asked = {"notice": notice, "typed": dict(typed or {}), "spans": SPANS, "reason_max": REASON_CHARS_MAX}
        return page(request, "gateways.html", status=status, **self._frame(request, "gateways"), **values, **asked)

    def _frame(self, request: Request, here: str) -> dict[str, Any]:
        """What every page carries."""
        actor = actor_of(request)
        token = form_token(self._guard.engine, actor)
        return {"shop": self._guard.shop, "actor": actor, "token": token, "here": here, "watching": self._guard.mode == "watch"}

    def _title(self, label: str) -> str:
        """What a message of ours says, by its label; nothing for the shop's own words, which are their own label."""
        message = message_of(label)
        known = self._renderer.voice.catalogue.messages[LOCALE].get(message.key)
        return known.title if known else ""

    def _refused(self, request: Request, title: str, words: str, *, status: int = 403) -> Response:
        return page(request, "refused.html", status=status, shop=self._guard.shop, title=title, words=words)

    def _fits(self, request: Request, form: Mapping[str, str]) -> bool:
        return token_fits(self._guard.engine, actor_of(request), form.get(TOKEN_FIELD, ""))

    def _said(self, request: Request) -> str:
        """What was done a moment ago: signed, so that no link can make the desk say what did not happen."""
        token = request.query_params.get("said", "")
        return self._guard.engine.seal.read_token(token, now=self._guard.clock.now(), purpose=_said_to(request)) or ""

    def _desk(self) -> Desk:
        rules = {rule.name: rule for rule in self._guard.rules}
        return Desk(self._guard.engine, rules=rules, purposes=self._guard.purposes)

    def _rules(self) -> tuple[str, ...]:
        return (*(rule.name for rule in self._guard.rules), *self._guard.purposes)


def _word(form: Mapping[str, str]) -> Word:
    """What the form says of a payment.

    Raises:
        BadAmount: the amount is no amount of that currency.
    """
    said = form.get("said", "")
    if said not in tuple(Said):
        raise BadAmount("choose what became of the payment")
    amount, currency = form.get("amount", "").strip(), form.get("currency", "").strip()
    code = check_currency(currency) if currency else None
    minor = minor_of_major(amount, currency=code) if amount and code else None
    return Word(Said(said), form.get("payment_id", ""), amount_minor=minor, currency=code if minor else None, key=form.get("key") or None)


def _action(text: str) -> Action | None:
    return Action(text) if text in tuple(Action) else None


def _said_to(request: Request) -> str:
    return f"desk-said:{actor_of(request)}:{request.path_params['name']}"


def _quoted(operation: Operation) -> str:
    return quote(name_of(operation), safe="")


def _see(url: str) -> Response:
    """303: the browser asks for *url*, so that a reload does nothing again."""
    return RedirectResponse(url, status_code=303)
