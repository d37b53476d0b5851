"""An answer as a page: for errors and duplicates the page itself, for what is on its way a 303 to the status page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cxguard.core.answer import Answer, Situation, goes_to_status_page
from cxguard.render.assets import asset_url
from cxguard.render.fill import fill
from cxguard.render.json import encode, members
from cxguard.render.rendered import CONFIRM_SECURITY_POLICY, CONTENT_SECURITY_POLICY, Rendered, answered, see_other
from cxguard.render.status import OWN_WORDS_CHARS_MAX, WENT_WRONG, StatusView, tone_of
from cxguard.render.words import Voice, Words

CONFIRM_FIELD = "cxguard_confirm_duplicate"  # a form field: the reference of the order that the shopper wants once more
REFRESH_SECONDS = 6  # without scripts: the page reads well in between, and a worker is not asked much
_PAGE = "text/html; charset=utf-8"
_OPENER = ("cross-origin-opener-policy", "same-origin")


@dataclass(frozen=True, slots=True)
class Confirm:
    """The form behind "buy the same once more": the shopper's own submit, sent again with the confirmation.

    Attributes:
        action: the path that was posted to.
        fields: the urlencoded form as it came, in its order, duplicates kept.
    """

    action: str
    fields: tuple[tuple[str, str], ...]


def confirm_form(action: str, fields: Iterable[tuple[str, str]], *, reference: str) -> Confirm:
    """The form that buys the order named *reference* once more. Only for urlencoded forms: files cannot be sent back."""
    kept = tuple((name, value) for name, value in fields if name != CONFIRM_FIELD)
    return Confirm(action, (*kept, (CONFIRM_FIELD, reference)))


def render_html(answer: Answer, words: Words, *, voice: Voice, prefix: str, status: int, confirm: Confirm | None = None) -> Rendered:
    """*answer* for a browser."""
    about = answer.about
    if goes_to_status_page(answer) and about.status_url:
        return see_other(f"{about.status_url}?again" if answer.situation is Situation.DUPLICATE_RUNNING else about.status_url)
    ui = voice.catalogue.ui(words.locale)
    confirming = confirm if answer.situation is Situation.DUPLICATE else None
    body = _render(
        "answer.html",
        voice=voice,
        words=words,
        prefix=prefix,
        tone=tone_of(answer.situation),
        reference=about.reference,
        follow_url=about.status_url,
        resume_url=web_address(about.resume_url),
        confirm=confirming,
        hint=fill(ui["hint"], {"hint": about.hint}) if about.hint else "",
    )
    policy = ("content-security-policy", CONFIRM_SECURITY_POLICY if confirming else CONTENT_SECURITY_POLICY)
    after = answer.retry_after_seconds
    return answered(status, body, _PAGE, locale=words.locale, retry_after_seconds=after, more=(policy, _OPENER))


def render_status_html(view: StatusView, *, voice: Voice, prefix: str) -> Rendered:
    """The status page."""
    about = view.answer.about
    body = _render(
        "status.html",
        voice=voice,
        words=view.words,
        prefix=prefix,
        tone=view.tone,
        view=view,
        reference=about.reference,
        resume_url=web_address(about.resume_url),
        status_url=about.status_url,
        cancel_url=f"{about.status_url}/cancel",
        say_url=f"{about.status_url}/say",
        js_url=asset_url(prefix, "status.js"),
        refresh_seconds=REFRESH_SECONDS,
        went_wrong=WENT_WRONG,
        words_max=OWN_WORDS_CHARS_MAX,
    )
    return answered(200, body, _PAGE, locale=view.words.locale, more=(("content-security-policy", CONTENT_SECURITY_POLICY), _OPENER))


def render_status_json(view: StatusView, *, voice: Voice) -> Rendered:
    """The same for a program, and for the page's own script. 200: this is the order's state, whatever it is."""
    about = view.answer.about
    document = {
        "title": view.words.title,
        "detail": view.words.detail,
        **members(view.answer, view.words, voice=voice),
        "final": view.final,
        "money_line": view.money_line,
        "revision": view.revision,
        "cancel_url": f"{about.status_url}/cancel" if view.can_cancel else None,
        "order_url": view.extras.order_url,
    }
    return answered(200, encode(document), "application/json", locale=view.words.locale)


def _render(template: str, *, voice: Voice, words: Words, prefix: str, **context: Any) -> bytes:
    page = _TEMPLATES.get_template(template).render(
        locale=words.locale,
        title=words.title,
        words=words,
        shop=voice.shop,
        ui=voice.catalogue.ui(words.locale),
        css_url=asset_url(prefix, "cxguard.css"),
        **context,
    )
    return page.encode()


def _source(name: str) -> str:
    return resources.files("cxguard.render").joinpath("templates", name).read_text("utf-8")


def web_address(url: str | None) -> str | None:
    """*url* if a link may lead there: a page of the web or of this site, and nothing that a browser would run."""
    return url if url and url.startswith(("https://", "http://", "/")) else None


def _dialled(phone: str) -> str:
    """Digits and a leading plus, for a `tel:` link."""
    return "".join(char for index, char in enumerate(phone.strip()) if char.isdecimal() or (char == "+" and index == 0))


_TEMPLATES = Environment(
    loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
)
_TEMPLATES.filters["dialled"] = _dialled
