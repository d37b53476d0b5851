"""The desk's pages: what is found, what is shown, and what the buttons do, without a browser."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import pytest
from deskclient import DeskClient, who
from deskworld import ANNA, BORIS, KEY, RULE, SECRET, SHOP_RULE, desk_world
from starlette.applications import Starlette
from starlette.routing import Mount

from cxguard.core.message import Message
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Entry, State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, Unknown
from cxguard.core.session import By, Cause, Exposed, Stage
from cxguard.dashboard import dashboard
from cxguard.dashboard.reading import PAGE_ROWS
from cxguard.dashboard.words import MAY_BE_OLDER
from cxguard.guard import Guard
from cxguard.stores.base import Seen

pytestmark = pytest.mark.asyncio

PAYLOADS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "</textarea><svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "<!--",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "=HYPERLINK(\"x\")",
]


TAG_NAMES = """html head meta title link body a header div p span nav form input label button main h1 h2 section dl dt dd table caption
thead tbody tr th td ul ol li time q details summary fieldset legend textarea select option script strong footer"""
TAGS = set(TAG_NAMES.split())


class Markup(HTMLParser):
    """What a browser would make of a page: its tags, its attributes, and its texts without needless blanks."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts += data


def references(text: str) -> list[str]:
    """The orders of a page's lists, in their order."""
    return re.findall(r'class="ref" href="/ops/orders/([^"]+)"', text)


# --- now


async def test_now_lists_unknown_orders_first(desk: DeskClient) -> None:
    """What is unknown and waits for a person stands first, then what waits for the shopper, then what is known."""
    known = await desk.world.put("known", why="later_failed")
    shopper = await desk.world.put("shopper", State.HELD, desk.world.send("shopper", Unknown("?")), waiting_for=WaitingFor.SHOPPER)
    person = await desk.world.unknown("person", created_at=1.0)
    looked_up = await desk.world.unknown("queued", State.QUEUED)
    text = (await desk.get("/")).text
    assert references(text) == [order.reference for order in (person, shopper, known, looked_up)]


async def test_next_unknown_is_two_clicks_away_from_anywhere(desk: DeskClient) -> None:
    """`next` leads from one unknown order to the next, and round; both the first page and each order link to it."""
    orders = {(await desk.world.unknown(f"u{number}")).reference for number in range(3)}
    seen, path = [], "/next"
    for _ in range(4):
        answer = await desk.get(path)
        assert answer.status_code == 303
        seen.append(answer.headers["location"].rpartition("/")[2])
        path = f"/next?after={seen[-1]}"
        assert path.replace("&", "&amp;") in (await desk.get(f"/orders/{seen[-1]}")).text
    assert set(seen[:3]) == orders
    assert seen[3] == seen[0]
    assert 'href="/ops/next"' in (await desk.get("/")).text


async def test_no_unknown_order_is_left(desk: DeskClient) -> None:
    """After the last one, `next` leads to the first page, which says so."""
    answer = await desk.get("/next")
    assert answer.headers["location"] == "/ops/?none"
    assert "That was the last one" in (await desk.get("/?none")).text


async def test_live_figures_are_texts(desk: DeskClient) -> None:
    """Every number that the script gets is a text, so that no reader rounds it; the mark changes with the lists."""
    order = await desk.world.unknown()
    first = (await desk.get("/now.json")).json()
    await desk.world.desk.remark(order.reference, ANNA)
    second = (await desk.get("/now.json")).json()
    assert first["texts"]["unknown"] == first["texts"]["held-unknown"] == "1"
    assert all(isinstance(text, str) for text in first["texts"].values())
    assert first["mark"] != second["mark"]


async def test_open_breaker_is_shown(desk: DeskClient) -> None:
    """A gateway that is not called any more stands on the first page, with the reason."""
    desk.world.guard.engine.breakers.admit("fake:test", "find")
    assert "fake:test" in (await desk.get("/")).text


async def test_what_errors_cost_is_shown_with_the_messages_words(desk: DeskClient) -> None:
    """A message of ours stands there as shoppers read it, with its label; the shop's own words stand as they are."""
    recorder = desk.world.guard.recorder
    for number, message in enumerate((Message(key="not_kept", version=1), Message(text="Sorry, try <b>later</b>"))):
        shown = {"stage": Stage.PAY, "at": 1.0, "message": message, "cause": Cause.OUR_OUTAGE, "by": By.OURS}
        recorder.put(Exposed(id=f"x{number}", session=f"s{number}", **shown))
    await recorder.flush_once()
    text = (await desk.get("/")).text
    assert "We cannot take your order just now" in text
    assert "not_kept@1" in text
    assert "Sorry, try &lt;b&gt;later&lt;/b&gt;" in text


# --- orders


