"""The shop as a GraphQL endpoint: graphql-core in a Starlette route, one rule for each mutation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from frameworks.apps.guarding import LIFESPAN_FAILS, LIMITS, ROOT, make_guard
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import order_of, sell
from frameworks.apps.till import ask, by_guard, by_shop, work_after
from graphql import GraphQLResolveInfo, build_schema, graphql
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cxguard import Reading, Rule, graphql_errors, header, json_path, replay, signed_session
from cxguard.asgi import GuardMiddleware
from cxguard.rules import graphql_variable

SCHEMA = build_schema(
    """
    type Query { hello: String }
    type Sold { cart: String, payment: String }
    type Mutation {
        pay(cart: String!, amount: Int!, currency: String!, card: String!): Sold
        payNow(cart: String!, amount: Int!, currency: String!, card: String!): Sold
        shopPay(cart: String!, amount: Int!, currency: String!, card: String!): Sold
    }
    """
)


async def _pay(root: Any, info: GraphQLResolveInfo, **members: Any) -> dict[str, str]:
    return await _sold(info, members, by_guard)


async def _shop_pay(root: Any, info: GraphQLResolveInfo, **members: Any) -> dict[str, str]:
    return await _sold(info, members, by_shop)


async def _sold(info: GraphQLResolveInfo, members: dict[str, Any], take: Any) -> dict[str, str]:
    status, body = await sell(order_of(members), info.context.headers.get(TROUBLE_HEADER, ""), take)
    if status >= 400:
        raise RuntimeError(body["error"])
    return body


assert SCHEMA.mutation_type is not None
for name, resolver in (("pay", _pay), ("payNow", _pay), ("shopPay", _shop_pay)):
    SCHEMA.mutation_type.fields[name].resolve = resolver


async def endpoint(request: Request) -> Response:
    asked = await request.json()
    result = await graphql(SCHEMA, asked["query"], variable_values=asked.get("variables"), context_value=request)
    trouble = request.headers.get(TROUBLE_HEADER, "")
    after = BackgroundTask(work_after, order_of(asked["variables"]), trouble) if trouble.startswith("background") else None
    answer = JSONResponse(result.formatted, background=after)
    answer.set_cookie("basket", "empty")
    return answer


async def sign_in(request: Request) -> Response:
    request.session["visitor_id"] = request.query_params["name"]
    return PlainTextResponse("welcome")


def _rule(mutation: str, **changes: Any) -> Rule:
    return Rule(
        f"POST {ROOT}/graphql",
        graphql_mutation=mutation,
        owner=signed_session("visitor_id", secret=SECRET),
        key=header("Idempotency-Key"),
        amount_minor=graphql_variable("amount"),
        currency=graphql_variable("currency"),
        reads={Reading.FAILED: graphql_errors(), Reading.SUCCEEDED: json_path(f"data.{mutation}")},
        **{**LIMITS, **changes},
    )


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    if LIFESPAN_FAILS:
        raise RuntimeError("the catalogue cannot be read")
    yield


app = Starlette(routes=[Route("/sign-in", sign_in), Route("/graphql", endpoint, methods=["POST"])], lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=SECRET)
app.add_middleware(
    GuardMiddleware,
    guard=make_guard(
        [
            _rule("pay", later=replay, terms="1"),
            _rule("payNow"),
            _rule("shopPay", charged_by="shop", resolve=ask),
        ]
    ),
)
