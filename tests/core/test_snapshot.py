"""A request as values: headers, cookies, strict JSON and forms, negotiation, and keeping it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.snapshot import CHECKED_BYTES_MAX, Snapshot, Wants, full_path
from cxguard.errors import BadBody, BadHeader, UnsupportedMedia

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xYz"


def request(body: bytes = b"", *headers: tuple[str, str], content_type: str = "", query: str = "") -> Snapshot:
    typed = (("content-type", content_type),) if content_type else ()
    return Snapshot("POST", "/checkout/pay", query, (*typed, *headers), body)


def part(name: str, content: str, *, filename: str = "", end: bool = False) -> bytes:
    named = f'form-data; name="{name}"' + (f'; filename="{filename}"\r\nContent-Type: text/plain' if filename else "")
    return f"--xYz\r\nContent-Disposition: {named}\r\n\r\n{content}\r\n".encode() + (b"--xYz--\r\n" if end else b"")


# --- taking it from a scope


def test_scope_becomes_values() -> None:
    """Method, path, query and headers are taken from the scope, names in lower case, latin-1 kept."""
    scope = {"method": "POST", "path": "/pay", "query_string": b"a=1", "headers": [(b"X-Name", b"J\xfcrgen")], "root_path": "/shop"}
    assert Snapshot.from_scope(scope, body=b"x") == Snapshot("POST", "/shop/pay", "a=1", (("x-name", "Jürgen"),), b"x", "http", "/shop")


def test_a_scope_may_leave_out_what_it_can() -> None:
    """A long header name is read as any other."""
    scope = {"method": "GET", "path": "/pay", "headers": [(b"X-" + b"A" * 5000, b"1")], "root_path": None}
    assert Snapshot.from_scope(scope, body=b"") == Snapshot("GET", "/pay", "", (("x-" + "a" * 5000, "1"),), b"", "http", "")
    assert Snapshot.from_scope({**scope, "scheme": "https"}, body=b"").scheme == "https"


@pytest.mark.parametrize(
    ("path", "root", "full"),
    [
        ("/pay", "", "/pay"),
        ("/pay", "/shop", "/shop/pay"),
        ("/shop/pay", "/shop", "/shop/pay"),
        ("/shop", "/shop", "/shop"),
        ("/shopping/pay", "/shop", "/shop/shopping/pay"),
        ("/pay", "/shop/", "/shop/pay"),
        ("/shop/pay", "/shop/", "/shop/pay"),
        ("/pay", "/shopX", "/shopX/pay"),
        ("/shopX/pay", "/shopX", "/shopX/pay"),
    ],
)
def test_path_has_the_mount_once(path: str, root: str, full: str) -> None:
    """The mount stands in front once, whether the server put it into the path or not."""
    assert full_path({"path": path, "root_path": root}) == full


# --- headers and cookies


def test_header_is_read_once() -> None:
    """A header's value is found by its lower-case name, and an absent one is None."""
    assert request(b"", ("x-a", "1")).header("x-a") == "1"
    assert request().header("x-a") is None


def test_header_twice_is_refused() -> None:
    """Two values of one header are refused: nobody knows which of them the shop believes."""
    with pytest.raises(BadHeader, match="x-a came 2 times: send it once"):
        request(b"", ("x-a", "1"), ("x-a", "2")).header("x-a")


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (["a=1; cart=7"], "7"),
        (["cart=7", "a=1"], "7"),
        (["cart=7; cart=8"], "8"),
        (["cart=a=b=="], "a=b=="),
        (['cart="a\\054b\\"c"'], 'a,b"c'),
        (["cart="], ""),
        ([" a=1 ; cart = 7 "], "7"),
        (['cart=""'], ""),
        (['cart="'], '"'),
        (['cart="a'], '"a'),
        (['cart=a"'], 'a"'),
        (['cart="\\303\\\\"'], "\u00c3\\"),
        (["cartx=1; cart"], None),
        ([], None),
    ],
)
def test_cookies(headers: list[str], value: str | None) -> None:
    """A cookie is found in one or several headers; the last of one name counts; Python's quoting is undone."""
    assert request(b"", *(("cookie", header) for header in headers)).cookie("cart") == value