async def test_filters_narrow_the_list(desk: DeskClient) -> None:
    """State, money and rule narrow together; "not ended" is every state that has not."""
    unknown = await desk.world.unknown("u")
    held = await desk.world.put("h")
    queued = await desk.world.put("q", State.QUEUED, rule=SHOP_RULE)
    done = await desk.world.put("d", State.FINISHED, desk.world.send("d", Declined()))

    async def shown(query: str) -> set[str]:
        return set(references((await desk.get(f"/orders?{query}")).text))

    assert await shown("") == {unknown.reference, held.reference, queued.reference, done.reference}
    assert await shown("state=open") == {unknown.reference, held.reference, queued.reference}
    assert await shown("state=held") == {unknown.reference, held.reference}
    assert await shown("state=held&money=unknown") == {unknown.reference}
    assert await shown(f"rule={SHOP_RULE.replace(' ', '+')}") == {queued.reference}
    assert await shown(f"state=finished&money=declined&rule={RULE}") == {done.reference}


NONSENSE = ["state=nonsense", "money='; DROP TABLE", "rule=none", "contact=../..", "after=not-a-cursor", "after=1e999:x"]


@pytest.mark.parametrize("query", NONSENSE)
async def test_nonsense_in_an_address_narrows_nothing(desk: DeskClient, query: str) -> None:
    """A filter that is none is left out; a cursor that is none leads to the beginning."""
    order = await desk.world.put("k")
    answer = await desk.get(f"/orders?{query}")
    assert (answer.status_code, references(answer.text)) == (200, [order.reference])


