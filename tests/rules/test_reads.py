"""Matchers: what a handler's answer means where its status does not say."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest

from cxguard.core.reading import HandlerAnswer, Matcher, Reading, read
from cxguard.errors import ConfigurationError
from cxguard.rules import graphql_errors, has_status, json_path, page_has, redirects_to
from cxguard.rules.reads import cases_of, graphql_cases


def redirect(location: str, status: int = 303) -> HandlerAnswer:
    return HandlerAnswer(status, ((b"location", location.encode()),))


def answer(value: Any, status: int = 200) -> HandlerAnswer:
    return HandlerAnswer(status, ((b"content-type", b"application/json"),), json.dumps(value).encode())


def page(html: str) -> HandlerAnswer:
    return HandlerAnswer(200, ((b"content-type", b"text/html"),), html.encode())


TABLE: list[tuple[Matcher, HandlerAnswer, bool]] = [
    (redirects_to("/thank-you*"), redirect("/thank-you/17"), True),
    (redirects_to("/thank-you*"), redirect("https://shop.example/thank-you?order=17", 302), True),
    (redirects_to("/thank-you[?]order=*"), redirect("/thank-you?order=17"), True),
    (redirects_to("/thank-you"), redirect("/thank-you?order=17"), True),
    (redirects_to("/thank-you*"), redirect("/cart?error=thank-you"), False),
    (redirects_to("/thank-you*"), redirect("/thank-you", 200), False),
    (redirects_to("/thank-you*"), HandlerAnswer(303), False),
    (json_path("status", equals="paid"), answer({"status": "paid"}), True),
    (json_path("status", equals="paid"), answer({"status": "failed"}), False),
    (json_path("status", equals="paid"), answer([]), False),
    (json_path("status", equals="paid"), HandlerAnswer(200, (), b"{"), False),
    (json_path("ok", equals=True), answer({"ok": True}), True),
    (json_path("ok", equals=True), answer({"ok": 1}), False),
    (json_path("n", equals=1), answer({"n": True}), False),
    (json_path("n", equals=None), answer({"n": None}), True),
    (json_path("data.pay.errors.0.code", in_=("declined", "funds")), answer({"data": {"pay": {"errors": [{"code": "funds"}]}}}), True),
    (json_path("code", in_=("declined",)), answer({"code": "timeout"}), False),
    (json_path("code", in_=("declined",)), answer({}), False),
    (json_path("order.id"), answer({"order": {"id": 0}}), True),
    (json_path("order.id"), answer({"order": {"id": None}}), False),
    (page_has(".order-confirmed"), page("<main><h1 class='order-confirmed big'>Thanks</h1></main>"), True),
    (page_has(".order-confirmed"), page("<p>.order-confirmed</p>"), False),
    (page_has("form[data-state=declined] > p"), page("<form data-state=declined><p>No<form>"), True),
    (page_has("p"), HandlerAnswer(204), False),
    (graphql_errors(), answer({"data": None, "errors": [{"message": "x"}]}), True),
    (graphql_errors(), answer({"data": {}, "errors": []}), False),
    (graphql_errors(), answer({"data": {}}), False),
    (graphql_errors("CARD_DECLINED"), answer({"errors": [{"message": "x"}, {"extensions": {"code": "CARD_DECLINED"}}]}), True),
    (graphql_errors("CARD_DECLINED"), answer({"errors": [{"extensions": {"code": "OTHER"}}, "odd"]}), False),
    (has_status(402, 422), HandlerAnswer(422), True),
    (has_status(402), HandlerAnswer(422), False),
]


@pytest.mark.parametrize(("matcher", "given", "holds"), TABLE)
def test_matchers(matcher: Matcher, given: HandlerAnswer, holds: bool) -> None:
    """Each helper holds for what it describes and for nothing else, also when the answer cannot be read."""
    assert matcher(given) is holds


@pytest.mark.parametrize("status", [200, 402])
@pytest.mark.parametrize("code", ["declined", "funds", "other"])
def test_combinations(status: int, code: str) -> None:
    """`|`, `&` and `~` mean or, and, not, in any nesting, also with a shop's own callable."""
    declined, funds = json_path("code", equals="declined"), json_path("code", equals="funds")
    given = answer({"code": code}, status)
    assert (declined | funds)(given) == (code in ("declined", "funds"))
    assert (declined & has_status(402))(given) == (code == "declined" and status == 402)
    assert (~declined)(given) == (code != "declined")
    assert ((declined | (lambda a: a.status == 402)) & ~funds)(given) == ((code == "declined" or status == 402) and code != "funds")


