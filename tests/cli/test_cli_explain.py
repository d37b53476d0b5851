"""`cxguard explain`: what it prints of real apps, and that it changes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from example_ground import client_of
from itsdangerous import TimestampSigner

from cxguard.cli import main

PROGRAM = """
from example_ground import load
from cxguard.testing.fake_gateway import FakeGateway

spa = load("spa/app.py")
gateway = FakeGateway()
app = spa.make_app(gateway, store="sqlite:///{name}.db")
"""

GRAPHQL = """
from starlette.applications import Starlette
from cxguard import Guard, Rule, Shop, form_field, header, scope_session, scope_user
from cxguard.asgi import GuardMiddleware
from cxguard.rules import graphql_variable

rules = [
    Rule("POST /graphql", graphql_mutation="pay", owner=header("x-user"), key=graphql_variable("cart")),
    Rule("POST /form", owner=scope_session("visitor"), key=form_field("basket"), reads={"succeeded": lambda answer: True}),
    Rule("POST /me", owner=scope_user("pk"), key_required=False, charged_by="shop"),
]
app = Starlette()
app.add_middleware(GuardMiddleware, guard=Guard("sqlite:///many.db", rules=rules, shop=Shop("Fern & Co", phone="1")))
"""

ORDER = {"basket_id": "b_1", "amount_minor": 4999, "currency": "EUR", "source": "tok_ok"}


def cxguard(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ("explain", *arguments))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def explained(*arguments: str, code: int = 0) -> Any:
    return json.loads(cxguard(*arguments, "--json", code=code).stdout)


@pytest.fixture
def spa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The single-page example, as `name:app`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"spa_{abs(hash(request.node.name))}"  # each test imports it anew
    (tmp_path / f"{name}.py").write_text(PROGRAM.format(name=name))
    return name


def session_of(visitor: str) -> str:
    secret = "an example only: a shop's own comes from its environment"
    value = base64.b64encode(json.dumps({"visitor_id": visitor}).encode())
    return f"session={TimestampSigner(secret).sign(value).decode()}"


def submit(*more: str) -> tuple[str, ...]:
    return ("POST /api/pay", "--body", json.dumps(ORDER), "-H", "Idempotency-Key: k1", "--cookie", session_of("ann-7"), *more)


def test_a_request_is_explained_from_its_rule_to_its_answers(spa: str) -> None:
    """For people: who, which key, how much, what then; never the owner's own value."""
    text = cxguard(f"{spa}:app", *submit()).output
    for words in ("charged by the guard", "by signed session visitor_id", "k1, by header Idempotency-Key", "49.99 EUR", "kept, and placed"):
        assert words in text
    assert "202 unknown: money unknown, order saved, do not pay again" in text
    assert "no secrets yet" in text
    assert "ann-7" not in text


def test_explaining_leaves_no_file_behind(spa: str, tmp_path: Path) -> None:
    """No store and no secrets are made by a look."""
    before = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    cxguard(f"{spa}:app", *submit())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == before


def test_an_order_that_is_there_is_found_by_the_very_names(spa: str, tmp_path: Path) -> None:
    """Paid by the real app, then explained: the same reference, and what a second click gets."""

    async def pay() -> Any:
        module = __import__(spa)
        async with client_of(module.app) as client:
            name, _, value = session_of("ann-7").partition("=")
            return await client.post("/api/pay", json=ORDER, headers={"idempotency-key": "k1", "cookie": f"{name}={value}"})

    assert asyncio.run(pay()).status_code == 201
    content = (tmp_path / f"{spa}.db").read_bytes()
    found = explained(f"{spa}:app", *submit())
    assert found["stored"]["order"]["reference"] == found["read"]["reference"]
    assert (found["stored"]["order"]["money"], found["stored"]["meets"]["do"]) == ("charged", "replay")
    changed = explained(f"{spa}:app", "POST /api/pay", "--body", json.dumps({**ORDER, "amount_minor": 1}), *submit()[3:])
    assert changed["stored"]["meets"]["told"]["status"] == 422
    assert (tmp_path / f"{spa}.db").read_bytes() == content