@pytest.mark.parametrize(
    ("header", "media_type", "charset"),
    [
        ("application/json", "application/json", "utf-8"),
        ("Application/JSON; Charset=UTF-8", "application/json", "utf-8"),
        ("text/plain; charset=iso-8859-1", "text/plain", "iso-8859-1"),
        ("", "", "utf-8"),
        (";;;", "", "utf-8"),
        ("text/plain; charset=", "text/plain", "utf-8"),
        ('text/plain; charset=""', "text/plain", "utf-8"),
    ],
)
def test_content_type(header: str, media_type: str, charset: str) -> None:
    """Media type and charset are read in any case; absent is empty."""
    content_type = request(content_type=header).content_type
    assert (content_type.media_type, content_type.charset) == (media_type, charset)


@pytest.mark.parametrize(
    ("content_type", "is_json", "is_form"),
    [
        (JSON, True, False),
        ("application/vnd.shop+json", True, False),
        ("application/jsonp", False, False),
        ("text/x+json", False, False),
        ("application/json; charset=utf-8", True, False),
        (URLENCODED, False, True),
        (MULTIPART, False, True),
        ("text/plain", False, False),
    ],
)
def test_kinds_of_body(content_type: str, is_json: bool, is_form: bool) -> None:
    """JSON of any kind is JSON, the two kinds of form are forms, and the rest is neither."""
    snapshot = request(b"x", content_type=content_type)
    assert (snapshot.is_json, snapshot.is_form) == (is_json, is_form)


# --- JSON


def test_json_keeps_numbers_as_written() -> None:
    """A number with a point is a Decimal with every digit that was written."""
    body = b'{"a": 1.10, "b": 12345678901234567890123, "c": 0.1}'
    assert request(body, content_type=JSON).json() == {"a": Decimal("1.10"), "b": 12345678901234567890123, "c": Decimal("0.1")}


def test_json_may_begin_with_a_mark() -> None:
    """A byte-order mark in front of JSON is skipped."""
    assert request(b"\xef\xbb\xbf[1]").json() == [1]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": 1', "is not JSON"),
        (b"", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', "the member 'a' twice"),
        (b'{"x": {"a": 1, "a": 1}}', "the member 'a' twice"),
        (b'{"a": 1, "\\u0061": 2}', "the member 'a' twice"),
        (b'{"b": 1, "%b": 1, "%b": 2}' % (b"a" * 41, b"a" * 41), f"the member '{'a' * 40}' twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[" * 100_000, "nests too deeply"),
        (b"[" + b"1" * 10_000 + b"]", "too long a number"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_refused_json(body: bytes, says: str) -> None:
    """Truncated, doubled, wrongly encoded or monstrous JSON is refused with what to do."""
    with pytest.raises(BadBody, match=says) as refused:
        request(body, content_type=JSON).json()
    assert ": send " in str(refused.value)


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """No bytes make the reader raise anything but a refusal."""
    for content_type in (JSON, URLENCODED, MULTIPART):
        try:
            request(body, content_type=content_type).check_body()
        except BadBody:
            continue


@pytest.mark.parametrize(
    ("body", "content_type", "holds"),
    [
        (b"{}", JSON, True),
        (b"not at all", JSON, True),  # it says so itself
        (b'{"a": 1}', "text/plain", True),
        (b"[1]", "", True),
        (b'\xef\xbb\xbf \t\r\n{"a": 1}', URLENCODED, True),
        (b'{"a": 1', "text/plain", False),
        (b"a=1", URLENCODED, False),
        (b"1", "text/plain", False),
        (b"", "", False),
    ],
)
def test_what_is_json_without_saying_so(body: bytes, content_type: str, holds: bool) -> None:
    """An object or a list that can be read to its end, behind a mark and blanks."""
    assert request(body, content_type=content_type).holds_json is holds


# --- forms


def test_urlencoded_form() -> None:
    """Fields are decoded, blank ones kept, in order."""
    form = request(b"cart=7&note=gr%C3%BCn+und+blau&gift=&tag=a&tag=b", content_type=URLENCODED).form()
    assert form.fields == (("cart", "7"), ("note", "grün und blau"), ("gift", ""), ("tag", "a"), ("tag", "b"))


def test_escapes_are_of_the_charset_that_is_declared() -> None:
    """As an old page sends them."""
    assert request(b"note=gr%FCn", content_type=URLENCODED + "; charset=iso-8859-1").form().fields == (("note", "grün"),)


def test_file_of_no_said_type_has_none() -> None:
    """Nothing is made up for it."""
    untyped = part("letter", "dear shop", filename="l.txt", end=True).replace(b"Content-Type: text/plain", b"X-Other: 1")
    assert [file.media_type for file in request(untyped, content_type=MULTIPART).form().files] == [""]


def test_multipart_form() -> None:
    """Text fields and files come apart, each with name and content."""
    body = part("cart", "7") + part("letter", "dear shop", filename="l.txt", end=True)
    form = request(body, content_type=MULTIPART).form()
    assert form.fields == (("cart", "7"),)
    assert [(file.name, file.filename, file.media_type, file.content) for file in form.files] == [
        ("letter", "l.txt", "text/plain", b"dear shop")
    ]


def test_form_field_twice_is_refused_when_asked_for() -> None:
    """A field that came twice is refused only when its one value is asked for."""
    form = request(b"cart=7&cart=8&a=1", content_type=URLENCODED).form()
    assert form.field("a") == "1" and form.field("b") is None
    with pytest.raises(BadBody, match="the field 'cart' 2 times: send it once"):
        form.field("cart")


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        (URLENCODED, b"a=%FF", "not text in 'utf-8'"),
        (URLENCODED, b"\xff=1", "not text in 'utf-8'"),
        (URLENCODED + "; charset=klingon", b"a=1", "not text in 'klingon'"),
        (URLENCODED, b"&".join(b"a=1" for _ in range(1001)), "too many fields"),
        (MULTIPART, part("cart", "7"), "cut short"),
        (MULTIPART, part("cart", "7", end=True)[:-30], "cut short"),
        (MULTIPART, b"nonsense", "malformed"),
        (MULTIPART, b"--xYz\r\nContent-Type: text/plain\r\n\r\nx\r\n--xYz--\r\n", "has no name"),
        (MULTIPART, part("a", "1") * 1001, "too many fields"),
        ("multipart/form-data", b"x", "names no boundary"),
    ],
)
def test_refused_forms(content_type: str, body: bytes, says: str) -> None:
    """A form that is cut, mis-encoded, nameless or huge is refused with what to do."""
    with pytest.raises(BadBody, match=says):
        request(body, content_type=content_type).form()