def test_combined_names_say_what_was_combined() -> None:
    """A combined matcher is readable in messages."""
    assert (redirects_to("/ok") | ~has_status(200)).name == "(redirects_to('/ok') | ~has_status(200,))"


def test_reads_as_mapping_and_as_list() -> None:
    """Both writings of `reads=` are the same cases, in the order written; readings may be plain words."""
    paid, no = redirects_to("/ok*"), json_path("declined")
    mapping = cases_of({Reading.SUCCEEDED: paid, Reading.DECLINED: no})
    assert mapping == cases_of([(paid, Reading.SUCCEEDED), (no, Reading.DECLINED)])
    assert read(redirect("/ok"), mapping) is Reading.SUCCEEDED
    assert read(answer({"declined": 1}), mapping) is Reading.DECLINED
    assert read(answer({}), mapping) is Reading.FAILED


@pytest.mark.parametrize("reads", [[("paid", Reading.SUCCEEDED)], [(has_status(200), "paid")]])
def test_refused_reads(reads: Any) -> None:
    """A matcher that cannot be called and a reading that is none are refused with the line to write."""
    with pytest.raises(ConfigurationError, match=r'write reads=\{Reading.SUCCEEDED: redirects_to\("/thank-you\*"\)\}'):
        cases_of(reads)


def test_bad_selector_is_refused_at_start() -> None:
    """A selector that cannot be read is refused when it is written, not at the first payment."""
    with pytest.raises(ConfigurationError) as refused:
        page_has("..x")
    assert str(refused.value) == "page_has('..x') is no CSS selector; write for instance page_has(\".order-confirmed\")"


def test_missing_html_parser_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the HTML parser, the error says what to install."""
    there = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("selectolax"):
            raise ImportError(name)
        return there(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError) as refused:
        page_has("p")
    assert str(refused.value) == "page_has('p') needs an HTML parser: run pip install 'cxguard[html]'"


ERRORS = [{"message": "x"}]


@pytest.mark.parametrize(
    ("told", "guard", "shop"),
    [
        (answer({"data": {"pay": {"id": 1}}}), Reading.SUCCEEDED, Reading.SUCCEEDED),
        (answer({"data": {"pay": None}}), Reading.SUCCEEDED, Reading.SUCCEEDED),
        (answer({"data": {"pay": {"mail": None}}, "errors": ERRORS}), Reading.SUCCEEDED, Reading.SUCCEEDED),
        (answer({"data": {"pay": None}, "errors": ERRORS}), Reading.REJECTED, Reading.FAILED),
        (answer({"data": None, "errors": ERRORS}), Reading.REJECTED, Reading.FAILED),
        (answer([{"data": {"log": 1}}, {"data": {"pay": None}, "errors": ERRORS}]), Reading.REJECTED, Reading.FAILED),
        (answer({"errors": ERRORS}), Reading.REJECTED, Reading.REJECTED),
        (answer({"errors": "odd"}), Reading.REJECTED, Reading.REJECTED),
        (answer({"errors": [*ERRORS, {"message": "x", "path": ["pay"]}]}), Reading.REJECTED, Reading.FAILED),
        (answer({"errors": [{"extensions": {"code": "BAD_USER_INPUT"}}]}), Reading.REJECTED, Reading.REJECTED),
        (answer({"errors": [{"extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}), Reading.REJECTED, Reading.FAILED),
        (answer([{"errors": ERRORS}, {"data": None, "errors": ERRORS}]), Reading.REJECTED, Reading.FAILED),
        (answer({"data": None, "errors": ERRORS}, 402), Reading.DECLINED, Reading.DECLINED),
        (answer({"data": None, "errors": ERRORS}, 500), Reading.FAILED, Reading.FAILED),
        (answer("odd"), Reading.SUCCEEDED, Reading.SUCCEEDED),
    ],
)
def test_answer_of_a_mutation_whose_rule_says_nothing(told: HandlerAnswer, guard: Reading, shop: Reading) -> None:
    """Errors without data came before anything ran, unless a field's are among them, or the server's own.

    A root field that is null beside errors has failed, somewhere.
    """
    assert (read(told, graphql_cases("guard")), read(told, graphql_cases("shop"))) == (guard, shop)
