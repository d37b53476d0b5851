"""An answer put into words: title, paragraphs and contact, in the locale that the request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

from markupsafe import Markup, escape

from cxguard.core.answer import Answer
from cxguard.render.figures import format_amount, format_time, iso_time
from cxguard.render.fill import fill, fill_markup
from cxguard.render.messages.catalogue import Catalogue
from cxguard.rules.shop import Shop

_REFERENCE = Markup('<span class="nowrap">{}</span>')  # somebody reads it out: it stays on one line


@dataclass(frozen=True, slots=True)
class Words:
    """What a person reads.

    Attributes:
        label: which message in which version: `kept@1`.
        detail: the paragraphs and the way to reach us, as one line of plain text.
        paragraphs: for a page.
    """

    locale: str
    label: str
    title: str
    detail: str
    paragraphs: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class Voice:
    """In whose name and in which words a guard speaks.

    Attributes:
        zone: times in plain text are given in it, with its name; pages show the reader's own.
    """

    catalogue: Catalogue
    shop: Shop
    zone: tzinfo = UTC

    def words(self, answer: Answer, *, locale: str, now: float) -> Words:
        """*answer* in the words of *locale*."""
        message = self.catalogue.message(locale, answer.message)
        text = message.text_for(answer.about.reason, answer.money.value if answer.money else "")
        values = self._values(answer, locale=locale, now=now)
        detail = " ".join(fill(text, values).split())
        contact = fill(self.catalogue.ui(locale)["contact_line"], {"contact": self.contact_line()})
        markup: dict[str, str | Markup | None] = {
            **values,
            "time": self.time(answer.about.next_update_at, locale=locale, now=now),
            "until": self.time(answer.about.ends_at, locale=locale, now=now),
            "reference": _REFERENCE.format(answer.about.reference) if answer.about.reference else None,
        }
        return Words(
            locale=locale,
            label=message.label,
            title=fill(message.title, values),
            detail=f"{detail} {contact}",
            paragraphs=tuple(fill_markup(paragraph, markup) for paragraph in text.split("\n\n")),
        )

    def time(self, at: float | None, *, locale: str, now: float) -> Markup | None:
        """A time for a page: readable as it is, and put into the reader's own zone by the script."""
        if at is None:
            return None
        return Markup('<time datetime="{}">{}</time>').format(iso_time(at), format_time(at, now=now, zone=self.zone, locale=locale))

    def contact(self) -> dict[str, str]:
        """The member `contact`: how to reach the shop, without what it has not given."""
        shop = self.shop
        routes = {"phone": shop.phone, "hours": shop.hours, "email": shop.email, "url": shop.url}
        return {name: route for name, route in routes.items() if route}

    def contact_line(self) -> str:
        """The same in one line: `+44 20 7946 0000 (9-18), help@fern.example`."""
        shop = self.shop
        phone = f"{shop.phone} ({shop.hours})" if shop.phone and shop.hours else shop.phone
        return ", ".join(route for route in (phone, shop.email, shop.url) if route)

    def _values(self, answer: Answer, *, locale: str, now: float) -> dict[str, str | None]:
        about = answer.about
        amount = None
        if about.amount_minor is not None and about.currency:
            amount = format_amount(about.amount_minor, about.currency, locale=locale)

        def time(at: float | None) -> str | None:
            return None if at is None else format_time(at, now=now, zone=self.zone, locale=locale)

        return {
            "shop": self.shop.name,
            "reference": about.reference,
            "amount": amount,
            "minutes": None if about.minutes is None else str(about.minutes),
            "time": time(about.next_update_at),
            "until": time(about.ends_at),
        }


def label_markup(labels: Mapping[str, str], name: str, **values: str | Markup | None) -> Markup:
    """One of the pages' labels, filled and escaped."""
    return fill_markup(labels[name], values) if values else escape(labels[name])