def test_form_of_another_type_is_refused() -> None:
    """Asking JSON for its form is a wrong content type."""
    with pytest.raises(UnsupportedMedia, match="is not a form: send a form") as refused:
        request(b"{}", content_type=JSON).form()
    assert refused.value.status == 415


def test_check_body_leaves_other_types_alone() -> None:
    """Only JSON and forms are held to what they claim to be, and an empty body claims nothing."""
    request(b"{", content_type="text/plain").check_body()
    request(b"", content_type=JSON).check_body()
    for body, content_type in ((b"{", JSON), (b"{" * CHECKED_BYTES_MAX, JSON), (b"a=%FF", URLENCODED)):
        with pytest.raises(BadBody):
            request(body, content_type=content_type).check_body()
    request(b"{" * (CHECKED_BYTES_MAX + 1), content_type=JSON).check_body()


def test_once_asks_once() -> None:
    """What was found about a request is kept, also when it is nothing."""
    asked: list[int] = []
    snapshot = request()
    assert [snapshot.once("x", lambda: asked.append(1)) for _ in range(3)] == [None] * 3
    assert asked == [1]


def test_a_request_is_parsed_once() -> None:
    """Key, owner, amount and fingerprint of it cost one parse."""
    json_, form = request(b"[[1]]", ("cookie", "a=one"), content_type=JSON), request(b"a=1", content_type=URLENCODED)
    assert json_.json() is json_.json()
    assert form.form() is form.form()
    assert json_.header_all("cookie") is json_.header_all("cookie") and json_.cookie("a") is json_.cookie("a")


# --- negotiation