def test_a_shop_whose_secret_is_gone_is_not_explained_under_made_up_names(spa: str, tmp_path: Path) -> None:
    """It has records: their secret has to come back first."""
    test_an_order_that_is_there_is_found_by_the_very_names(spa, tmp_path)
    (tmp_path / f"{spa}.db.secret").unlink()
    assert "secret" in cxguard(f"{spa}:app", *submit(), code=1).stderr


def test_a_request_that_no_rule_is_for_ends_with_1_and_the_nearest(spa: str) -> None:
    """With the line to write."""
    assert "POST /api/pay: it has /api in front" in cxguard(f"{spa}:app", "POST /pay", code=1).output
    found = explained(f"{spa}:app", "GET /api/pay", code=1)
    assert (found["guarded"], found["near"][0]["rule"]) == (False, "POST /api/pay")


def test_a_refused_request_ends_with_1_and_says_why(spa: str) -> None:
    """As the client would be told."""
    found = explained(f"{spa}:app", "POST /api/pay", "--body", json.dumps(ORDER), code=1)
    assert found["refused"]["told"]["situation"] == "key_missing"
    assert "header Idempotency-Key" in found["refused"]["why"]
    assert "refused" in cxguard(f"{spa}:app", "POST /api/pay", code=1).output


def test_a_body_may_come_from_a_file(spa: str, tmp_path: Path) -> None:
    """`@pay.json`, as elsewhere."""
    (tmp_path / "pay.json").write_text(json.dumps(ORDER))
    assert explained(f"{spa}:app", *submit()[:1], "--body", "@pay.json", *submit()[3:])["read"]["amount_minor"] == "4999"
    cxguard(f"{spa}:app", "POST /api/pay", "--body", "@none.json", code=2)


@pytest.mark.parametrize(
    "arguments",
    [("POST /api/pay", "--body", "x", "--form", "a=b"), ("/api/pay",), ("POST pay",), ("POST /api/pay", "-H", "no colon"), ()],
)
def test_a_request_written_wrongly_ends_with_2(spa: str, arguments: tuple[str, ...]) -> None:
    """Usage errors have a code of their own."""
    cxguard(f"{spa}:app", *arguments, code=2)


def test_an_address_has_no_rules_to_explain() -> None:
    """The refusal shows what to write."""
    assert "write shop.main:app" in cxguard("sqlite:///shop.db", "POST /pay", code=2).stderr


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """GraphQL, forms, sessions and users of the framework."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"many_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(GRAPHQL)
    return f"{name}:app"


def test_graphql_is_read_by_its_mutation(many: str) -> None:
    """The ruled one enters; another one passes; two at once are refused, in GraphQL."""
    body = {"query": "mutation($cart: String!) { pay(cart: $cart) { id } }", "variables": {"cart": "c1"}}
    found = explained(many, "POST /graphql", "--body", json.dumps(body), "-H", "x-user: ann")
    assert (found["client"]["medium"], found["read"]["key"], found["read"]["key_by"]) == ("graphql", "c1", "graphql variable cart")
    other = explained(many, "POST /graphql", "--body", json.dumps({"query": "{ hello }"}), code=1)
    assert other["passes"] == "it selects no mutation that has a rule"
    twice = {"query": "mutation { a: pay(cart: 1) { id } b: pay(cart: 2) { id } }"}
    assert explained(many, "POST /graphql", "--body", json.dumps(twice), code=1)["refused"]


def test_forms_sessions_and_users_stand_in_for_the_framework(many: str) -> None:
    """What its own middleware would have put there is given by hand."""
    form = explained(many, "POST /form", "--form", "basket=b 1", "--session", "visitor=ann")
    assert (form["read"]["key"], form["read"]["owner_by"], form["client"]["medium"]) == ("b 1", "scope session visitor", "html")
    assert explained(many, "POST /me", "--user", "7", "-H", "Idempotency-Key: k")["read"]["owner_by"] == "scope user pk"
    keyless = explained(many, "POST /me", "--user", "7")
    assert "key_required=False" in keyless["passes"]
