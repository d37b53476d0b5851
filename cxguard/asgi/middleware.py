"""`GuardMiddleware`: finds the rule for a request and hands it to an exchange; everything else passes untouched."""

from __future__ import annotations

from inspect import isclass, isroutine

from cxguard.asgi.cors import warn_if_cors_inside
from cxguard.asgi.exchange import Exchange
from cxguard.asgi.lifespan import Lifespan
from cxguard.asgi.rerun import OPERATION_IN_SCOPE, run_inside, run_kept
from cxguard.asgi.served import serve_confirmation
from cxguard.asgi.status import StatusPages
from cxguard.asgi.types import App, Receive, Scope, Send
from cxguard.asgi.visits import Visits
from cxguard.asgi.watch import watch
from cxguard.core.snapshot import Snapshot, full_path
from cxguard.engine.handle import CURRENT, OperationHandle
from cxguard.engine.placing import Ran
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import ConfigurationError
from cxguard.guard import Guard, Mode
from cxguard.logs import get_logger
from cxguard.render.renderer import Renderer
from cxguard.rules import Rule

_log = get_logger("middleware")


class GuardMiddleware:
    """Puts a guard around an ASGI app.

    `app.add_middleware(GuardMiddleware, guard=guard)`, or outermost: `app = GuardMiddleware(app, guard=guard)`. CORS must
    be outside of it: add it after the guard, or wrap the guard in it. Never as the middleware of a route, nor in Litestar's
    `middleware=`, which is that of each route: our own pages are no routes of the app.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(f"guard= is a {type(guard).__name__}: write app.add_middleware(GuardMiddleware, guard=Guard(...))")
        self.app = app
        self.guard = guard
        self._outermost: App = self
        self._root = _own_root(app)
        self._renderer = Renderer(guard.shop, texts=guard.messages, prefix=guard.prefix, specs=guard.specs)
        self._pages = StatusPages(guard, self._renderer)
        self._visits = Visits(guard) if guard.funnel is not None else None
        self._lifespan = Lifespan(guard)
        self._warned = False
        self._confirmations = any(rule.per_purchase is not None for rule in guard.rules)
        guard.use_rerun(self._run_kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        if self._root:
            scope["root_path"] = self._root
        if not self.guard.started:
            self._lifespan.start_beside()
        path, root = full_path(scope), scope.get("root_path") or ""
        rule = self.guard.matcher.find(scope["method"], path, root)
        if rule is not None and OPERATION_IN_SCOPE in scope:
            await run_inside(self.app, scope, receive, send)
        elif self._visits is not None and self._visits.concerned(rule, scope["method"], path, root):
            await self._visits.follow(self._guarded, rule, path, scope, receive, send)
        elif rule is not None:
            await self._guarded(rule, path, scope, receive, send)
        elif self.guard.prefix in path and self._pages.serves(scope, path):
            await self._pages(scope, receive, send)
        elif self._confirmations:
            await self._unruled(path, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _unruled(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that no rule is about: only a confirmation page is noticed."""
        rules = self.guard.matcher.confirmed_by(scope["method"], path, scope.get("root_path") or "")
        if rules and self.guard.started and self.guard.mode is Mode.GUARD:
            await serve_confirmation(self.guard, rules, self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _guarded(self, rule: Rule | None, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if rule is None:
            await self._unruled(path, scope, receive, send)
            return
        self._remember_outermost(scope)
        self.guard.use_rerun(self._run_kept, rule=rule.name)  # of several apps with one guard, the one that the rule is for
        self._warn_if_behind_routes(scope)
        await self._lifespan.start_late()
        if self.guard.mode is Mode.WATCH:
            await watch(self.guard, self.app, rule, scope, receive, send)
        elif rule.optional_header and all(name != rule.optional_header for name, _ in scope["headers"]):
            await self._keyless(rule, scope, receive, send)  # seen without reading the body
        else:
            await Exchange(self.guard, self._renderer, self.app, rule, scope, receive, send).answer()

    async def _keyless(self, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        """The rule lets a request without a key pass: as if there were no guard, but counted."""
        self.guard.emit("key.missing", method=scope["method"], path=rule.match, guarded=False)
        token = CURRENT.set(UnguardedOperation(tuple(self.guard.gateways.values())))
        try:
            await self.app(scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lifespan and websockets. The guard starts and stops with the app, and never keeps it from doing either."""
        self._remember_outermost(scope)
        if scope["type"] == "lifespan":
            warn_if_cors_inside(self.app)
            await self._lifespan.run(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _remember_outermost(self, scope: Scope) -> None:
        """A kept request must run through everything that a live one runs through. Starlette names its app in the scope.

        Where the guard itself is what is mounted, that app would look for the mount below the mount: then it begins here.
        """
        if self._outermost is self and scope.get("endpoint") is not self:
            self._outermost = scope.get("app") or self
            if self._outermost is not self:
                self.guard.use_rerun(self._run_kept)  # of several in one app, one that knows where it begins

    def _warn_if_behind_routes(self, scope: Scope) -> None:
        """Say so once: an app sends no request for our own pages to a middleware that it runs for one of its routes alone."""
        if not self._warned and ("route_handler" in scope or isroutine(scope.get("endpoint")) or isclass(scope.get("endpoint"))):
            self._warned = True
            _log.error(
                "guard.behind_routes", why="links to the pages of orders lead nowhere", write="app = GuardMiddleware(app, guard=guard)"
            )

    async def _run_kept(self, handle: OperationHandle, kept: Snapshot, rule: Rule) -> Ran:
        seconds, state = min(rule.run_seconds_max, self.guard.settings.run_seconds_max), self._lifespan.state
        return await run_kept(self._outermost, handle, kept, state=state, answer_bytes_max=rule.answer_bytes_max, seconds=seconds)


def _own_root(app: App) -> str:
    """What `FastAPI(root_path="/api")` writes into the scope of each request: around it, we have to do so before it does."""
    own = getattr(app, "root_path", "") if hasattr(app, "root_path_in_servers") else ""
    return own if isinstance(own, str) else ""