async def test_pages_follow_each_other_without_a_gap(desk: DeskClient) -> None:
    """Every order stands on exactly one page, also those of the same second, and filters go along."""
    count = 2 * PAGE_ROWS + 7
    put = [await desk.world.put(f"k{number}", State.QUEUED, created_at=1_000.0 + number // 40) for number in range(count)]
    seen: list[str] = []
    path = "/orders?state=queued"
    pages = 0
    while path:
        text = (await desk.get(path)).text
        seen += references(text)
        pages += 1
        following = re.search(r'rel="next" href="/ops(/orders\?[^"]+)"', text)
        path = html.unescape(following[1]) if following else ""
        assert not path or "state=queued" in path
    assert pages == 3
    assert len(seen) == count
    assert set(seen) == {order.reference for order in put}


# --- search


async def _search(desk: DeskClient, words: str) -> str:
    form = (await desk.forms("/"))["/ops/search"]
    answer = await desk.post("/search", {**form, "q": words})
    assert answer.status_code == 303
    return answer.headers["location"].removeprefix("/ops")


@pytest.mark.parametrize("change", [str.lower, str.upper, lambda said: said.replace("-", " "), lambda said: f"  {said.replace('-', '')} "])
async def test_search_by_reference(desk: DeskClient, change: object) -> None:
    """A reference is found as a person says it, and leads straight to its order."""
    order = await desk.world.put("k")
    assert await _search(desk, change(order.reference)) == f"/orders/{order.reference}"  # type: ignore[operator]


@pytest.mark.parametrize("typed", ["+44 7700 900123", "0044 7700-900123", "447700900123"])
async def test_search_by_phone(desk: DeskClient, typed: str) -> None:
    """A phone number is found however it was typed, even where its digits could be a reference."""
    order = await desk.world.put("k", contact="+44 7700 900123")
    await desk.world.put("other", contact="+44 7700 900124")
    listed = await desk.get(await _search(desk, typed))
    assert references(listed.text) == [order.reference]


async def test_search_keeps_addresses_out_of_addresses(desk: DeskClient) -> None:
    """An e-mail address never stands in an address that a log or a history would keep; only its keyed hash does."""
    order = await desk.world.put("k", contact="Ann@Fern.example")
    path = await _search(desk, "ann@fern.example")
    assert "ann" not in path
    assert references((await desk.get(path)).text) == [order.reference]


async def test_search_by_gateway_key(desk: DeskClient) -> None:
    """The key that the gateway's own pages show leads to its order."""
    order = await desk.world.unknown()
    assert await _search(desk, order.sends[0].key) == f"/orders/{order.reference}"


@pytest.mark.parametrize("words", ["nobody@fern.example", "0000-0000-0000", "cxg-nothing", "<script>"])
async def test_search_that_finds_nothing_says_so(desk: DeskClient, words: str) -> None:
    """A search without a hit is an empty list with words."""
    await desk.world.put("k")
    answer = await desk.get(await _search(desk, words))
    assert (answer.status_code, references(answer.text)) == (200, [])
    assert "Nothing of this shopper is here" in answer.text


async def test_empty_search_is_the_list(desk: DeskClient) -> None:
    """Nothing searched for: everything."""
    assert await _search(desk, "  ") == "/orders"


# --- one order


async def test_order_says_everything(desk: DeskClient) -> None:
    """Money in words and figures, calls, timeline, contact, lease, and what the shopper is told in their language."""
    order = await desk.world.unknown(contact="ann@fern.example", locale="de")
    await desk.world.desk.take_over(order.reference, BORIS)
    text = html.unescape((await desk.get(f"/orders/{order.reference}")).text)
    for words in (
        *("A charge of €49.99 may have happened", order.sends[0].key, "Charge sent to fake:test", "no answer in time"),
        *("ann@fern.example", "With boris", BORIS.why, 'lang="de"', order.reference, "Held for a person"),
    ):
        assert words in text, words


async def test_order_of_another_shop_is_not_found(desk: DeskClient) -> None:
    """An order of another namespace has no page here, by reference or id."""
    order = await desk.world.put("k", namespace="another shop")
    for name in (order.reference, order.id, "nonsense", "%2e%2e", "a" * 300):
        answer = await desk.get(f"/orders/{name}")
        assert answer.status_code == 404
        assert order.reference not in answer.text or name == order.reference


async def test_what_cannot_be_opened_does_not_close_the_page(desk: DeskClient) -> None:
    """With the sealing key gone, contact and answer say so in their places; the rest of the page is there."""
    order = await desk.world.put("k", contact="ann@fern.example", answer=b"\x01 sealed by nobody")
    async with desk_world(store=desk.world.guard.store, clock=desk.world.clock, keys=[bytes(range(64, 96))]) as other:
        app = Starlette(routes=[Mount("/ops", dashboard(other.guard, auth=lambda request: "anna"))])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
            answer = await client.get(f"/ops/orders/{order.reference}")
    assert (answer.status_code, answer.text.count("cannot be read here")) == (200, 2)
    assert order.reference in answer.text


async def test_stub_has_a_page(desk: DeskClient) -> None:
    """A payment of an order that is not known here has no reference, but it has a page."""
    fact = Note("e", NoteKind.OUTCOME, desk.world.clock.now(), "webhook", gateway_key="cxg-x", outcome=Charged(4999, "EUR"))
    await desk.world.guard.store.note("stub-cxg-x", fact, namespace="shop")
    assert "/ops/orders/stub-cxg-x" in (await desk.get("/")).text
    assert "not known here" in (await desk.get("/orders/stub-cxg-x")).text


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_nothing_that_others_wrote_becomes_markup(desk: DeskClient, payload: str) -> None:
    """A payload in every field of a record stays text, on every page."""
    world = desk.world
    now = world.clock.now()
    history = (
        Entry(now, payload, payload, {"reason": payload, "why": payload}),
        Entry(now, "payment.answered", f"desk:{payload}", {"gateway": payload, "outcome": payload, "why": payload}),
    )
    notes = (
        Note("1", NoteKind.REMARK, now, source=payload, text=payload),
        Note("2", NoteKind.OUTCOME, now, source=f"desk:{payload}", gateway_key=payload, outcome=Unknown(payload), text=payload),
    )
    line = replace(world.send("k", Charged(4999, "EUR", payment_id=payload), gateway=payload), key=payload)
    members = {"why": payload, "session": payload, "locale": payload, "rule": payload}
    order = await world.put("k", State.HELD, line, contact=payload, history=history, notes=notes, **members)
    await world.guard.store.seize(Seen(order.id, order.revision), holder=f"desk:{payload}", attempt="a", lease_seconds=60)
    for path in ("/", "/orders", f"/orders/{order.reference}"):
        markup = Markup()
        markup.feed((await desk.get(path)).text)
        assert markup.tags <= TAGS, path
        assert not [name for name in markup.attributes if name.startswith("on") or name == "style"]
        assert payload.strip() in markup.texts, "shown as it was written"


async def test_older_copy_of_an_order_is_not_said_to_be_uncharged(desk: DeskClient) -> None:
    """The store has begun another life since: whoever has the shopper on the telephone reads that it is not known."""
    old, store = desk.world.guard, desk.world.guard.store
    order = await desk.world.put("k1", State.QUEUED)
    assert "Surely not charged" in (await desk.get(f"/orders/{order.reference}")).text
    kept = await store.load(f"epoch:{old.namespace}")
    began = json.dumps({"epoch": store.epoch, "changed_at": desk.world.clock.now()}).encode()
    assert await store.swap(f"epoch:{old.namespace}", revision=kept.revision, value=began)
    async with Guard(store, shop=old.shop, secret=SECRET, keys=[KEY], clock=desk.world.clock) as newcomer:
        transport = httpx.ASGITransport(dashboard(newcomer, auth=who))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example", headers={"x-staff": "anna"}) as client:
            page = (await client.get(f"/orders/{order.reference}")).text
            every, uncharged = [(await client.get(f"/orders{narrowed}")).text for narrowed in ("", "?money=none")]
    assert (order.reference in every, order.reference in uncharged) == (True, False)
    assert "Left out: 1 that may be older copies" in uncharged, "as `cxguard orders list --money none` says"
    assert MAY_BE_OLDER in html.unescape(page)
    assert "not charged" not in page.casefold().replace("surely not charged: no payment is there, and none can come", "")
