"""Submits and repeated submits on each framework: one charge, one answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from frameworks.ground import Ground, Shopper, Told, fresh, only

pytestmark = pytest.mark.server
DOORS = ("pay", "shop-pay")
DUPLICATES = 20


@pytest.mark.parametrize("door", DOORS)
def test_a_first_submit_is_the_shops_own_answer(shop: Ground, cart: str, door: str) -> None:
    """201 with the shop's body and cookie; one charge of the asked amount."""
    told = shop.shopper().pay(cart, door=door)
    charges = shop.gateway.charges(cart)
    assert told.paid
    assert told.body == {"cart": cart, "payment": charges[0]["id"]}
    assert "basket=empty" in told.answer.headers["set-cookie"]
    assert [(line["amount_minor"], line["currency"]) for line in charges] == [(1000, "EUR")]


@pytest.mark.parametrize("door", DOORS)
def test_a_repeated_submit_gets_the_same_bytes_and_no_cookie(shop: Ground, cart: str, door: str) -> None:
    """The replay says that it is one, and changes nobody's session."""
    ann = shop.shopper()
    first, second = ann.pay(cart, door=door), ann.pay(cart, door=door)
    assert (second.answer.status_code, second.answer.content) == (first.answer.status_code, first.answer.content)
    assert second.answer.headers["idempotency-replayed"] == "true"
    assert "set-cookie" not in second.answer.headers
    assert len(shop.gateway.sends(cart)) == 1


@pytest.mark.parametrize("door", DOORS)
def test_twenty_presses_at_once_are_one_charge_and_equal_answers(shop: Ground, cart: str, door: str) -> None:
    """The first stands at the gateway while the others come; all of them wait for its answer."""
    shoppers = [shop.shopper() for _ in range(DUPLICATES)]
    with ThreadPoolExecutor(DUPLICATES) as threads, shop.gateway.holding():
        running = [threads.submit(shopper.pay, cart, door=door) for shopper in shoppers]
        shop.gateway.until_held()
        shop.gateway.release()
        answers = [one.result() for one in running]
    assert {(told.answer.status_code, told.answer.content) for told in answers} == {
        (answers[0].answer.status_code, answers[0].answer.content)
    }
    assert all(told.paid for told in answers)
    assert sum("set-cookie" in told.answer.headers for told in answers) == 1
    assert len(shop.gateway.sends(cart)) == 1


def test_the_same_key_for_another_amount_is_a_mismatch(shop: Ground, cart: str) -> None:
    """422, and nothing more is sent."""
    ann = shop.shopper()
    ann.pay(cart)
    told = ann.pay(cart, amount=2000)
    assert (told.status, told.situation) == (422, "mismatch")
    assert [line["amount_minor"] for line in shop.gateway.charges(cart)] == [1000]


def test_another_shopper_with_the_same_key_has_an_order_of_their_own(shop: Ground, cart: str) -> None:
    """The key alone names nothing: the owner is part of it."""
    key = fresh("key")
    ann, bob = shop.shopper("ann").pay(cart, key=key), shop.shopper("bob").pay(cart, key=key)
    assert ann.paid
    assert bob.paid
    assert ann.body["payment"] != bob.body["payment"]
    assert len(shop.gateway.charges(cart)) == 2


@pytest.mark.parametrize("door", DOORS)
def test_a_declined_card_is_told_and_another_card_pays(shop: Ground, cart: str, door: str) -> None:
    """402 for the first and its repetition; a new key for the new card."""
    ann = shop.shopper()
    declined, again = ann.pay(cart, door=door, card="tok_declined"), ann.pay(cart, door=door, card="tok_declined")
    assert (declined.status, again.status) == (402, 402)
    assert shop.gateway.charges(cart) == []
    assert ann.pay(cart, door=door, key=fresh("key")).paid
    assert len(shop.gateway.charges(cart)) == 1


@only(lambda one: one.form)
def test_a_form_that_is_sent_twice_leads_to_the_same_confirmation(shop: Ground, cart: str) -> None:
    """A redirect, replayed although the second submit carries a new CSRF token."""
    ann = shop.shopper()
    first, second = ann.checkout(cart), ann.checkout(cart)
    assert first.status_code in (302, 303)
    assert (second.status_code, second.headers["location"]) == (first.status_code, first.headers["location"])
    assert second.headers["idempotency-replayed"] == "true"
    assert "Thank you" in ann.client.get(first.headers["location"]).text
    assert len(shop.gateway.sends(cart)) == 1


@only(lambda one: one.form)
def test_a_form_with_a_declined_card_says_so_on_a_page(shop: Ground, cart: str) -> None:
    """402 as a page; the next card, under the basket's own key, is a new try and is charged once."""
    ann = shop.shopper()
    shop.gateway.mode("decline")
    declined = ann.checkout(cart)
    assert declined.status_code == 402
    assert declined.headers["content-type"].startswith("text/html")
    shop.gateway.mode("healthy")
    assert ann.checkout(cart, card="tok_ok_other").status_code in (302, 303)
    assert len(shop.gateway.charges(cart)) == 1


@only(lambda one: one.name.startswith("django"))  # only Django checks here
def test_what_the_framework_refuses_itself_passes_through_and_frees_the_key(shop: Ground, cart: str) -> None:
    """Django's CSRF check comes after the guard: its 403 reaches the shopper, and the form with its token pays."""
    ann = shop.shopper()
    fields = {"cart": cart, "amount": "1000", "currency": "EUR", "card": "tok_ok"}
    refused = ann.client.post("/checkout", data=fields, headers={"accept": "text/html"})
    assert refused.status_code == 403
    assert "CSRF" in refused.text
    assert ann.checkout(cart).status_code == 302
    assert len(shop.gateway.sends(cart)) == 1


@only(lambda one: one.graphql)
def test_a_mutation_under_an_alias_is_guarded_too(shop: Ground, cart: str) -> None:
    """The parser finds the mutation behind alias and fragment; a plain query passes."""
    ann = shop.shopper()
    variables = {"cart": cart, "amount": 1000, "currency": "EUR", "card": "tok_ok"}
    query = (
        "mutation($cart: String!, $amount: Int!, $currency: String!, $card: String!) { ...Buy } "
        "fragment Buy on Mutation { mine: pay(cart: $cart, amount: $amount, currency: $currency, card: $card) { payment } }"
    )
    sent = {"idempotency-key": f"key-{cart}", "accept": "application/json"}
    first, second = (_graphql(ann, {"query": query, "variables": variables}, sent) for _ in range(2))
    assert first.answer.content == second.answer.content
    assert len(shop.gateway.sends(cart)) == 1
    assert _graphql(ann, {"query": "{ hello }"}, {}).answer.json() == {"data": {"hello": None}}


def _graphql(shopper: Shopper, body: dict[str, object], headers: dict[str, str]) -> Told:
    return shopper.told(shopper.client.post(f"{shopper.ground.root}/graphql", json=body, headers=headers))