@pytest.mark.parametrize(
    ("accept", "content_type", "wants"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", URLENCODED, Wants.HTML),
        ("application/json", URLENCODED, Wants.JSON),
        ("application/problem+json", URLENCODED, Wants.JSON),
        ("application/graphql-response+json, application/json;q=0.9", JSON, Wants.JSON),
        ("application/json, text/html;q=0.9", JSON, Wants.JSON),
        ("application/json;q=0.5, text/html;q=0.9", JSON, Wants.HTML),
        ("text/html, application/json", JSON, Wants.HTML),
        ("application/json, text/html", URLENCODED, Wants.JSON),
        ("text/html;q=0, application/json;q=0", JSON, Wants.JSON),
        ("TEXT/HTML", JSON, Wants.HTML),
        ("text/*", JSON, Wants.HTML),
        ("application/xhtml+xml", JSON, Wants.HTML),
        ("text/html;level=1; q=0.3, application/json;q=0.4", JSON, Wants.JSON),
        ("text/html, text/*;q=0.1, application/json;q=0.5", JSON, Wants.HTML),
        ("application/json, application/x+json;q=0.1, text/html;q=0.5", URLENCODED, Wants.JSON),
        ("application/json, text/html, application/json", JSON, Wants.JSON),
        ("text/html, application/json, text/html", JSON, Wants.HTML),
        ("text/html;q=0.5555, application/json;q=0.1", JSON, Wants.JSON),
        ("text/html;q=2, application/json;q=0.1", JSON, Wants.JSON),
        ("text/html;q=0.1, application/json;q=0." + "0" * 5000, JSON, Wants.HTML),
        ("text/html;q=bogus, */*", JSON, Wants.JSON),
        ("*/*", JSON, Wants.JSON),
        ("*/*", URLENCODED, Wants.HTML),
        ("*/*", MULTIPART, Wants.HTML),
        ("", URLENCODED, Wants.HTML),
        ("", "", Wants.JSON),
        ("image/png", URLENCODED, Wants.HTML),
    ],
)
def test_negotiation(accept: str, content_type: str, wants: Wants) -> None:
    """The better liked of page and JSON; a client without a preference is answered in its own kind."""
    headers = (("accept", accept),) if accept else ()
    assert request(b"", *headers, content_type=content_type).wants() is wants


@pytest.mark.parametrize(
    ("accept", "content_type", "wants"),
    [("*/*", URLENCODED, Wants.HTML), ("*/*", JSON, Wants.HTML), ("", MULTIPART, Wants.HTML), ("application/json", URLENCODED, Wants.JSON)],
)
def test_htmx_is_answered_with_a_page(accept: str, content_type: str, wants: Wants) -> None:
    """It swaps the answer into the page: JSON would stand there as it is. Browsers say "empty" of its requests as of any script's."""
    headers = (("hx-request", "true"), ("sec-fetch-dest", "empty"), *((("accept", accept),) if accept else ()))
    assert request(b"", *headers, content_type=content_type).wants() is wants


def test_headers_of_one_name_are_one_list() -> None:
    """What is accepted may be said line by line."""
    assert request(b"", ("accept", "text/html"), ("accept", "application/json;q=0.5"), content_type=JSON).wants() is Wants.HTML


@pytest.mark.parametrize("header", [("sec-fetch-dest", "empty"), ("x-requested-with", "XMLHttpRequest")])
def test_script_that_sends_a_form_wants_json(header: tuple[str, str]) -> None:
    """A script's form with `*/*` is answered in JSON: it would take a page's 200 for "paid"."""
    assert request(b"", ("accept", "*/*"), header, content_type=URLENCODED).wants() is Wants.JSON


def test_navigation_wants_a_page() -> None:
    """A browser that navigates sees a page, whatever it posted."""
    assert request(b"", ("sec-fetch-mode", "navigate"), content_type="text/plain").wants() is Wants.HTML


@pytest.mark.parametrize(
    ("headers", "prefers"),
    [
        (["respond-async"], True),
        (["wait=5, Respond-Async; x=1"], True),
        (["wait=5", "respond-async"], True),
        (["no-respond-async"], False),
        ([], False),
    ],
)
def test_prefer_respond_async(headers: list[str], prefers: bool) -> None:
    """Only the very word says that a client knows what a 202 means."""
    assert request(b"", *(("prefer", header) for header in headers)).prefers_async is prefers


# --- as a value


def test_snapshot_is_a_value() -> None:
    """Two equal requests are equal, parsed or not, and none can be changed."""
    one, other = request(b"{}", content_type=JSON), request(b"{}", content_type=JSON)
    one.json()
    assert one == other and hash(one) == hash(other)
    changed: Any = one
    with pytest.raises(AttributeError):
        changed.path = "/other"
