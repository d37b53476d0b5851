"""The message catalogue: whole in every locale, honest, and open to a shop's own texts."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest

from cxguard.core.answer import SPECS, AnswerSpec, MoneyTold, Situation
from cxguard.core.honesty import with_overrides
from cxguard.errors import ConfigurationError
from cxguard.render.messages.catalogue import FALLBACK, SHIPPED, Catalogue, load_catalogue

CATALOGUE = load_catalogue()
OTHERS = [locale for locale in SHIPPED if locale != FALLBACK]


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("locale", SHIPPED)
@pytest.mark.parametrize("situation", Situation)
def test_every_locale_has_every_message(locale: str, situation: Situation) -> None:
    """Title, text and version are there for each situation."""
    message = CATALOGUE.message(locale, SPECS[situation].message)
    assert message.title
    assert message.text
    assert message.version >= 1
    assert message.label == f"{situation.value}@{message.version}"


@pytest.mark.parametrize("locale", OTHERS)
@pytest.mark.parametrize("situation", Situation)
def test_translations_say_as_much(locale: str, situation: Situation) -> None:
    """A translation has the variants, the placeholders and the number of paragraphs of the English text."""
    ours, other = (CATALOGUE.message(name, situation.value) for name in (FALLBACK, locale))
    assert ours.variants.keys() == other.variants.keys()
    assert ours.version == other.version
    for said, translated in [(ours.text, other.text), *((ours.variants[key], other.variants[key]) for key in ours.variants)]:
        assert placeholders(said) == placeholders(translated)
        assert said.count("\n\n") == translated.count("\n\n")


@pytest.mark.parametrize("locale", OTHERS)
def test_labels_are_translated_with_their_placeholders(locale: str) -> None:
    """Every label of the pages is there in each locale, with the same placeholders."""
    ours, other = CATALOGUE.ui(FALLBACK), CATALOGUE.ui(locale)
    assert ours.keys() == other.keys()
    assert {name: placeholders(text) for name, text in ours.items()} == {name: placeholders(text) for name, text in other.items()}


@pytest.mark.parametrize(
    ("situation", "phrases"),
    [
        (Situation.UNKNOWN, ["do not know yet", "do not pay again", "charged twice", "without your asking"]),
        (
            Situation.KEPT,
            ["our fault", "is saved", "not been charged", "not confirmed yet", "by {until}", "not order again", "cancel"],
        ),
        (Situation.DECLINED, ["bank did not approve", "not been charged", "basket is kept", "another card", "ask your bank"]),
        (Situation.PAID_UNFINISHED, ["payment for order {reference} has gone through", "completing it", "not order or pay again"]),
        (Situation.HELD, ["person", "will not be charged twice"]),
        (Situation.NOT_KEPT, ["our fault", "have not been charged", "basket is kept"]),
        (Situation.SPOOLED, ["is saved", "submission charged nothing", "If you tried to pay before", "do not pay again"]),
        (Situation.DUPLICATE, ["looks like order {reference}", "confirm"]),
    ],
)
def test_the_words_that_each_text_owes(situation: Situation, phrases: list[str]) -> None:
    """The English texts say what the table promises."""
    text = CATALOGUE.message("en", situation.value).text.replace("**", "")
    for phrase in phrases:
        assert phrase in text


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-CH", "de"),
        ("FR-ca;q=0.9, en;q=0.8", "fr"),
        ("en;q=0.1, de;q=0.2", "de"),
        ("it, es;q=0.5", "en"),
        ("it, de;q=0.5", "de"),
        ("de;q=0, fr;q=0.1", "fr"),
        ("*", "en"),
        ("de;q=nonsense", "en"),
        (",;=\x00" * 1000, "en"),
    ],
)
def test_the_locale_follows_accept_language(header: str, locale: str) -> None:
    """The best match of the header is used, English when there is none."""
    assert CATALOGUE.choose(header) == locale


def own(text: str, *, key: str = "kept", **more: Any) -> dict[str, Any]:
    return {"en": {key: {"version": 101, "text": text, **more}}}


def test_a_shops_own_text_takes_the_place_of_ours() -> None:
    """An own text replaces ours with all its variants; the title stays unless it is given."""
    catalogue = load_catalogue(own("Order {reference}: we have it. Please ask {shop}.", key="held"))
    message = catalogue.message("en", "held")
    assert message.text_for("charged") == "Order {reference}: we have it. Please ask {shop}."
    assert message.title == CATALOGUE.message("en", "held").title
    assert message.label == "held@101"
    assert catalogue.message("de", "held") == CATALOGUE.message("de", "held")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"en": {"kept": {"text": "Order {reference}."}}}, "the en text of kept has no version: add version = 101"),
        (own("We have your order."), "the en text of kept does not name the order: add {reference}"),
        (
            own("Order {reference} by {time}."),
            "has {time}, which is not always known: write [[ ... {time} ...]] around it",
        ),
        (
            own("Order {reference} of {customer}."),
            "has {customer}: there are only amount, minutes, reference, shop, time, until",
        ),
        (own("Order {reference}. " + "x" * 2000), "a message has at most 2000"),
        (own("Order {reference}. Thank you for your payment."), "it is not known that the shopper has paid"),
        (own("Order {reference} is held.", key="unknown"), "does not say that one must not pay again"),
        (own("Order {reference}. No payment has been taken.", key="unknown"), "it is not known that nothing was charged"),
        (own("Order {reference}.", title="Payment declined"), "only the shopper's bank declines"),
        (own("Order {reference}.", text_blue="x"), "has text_blue, which is never used"),
        ({"it": {}}, "the locale it has no label"),
        ({"en": {"kept": {"version": True, "text": "Order {reference}."}}}, "version"),
        (5, "messages=int is no folder and no texts: write Guard(..., messages="),
        ({"en": None}, "the texts of 'en' in messages= are no table of messages: write"),
        ({"en": {"kept": "Order {reference}."}}, "the en text of kept in messages= is no table: write"),
        ({"en": {"kep": {}}}, "there is no message 'kep', as in the en texts: "),
        ({"en": {"ui": {"contact_line": 5}}}, "the label 'contact_line' of the locale en is no text: write contact_line = "),
    ],
)
def test_a_text_that_will_not_do_is_refused(texts: Any, said: str) -> None:
    """A text without a version, without the reference, or with a claim too many stops the program."""
    with pytest.raises(ConfigurationError) as refused:
        load_catalogue(texts)
    assert said in str(refused.value)


def test_texts_come_from_a_folder_too(tmp_path: Path) -> None:
    """A folder of TOML files shaped like ours does the same as a mapping."""
    (tmp_path / "en.toml").write_text('[messages.cancelled]\nversion = 7\ntitle = "Gone"\ntext = "Order {reference} is gone."\n')
    message = load_catalogue(tmp_path).message("en", "cancelled")
    assert (message.title, message.version) == ("Gone", 7)


@pytest.mark.parametrize(("content", "said"), [(None, "there is no text in"), ("not toml", "cannot be read as TOML")])
def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """An empty folder or a broken file is named."""
    if content:
        (tmp_path / "en.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        load_catalogue(tmp_path)


def test_a_new_locale_has_to_be_whole() -> None:
    """A locale of the shop's own with every message and label is chosen like ours."""
    english = CATALOGUE.messages["en"]
    whole = {key: {"version": 1, "title": message.title, "text": message.text} for key, message in english.items()}
    catalogue = load_catalogue({"it": {**whole, "ui": dict(CATALOGUE.ui("en"))}})
    assert catalogue.choose("it-IT") == "it"
    with pytest.raises(ConfigurationError, match="the locale it has no message 'placed'"):
        load_catalogue({"it": {"ui": dict(CATALOGUE.ui("en"))}})


def test_a_row_with_words_of_its_own_needs_them() -> None:
    """A message key that the shop invented has to be in every locale, and is held to the truth of its situation."""
    specs = with_overrides({Situation.UNKNOWN: AnswerSpec(409, MoneyTold.UNKNOWN, True, False, "our_unknown", "unknown")})
    with pytest.raises(ConfigurationError, match="has no message 'our_unknown'"):
        load_catalogue(specs=specs)
    text = {"version": 1, "title": "Wait", "text": "Order {reference}: no payment has been taken."}
    with pytest.raises(ConfigurationError, match="it is not known that nothing was charged"):
        load_catalogue({locale: {"our_unknown": text} for locale in SHIPPED}, specs=specs)


def test_texts_use_nothing_that_a_browser_would_read_as_markup() -> None:
    """No text relies on HTML."""
    assert isinstance(CATALOGUE, Catalogue)
    for messages in CATALOGUE.messages.values():
        for message in messages.values():
            assert not set("<>&") & set("".join((message.title, message.text, *message.variants.values())))
            assert not [field for _, field, _, _ in string.Formatter().parse(message.title) if field]
