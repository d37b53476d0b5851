"""Reading a request from a `.http` file: what editors write, and what is refused with the line to write instead."""

from __future__ import annotations

import pytest
from example_ground import EXAMPLES

from cxguard.errors import ConfigurationError
from cxguard.testing.conform.http_file import read_http_file

PAY = 'POST /pay?fast=1 HTTP/1.1\nContent-Type: application/json\nIdempotency-Key: {{key}}\n\n{"cart": "{{$uuid}}",\n\n"amount": 1}\n'


def test_a_request_is_read_with_all_its_parts() -> None:
    """Method, path, headers in their order, and a body with empty lines in it."""
    request, other = read_http_file(PAY)
    sent = request.filled(key="k1", fresh="u1")
    assert (sent.method, sent.path, other) == ("POST", "/pay?fast=1", None)
    assert sent.headers == (("Content-Type", "application/json"), ("Idempotency-Key", "k1"))
    assert sent.body == b'{"cart": "u1",\n\n"amount": 1}'
    assert request.key_headers == ("Idempotency-Key",)


def test_the_key_can_be_left_out() -> None:
    """The header that carries it goes, and no other."""
    request, _ = read_http_file(PAY)
    assert request.filled(key="k", fresh="u", without=request.key_headers).headers == (("Content-Type", "application/json"),)


def test_a_second_request_is_the_other_payload() -> None:
    """It stands below a line of ###, which may carry a name."""
    request, other = read_http_file(f"### pay\n{PAY}\n### more\nPOST /pay\nIdempotency-Key: {{{{key}}}}\n\nother")
    assert other is not None
    assert (request.filled(key="k", fresh="u").body[:5], other.filled(key="k", fresh="u").body) == (b'{"car', b"other")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("POST https://shop.example/pay\nK: {{key}}", "/pay"),
        ("POST {{url}}/pay\nK: {{key}}", "/pay"),
        ("@who = ann\n\n# pays\n// a lot\nPOST /pay/{{who}}\n# not this one\nK: {{ key }}", "/pay/ann"),
        ("POST /pay\r\nK: {{key}}\r\n\r\n{}", "/pay"),
        ("PUT /carts/{{key}}", "/carts/k"),
    ],
)
def test_what_editors_write_is_read(text: str, path: str) -> None:
    """Hosts are left out; comments, values of the file's own and Windows' line ends are understood."""
    assert read_http_file(text)[0].filled(key="k", fresh="u").path == path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no request in it"),
        ("# nothing\n###\n", "there is no request in it"),
        ("/pay\nK: {{key}}", "'/pay' is no request line"),
        ("GET /pay\nK: {{key}}", "'GET /pay' is no request line"),
        ("POST /pay\nK: {{key}}\n{}", "'{}' is no header: an empty line stands between the headers and the body"),
        ("POST /pay\nK: v\n\n{}", "it has no place for the key: write {{key}} where it goes"),
        ("POST /pay\nK: {{key}}\nX: {{token}}", "{{token}} is not known: write @token = ..."),
    ],
)
def test_what_cannot_be_sent_is_refused(text: str, problem: str) -> None:
    """The error says what is wrong, and shows a file that is right."""
    with pytest.raises(ConfigurationError) as error:
        read_http_file(text)
    assert problem in str(error.value)
    assert "Idempotency-Key: {{key}}" in str(error.value)


def test_the_example_is_one() -> None:
    """The file beside the tested shop can be sent."""
    request, _ = read_http_file((EXAMPLES / "tested_shop" / "pay.http").read_text("utf-8"))
    assert request.filled(key="k", fresh="u").body == b'{"cart": "u", "amount": 4999}'
