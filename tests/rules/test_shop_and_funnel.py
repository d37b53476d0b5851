"""The shop's contact, and the pages of its checkout."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cxguard.core.session import Stage
from cxguard.errors import ConfigurationError
from cxguard.rules import Funnel, Shop

EXAMPLE = 'Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")'
FUNNEL = Funnel(cart=("GET /cart*", "GET /basket"), checkout="GET /checkout", pay="POST /checkout/pay", done="GET /thank-you/{order}")


@pytest.mark.parametrize("contact", [{"phone": "+44 20 7946 0000"}, {"email": "help@fern.example"}, {"url": "/help"}])
def test_any_contact_will_do(contact: dict[str, str]) -> None:
    """A phone, an e-mail address or a contact page is a way to reach somebody."""
    assert Shop("Fern & Co", **contact).name == "Fern & Co"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Shop("Fern & Co"), f"the shop cannot be reached: every answer names a contact; write {EXAMPLE}"),
        (lambda: Shop("Fern & Co", hours="9-18"), f"the shop cannot be reached: every answer names a contact; write {EXAMPLE}"),
        (lambda: Shop(" ", phone="1"), f"the shop has no name; write {EXAMPLE}"),
        (lambda: Shop(None, phone="1"), f"the shop has no name; write {EXAMPLE}"),  # type: ignore[arg-type]
        (lambda: Shop("Fern", phone=442079), f"phone=442079 is no text, and every answer quotes it; write {EXAMPLE}"),  # type: ignore[arg-type]
        (
            lambda: Shop("Fern", url="javascript:alert(1)"),
            "url='javascript:alert(1)' is no address; write Shop(name='Fern', url=\"https://shop.example/contact\")",
        ),
        (
            lambda: Funnel(cart="/cart"),
            "the match '/cart' can match no request: it begins with the method, one of DELETE, GET, PATCH, POST, PUT, and a space; "
            'write Funnel(..., cart="GET /cart")',
        ),
        (
            lambda: Funnel(pay="post /pay"),
            "the match 'post /pay' can match no request: it begins with the method, one of DELETE, GET, PATCH, POST, PUT, and a space; "
            'write Funnel(..., pay="POST /pay")',
        ),
        (
            lambda: Funnel(cart="GET /cart*", checkout="GET /cart/address"),
            "a request can be at two stages, cart='GET /cart*' and checkout='GET /cart/address'; "
            'write Funnel(..., cart="GET /cart*") and give checkout a match of its own',
        ),
    ],
)
def test_refusals_print_the_corrected_line(make: Callable[[], object], text: str) -> None:
    """A shop without a contact and a funnel without clear stages are refused with the line to write."""
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("method", "path", "stage"),
    [
        ("GET", "/cart", Stage.CART),
        ("GET", "/cart/items", Stage.CART),
        ("GET", "/basket", Stage.CART),
        ("GET", "/checkout", Stage.CHECKOUT),
        ("POST", "/checkout/pay", Stage.PAY),
        ("GET", "/thank-you/17", Stage.DONE),
        ("GET", "/thank-you", None),
        ("POST", "/cart", None),
        ("GET", "/", None),
    ],
)
def test_stages(method: str, path: str, stage: Stage | None) -> None:
    """A request is at the stage whose page it asks for, and most are at none."""
    assert FUNNEL.stage(method, path) is stage


def test_a_funnel_may_lack_stages() -> None:
    """A shop that names no pages has no stages."""
    assert Funnel().stage("GET", "/cart") is None


def test_one_stage_may_have_overlapping_matches() -> None:
    """Within one stage, matches may overlap."""
    assert Funnel(cart=("GET /cart*", "GET /cart/items")).stage("GET", "/cart/items") is Stage.CART
