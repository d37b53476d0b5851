"""The pages that belong to the shopper: the status of one order, cancelling it, one question back, and their assets."""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import urlsplit

from cxguard.asgi.bodies import ClientGone, read_body
from cxguard.asgi.capture import send_answer
from cxguard.asgi.finding import Found, find_order, look_up, looked_at, note_where_it_lies
from cxguard.asgi.telling import accept_language, as_answer, bank_url, next_update_at
from cxguard.asgi.types import Receive, Scope, Send
from cxguard.core.answer import CANCELLABLE, Medium, MoneyTold, Situation, Telling, answer_for
from cxguard.core.cards import redact
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, money_of
from cxguard.core.reading import HandlerAnswer
from cxguard.core.situation import money_told_of, situation_of_operation
from cxguard.core.snapshot import Snapshot, Wants, below_root, full_path, mount_of
from cxguard.core.spooling import spooled_situation
from cxguard.engine.cold import open_answer
from cxguard.engine.resume_links import resume_url
from cxguard.errors import BadRequest, OwnerMissing, SealError, StoreError
from cxguard.guard import Guard
from cxguard.logs import get_logger, where_raised
from cxguard.render.rendered import Rendered, see_other
from cxguard.render.renderer import Renderer
from cxguard.render.status import OWN_WORDS_CHARS_MAX, WENT_WRONG, Extras
from cxguard.rules import Arrival, resolve_owner

BODY_BYTES_MAX = 8_192  # a few sentences
BODY_SECONDS_MAX = 10.0
REMARK = "remark:shopper:"  # begins the name of what a shopper wrote
REMARKS_MAX = 20  # of one order: each stays in the record, and is read by a person

_log = get_logger("status")


