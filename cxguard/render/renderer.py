"""One door to all of it: an answer, or the status of an order, in the form and the language that the request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from pathlib import Path

from cxguard.core.answer import SPECS, Answer, AnswerSpec, Audience, Medium, Situation, Telling, answer_for, status_for
from cxguard.core.operation import Operation
from cxguard.render.assets import render_asset
from cxguard.render.graphql import render_graphql
from cxguard.render.html import Confirm, render_html, render_status_html, render_status_json
from cxguard.render.json import render_json
from cxguard.render.messages.catalogue import Texts, load_catalogue
from cxguard.render.rendered import Rendered
from cxguard.render.status import Extras, status_view
from cxguard.render.words import Voice, Words
from cxguard.rules.shop import Shop

_ACCEPT_LANGUAGE_CHARS_MAX = 1_000  # of the header; a browser's is a tenth of it


class Renderer:
    """Speaks for one shop. Made once, when the program starts, and shared by all requests.

    Args:
        texts: the shop's own messages: by locale, or a folder of TOML files shaped like ours.
        prefix: under which the status pages and their assets are served.
        zone: of the times in plain text; pages show the reader's own.
        specs: the answer table in use.

    Raises:
        ConfigurationError: a text is missing or says what is not known.
    """

    def __init__(
        self,
        shop: Shop,
        *,
        texts: Texts | Path | str | None = None,
        prefix: str = "/_cxguard",
        zone: tzinfo = UTC,
        specs: Mapping[Situation, AnswerSpec] = SPECS,
    ) -> None:
        self.voice = Voice(load_catalogue(texts, specs=specs), shop, zone)
        self.prefix = prefix
        self.specs = specs

    def locale(self, accept_language: str) -> str:
        """The locale that a request's `Accept-Language` gets."""
        return self.voice.catalogue.choose(accept_language[:_ACCEPT_LANGUAGE_CHARS_MAX])

    def words(self, answer: Answer, *, accept_language: str, now: float) -> Words:
        """*answer* in words: for logs of what was shown, and for e-mails."""
        return self.voice.words(answer, locale=self.locale(accept_language), now=now)

    def render(
        self,
        answer: Answer,
        telling: Telling,
        *,
        accept_language: str = "",
        now: float,
        confirm: Confirm | None = None,
        field: str | None = None,
        code: str = "",
        root: str = "",
    ) -> Rendered:
        """The response that tells *answer* as *telling* says.

        Args:
            confirm: for a duplicate that came as an urlencoded form: see `confirm_form`.
            field, code: for GraphQL: see `render_graphql`.
            root: the `root_path` under which the app is served.
        """
        words = self.words(answer, accept_language=accept_language, now=now)
        status = status_for(answer, telling)
        match telling.medium:
            case Medium.HTML if telling.audience is Audience.SHOPPER:
                return render_html(answer, words, voice=self.voice, prefix=root + self.prefix, status=status, confirm=confirm)
            case Medium.JSON | Medium.HTML:  # a machine is never shown a page
                return render_json(answer, words, voice=self.voice, status=status)
            case Medium.GRAPHQL:
                return render_graphql(answer, words, voice=self.voice, status=status, field=field, code=code)

    def status(
        self,
        operation: Operation,
        *,
        medium: Medium,
        status_url: str,
        accept_language: str = "",
        now: float,
        extras: Extras | None = None,
        root: str = "",
    ) -> Rendered:
        """The status page of *operation*, or its JSON."""
        view = status_view(
            operation,
            voice=self.voice,
            locale=self.locale(accept_language or operation.locale),
            now=now,
            status_url=status_url,
            extras=extras,
            specs=self.specs,
        )
        if medium is Medium.HTML:
            return render_status_html(view, voice=self.voice, prefix=root + self.prefix)
        return render_status_json(view, voice=self.voice)

    def no_such_order(self, *, medium: Medium, accept_language: str = "", now: float, root: str = "") -> Rendered:
        """The one answer to an unknown, an expired and a forged status link."""
        answer = answer_for(Situation.NO_SUCH_ORDER, specs=self.specs)
        return self.render(answer, Telling(medium), accept_language=accept_language, now=now, root=root)

    def asset(self, name: str) -> Rendered | None:
        """The response for `{prefix}/assets/{name}`; None: there is none of that name."""
        return render_asset(name)
