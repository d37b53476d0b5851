"""A response as a value, and the headers that every answer of ours carries."""

from __future__ import annotations

from dataclasses import dataclass, replace

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
# A browser holds redirects after a submit to `form-action` too, and the shop's own handler may lead on to a bank.
CONFIRM_SECURITY_POLICY = CONTENT_SECURITY_POLICY + " https:"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A whole response. Header names in lower case; each at most once."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, by its lower-case name."""
        return next((value for known, value in self.headers if known == name), None)

    def to_asgi(self) -> tuple[dict[str, object], dict[str, object]]:
        """The two messages of ASGI."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        start: dict[str, object] = {"type": "http.response.start", "status": self.status, "headers": raw}
        return start, {"type": "http.response.body", "body": self.body}


def answered(
    status: int,
    body: bytes,
    content_type: str,
    *,
    locale: str = "",
    retry_after_seconds: int | None = None,
    more: tuple[tuple[str, str], ...] = (),
) -> Rendered:
    """A response with the duties of all answers: not stored, not indexed, not sniffed; its length and language named."""
    headers = [
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("vary", "accept, accept-language"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex"),
        ("referrer-policy", "no-referrer"),
    ]
    if locale:
        headers.append(("content-language", locale))
    if retry_after_seconds is not None:
        headers.append(("retry-after", str(retry_after_seconds)))
    if status == 401:
        headers.append(("www-authenticate", "Session"))  # a 401 has to name a scheme; the shop's own session is what is missing
    return Rendered(status, (*headers, *more), body)


def see_other(url: str) -> Rendered:
    """303: the browser asks for *url*, so that a reload sends nothing again. Local paths only.

    Raises:
        ValueError: *url* leads elsewhere: whoever made it must not choose where a shopper goes.
    """
    # A backslash is a slash to browsers, and "//" or "/\" begins another host's address.
    if not url.startswith("/") or url.startswith(("//", "/\\")) or any(char in url for char in "\r\n\t\\"):
        raise ValueError("a redirect leads to a path of this site")
    return Rendered(303, (("location", url), ("content-length", "0"), ("cache-control", "no-store"), ("x-robots-tag", "noindex")), b"")


def for_htmx(rendered: Rendered) -> Rendered:
    """A redirect as htmx opens it, as a page of its own: behind a 303 it would put that page into the shop's, without its script."""
    if rendered.status != 303:
        return rendered
    headers = tuple(("hx-redirect" if name == "location" else name, value) for name, value in rendered.headers)
    return replace(rendered, status=200, headers=headers)