class StatusPages:
    """Everything below the guard's prefix."""

    def __init__(self, guard: Guard, renderer: Renderer) -> None:
        self._guard = guard
        self._renderer = renderer

    def serves(self, scope: Scope, path: str) -> bool:
        """Whether *path* is one of ours; other paths under the prefix are the app's."""
        return self._below(scope, path).startswith(("/orders/", "/assets/"))

    def _below(self, scope: Scope, path: str) -> str:
        """What follows our prefix; empty where *path* has it not. The prefix stands below the mount, as in our links."""
        below = "/" + below_root(path, mount_of(scope)).lstrip("/")
        return below.removeprefix(self._guard.prefix) if below.startswith(self._guard.prefix) else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, _, rest = self._below(scope, full_path(scope)).lstrip("/").partition("/")
        try:
            snapshot = await self._snapshot(scope, receive)
            rendered = self._renderer.asset(rest) if kind == "assets" else await self._order(scope, snapshot, rest)
        except ClientGone:
            return
        except BadRequest:
            rendered = None
        except StoreError:  # the order is where it was: nobody is told that there is none
            rendered = self._away(scope)
        except Exception as error:  # noqa: BLE001 - settings that cannot work, a bug: a shopper who asks about money gets no bare error
            _log.error("status.failed", **where_raised(error))
            rendered = self._away(scope)
        answer = rendered if isinstance(rendered, HandlerAnswer) else as_answer(rendered or self._nothing(scope))
        await send_answer(send, answer, head_only=scope["method"] == "HEAD")

    async def _snapshot(self, scope: Scope, receive: Receive) -> Snapshot:
        if scope["method"] != "POST":
            return Snapshot.from_scope(scope, body=b"")
        body = await read_body(scope, receive, body_bytes_max=BODY_BYTES_MAX, body_seconds_max=BODY_SECONDS_MAX)
        return Snapshot.from_scope(scope, body=body)

    def _nothing(self, scope: Scope) -> Rendered:
        """The same answer for an unknown, an expired and a forged link."""
        snapshot = Snapshot.from_scope(scope, body=b"")
        language = accept_language(snapshot)
        root = mount_of(scope)
        return self._renderer.no_such_order(medium=_medium(snapshot), accept_language=language, now=self._guard.clock.now(), root=root)

    def _away(self, scope: Scope) -> Rendered:
        snapshot = Snapshot.from_scope(scope, body=b"")
        answer = answer_for(Situation.STORE_AWAY, specs=self._guard.specs)
        language, root = accept_language(snapshot), mount_of(scope)
        now = self._guard.clock.now()
        return self._renderer.render(answer, Telling(_medium(snapshot)), accept_language=language, now=now, root=root)

    async def _order(self, scope: Scope, snapshot: Snapshot, rest: str) -> Rendered | HandlerAnswer | None:
        token, _, action = rest.partition("/")
        await self._guard.start()
        found = await find_order(self._guard, token)
        if found is None:
            return None
        await self._guard.engine.epochs.look()
        if not found.spooled:
            found = replace(found, operation=await looked_at(self._guard, found.operation))
        here = f"{mount_of(scope)}{self._guard.prefix}/orders/{token}"
        match scope["method"], action:
            case "GET" | "HEAD", "":
                return await self._page(scope, snapshot, found, here)
            case "GET" | "HEAD", "answer":
                return await self._own_answer(scope, snapshot, found.operation)
            case "POST", "cancel":
                await self._cancel(found)
                return see_other(here) if snapshot.wants() is Wants.HTML else await self._fresh(snapshot, found, here)
            case "POST", "say":
                after = f"{here}?said" if await self._remark(found, snapshot) else here
                return see_other(after) if snapshot.wants() is Wants.HTML else await self._fresh(snapshot, found, here)
        return None

    async def _page(self, scope: Scope, snapshot: Snapshot, found: Found, here: str) -> Rendered:
        asked, operation = snapshot.query.split("&"), found.operation
        at_bank = bank_url(operation)
        extras = Extras(
            at_work=await self._at_work(found),
            spooled=found.spooled,
            doubted=self._doubted(found),
            next_update_at=next_update_at(operation),
            resume_url=at_bank or resume_url(self._guard.engine, self._guard.matcher.by_name(operation.rule), operation),
            at_bank=at_bank is not None,
            order_url=await self._order_url(scope, snapshot, operation, here),
            again="again" in asked,
            saying="say" in asked,
            said="said" in asked,
        )
        return self._render(snapshot, operation, here, extras)

    async def _fresh(self, snapshot: Snapshot, seen: Found, here: str) -> Rendered:
        found = await look_up(self._guard, seen.operation.id, promised=seen.spooled) or seen
        extras = Extras(at_work=await self._at_work(found), spooled=found.spooled, doubted=self._doubted(found))
        return self._render(snapshot, found.operation, here, extras)

    def _render(self, snapshot: Snapshot, operation: Operation, here: str, extras: Extras) -> Rendered:
        return self._renderer.status(
            operation,
            medium=_medium(snapshot),
            status_url=here,
            accept_language=accept_language(snapshot),
            now=self._guard.clock.now(),
            extras=extras,
            root=here.partition(self._guard.prefix)[0],
        )

    async def _at_work(self, found: Found) -> bool:
        lease = found.operation.lease
        return not found.spooled and lease is not None and lease.until > await self._guard.store.clock()

    def _doubted(self, found: Found) -> bool:
        return not found.spooled and self._guard.engine.epochs.doubts(found.operation)

    async def _order_url(self, scope: Scope, snapshot: Snapshot, operation: Operation, here: str) -> str | None:
        """Where the owner finds the shop's own answer: the page that it redirected to, or what it said."""
        stored = await self._stored(scope, snapshot, operation)
        if stored is None:
            return None
        if 300 <= stored.status < 400:
            return _local(stored.header("location"))
        return f"{here}/answer" if (stored.header("content-type") or "").startswith("text/html") else None

    async def _own_answer(self, scope: Scope, snapshot: Snapshot, operation: Operation) -> HandlerAnswer | None:
        stored = await self._stored(scope, snapshot, operation)
        if stored is None:
            return None
        return replace(stored, headers=(*stored.headers, (b"cache-control", b"no-store")))

    async def _stored(self, scope: Scope, snapshot: Snapshot, operation: Operation) -> HandlerAnswer | None:
        """The shop's own answer, for its owner only, and only while the money is as it was when that was said."""
        rule = self._guard.matcher.by_name(operation.rule)
        if rule is None or operation.answer is None or money_of(operation).state is not operation.money:
            return None
        if money_told_of(operation, doubted=self._guard.engine.epochs.doubts(operation)) is MoneyTold.UNKNOWN:
            return None
        try:
            owner = await resolve_owner(rule, Arrival(snapshot, scope))
            stored = open_answer(self._guard.engine.seal, operation)
        except (OwnerMissing, BadRequest, SealError):
            return None
        except Exception as error:  # noqa: BLE001 - a look-up of the shop may raise anything: then nobody is the owner
            _log.warning("status.owner_not_found", rule=rule.name, error=type(error).__name__)
            return None
        same = secrets.compare_digest(self._guard.owner_name(owner), operation.owner)
        return stored if same and isinstance(stored, HandlerAnswer) else None

    async def _cancel(self, found: Found) -> None:
        """Put the wish on record; then, if nobody has the order in hand, carry it out at once.

        Only what the page offers: an order that is paid and placed is on its way, whatever an old tab still shows.
        """
        operation = found.operation
        situation = situation_of_operation(operation, at_work=await self._at_work(found), doubted=self._doubted(found))
        if (spooled_situation(operation) if found.spooled else situation) not in CANCELLABLE:
            return
        note = Note(
            event_id=f"cancel:{operation.generation}",
            kind=NoteKind.CANCEL,
            at=self._guard.clock.now(),
            source="status page",
            generation=operation.generation,
        )
        noted = await note_where_it_lies(self._guard, found, note)
        if not found.spooled:
            await self._guard.queue().attend_now(noted)

    async def _remark(self, found: Found, snapshot: Snapshot) -> bool:
        """What went wrong for the shopper: a choice of ours, and a few words of theirs without card data. False: it was said enough."""
        form = snapshot.form()
        what = form.field("what") or ""
        words = redact((form.field("words") or "")[:OWN_WORDS_CHARS_MAX])
        text = f"{what if what in WENT_WRONG else 'other'}: {words}" if words else (what if what in WENT_WRONG else "other")
        said = sum(note.event_id.startswith(REMARK) for note in found.operation.notes)
        for number in range(said, REMARKS_MAX):  # numbered, so that a flood at once is bounded, too
            note = Note(f"{REMARK}{number}", NoteKind.REMARK, self._guard.clock.now(), source="shopper", text=text)
            noted = await note_where_it_lies(self._guard, found, note)
            if note in noted.notes:
                return True
        return False


def _medium(snapshot: Snapshot) -> Medium:
    return Medium.HTML if snapshot.wants() is Wants.HTML else Medium.JSON


def _local(location: str | None) -> str | None:
    """A path of this site, or None: a stored redirect must not lead a shopper elsewhere. Browsers read a backslash as a slash."""
    plain = (location or "").replace("\\", "/")
    return location if plain.startswith("/") and not plain.startswith("//") and not urlsplit(plain).netloc else None
