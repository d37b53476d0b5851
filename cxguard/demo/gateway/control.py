"""Breaking the gateway on request: a page for people, JSON for programs, a barrier for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cxguard.demo.gateway.faults import FaultMode, ScriptError, parse_script, script_text
from cxguard.demo.gateway.world import World

SLOW_SECONDS_MAX = 60.0
HELD_WAIT_SECONDS_MAX = 30.0
HOLD_COUNT_MAX = 1_000
_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_FOLDER = Path(__file__).parent
_TEMPLATES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
_MEANS = {
    FaultMode.HEALTHY: "Charges and answers.",
    FaultMode.SLOW: "Charges and answers, late.",
    FaultMode.REFUSE: "The port is shut: nobody can connect.",
    FaultMode.ERROR: "Answers 500. Charges nothing.",
    FaultMode.TIME_OUT_BEFORE: "Never answers. Charges nothing.",
    FaultMode.TIME_OUT_AFTER: "Charges, then never answers.",
    FaultMode.LATE: "Never answers, and charges some seconds later.",
    FaultMode.ERROR_AFTER: "Charges, then answers 500.",
    FaultMode.GARBAGE: "Charges, then answers with unreadable bytes.",
    FaultMode.HTML: "Charges, then answers with a page, as a proxy would.",
    FaultMode.HALF: "Charges, then the answer breaks off.",
    FaultMode.THROTTLE: "Answers 429 and a time to wait. Charges nothing.",
    FaultMode.DECLINE: "Every card is declined.",
    FaultMode.FLAP: "Healthy and 500 by turns, a second each.",
}


def control_routes(world: World) -> list[Route]:
    """`/control` and what belongs to it. They stay reachable while payments are refused."""
    control = _Control(world)
    return [
        Route("/", control.home, methods=["GET"]),
        Route("/control", control.show, methods=["GET"]),
        Route("/control", control.submit, methods=["POST"]),
        Route("/control", control.put, methods=["PUT"]),
        Route("/control.css", control.style, methods=["GET"]),
        Route("/control/hold", control.hold, methods=["POST"]),
        Route("/control/release", control.release, methods=["POST"]),
        Route("/control/held", control.held, methods=["GET"]),
        Route("/control/landed", control.landed, methods=["GET"]),
        Route("/control/webhooks/send", control.send_webhooks, methods=["POST"]),
    ]


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def home(self, request: Request) -> Response:
        return RedirectResponse("/control", 303)

    async def show(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return self._page()
        return JSONResponse(self._state())

    async def put(self, request: Request) -> Response:
        try:
            members = await request.json()
            await self._apply(members)
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": {"code": "invalid_control", "message": str(error)[:300]}}, 400)
        return JSONResponse(self._state())

    async def submit(self, request: Request) -> Response:
        if _foreign(request):
            return JSONResponse({"error": {"code": "foreign_origin"}}, 403)
        form = await request.form()
        members = {name: value for name, value in form.items() if isinstance(value, str) and value.strip()}
        try:
            await self._apply(members)
        except (ScriptError, ValueError) as error:
            return self._page(str(error)[:300], status=400)
        return RedirectResponse("/control", 303)

    async def style(self, request: Request) -> Response:
        return Response((_FOLDER / "control.css").read_bytes(), media_type="text/css")

    async def hold(self, request: Request) -> Response:
        members = await request.json() if await request.body() else {}
        count = min(int(members.get("count", 1)), HOLD_COUNT_MAX)
        await self._world.hold.arm(count=count, before_charge=members.get("at") == "before_charge")
        return JSONResponse(self._state())

    async def release(self, request: Request) -> Response:
        await self._world.hold.release()
        return JSONResponse(self._state())

    async def held(self, request: Request) -> Response:
        count = int(request.query_params.get("count", "1"))
        seconds = min(float(request.query_params.get("seconds", "10")), HELD_WAIT_SECONDS_MAX)
        return JSONResponse({"held": await self._world.hold.wait_for(count, seconds=seconds)})

    async def landed(self, request: Request) -> Response:
        """Wait until no late charge is under way any more."""
        await self._world.late_charges_landed()
        return JSONResponse(self._state())

    async def send_webhooks(self, request: Request) -> Response:
        """Send what was held back, in the order asked for."""
        members = await request.json() if await request.body() else {}
        sent = await self._world.webhooks.release(order=str(members.get("order", "oldest")), times=min(int(members.get("times", 1)), 5))
        return JSONResponse({"sent": sent})

    async def _apply(self, members: dict[str, Any]) -> None:
        slow_seconds = float(members.get("slow_seconds", self._world.slow_seconds))
        if not 0 <= slow_seconds <= SLOW_SECONDS_MAX:
            raise ScriptError(f"slow_seconds must be 0 to {SLOW_SECONDS_MAX:g}")
        self._world.slow_seconds = slow_seconds
        self._world.late_seconds = min(max(float(members.get("late_seconds", self._world.late_seconds)), 0.0), SLOW_SECONDS_MAX)
        self._world.webhooks.set(members)
        self._world.lookups_too = bool(members.get("lookups_too", self._world.lookups_too))
        text = members.get("script") or members.get("mode")
        if text:
            await self._world.play(parse_script(text))

    def _state(self) -> dict[str, Any]:
        return {
            "mode": self._world.phase_mode,
            "script": script_text(self._world.phases),
            "slow_seconds": self._world.slow_seconds,
            "late_seconds": self._world.late_seconds,
            "webhooks": self._world.webhooks.state(),
            "lookups_too": self._world.lookups_too,
            "held": list(self._world.hold.held),
        }

    def _page(self, problem: str = "", *, status: int = 200) -> Response:
        html = _TEMPLATES.get_template("control.html").render(state=self._state(), modes=_MEANS, problem=problem)
        headers = {"Content-Security-Policy": _CSP, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(html, status, headers=headers, media_type="text/html")


def _foreign(request: Request) -> bool:
    """Whether a page of another site sent this form (browsers say so in `Origin`)."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")
