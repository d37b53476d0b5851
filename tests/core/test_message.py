"""What an error said, without what a person typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.message import TEXT_MAX, TYPED_MAX, Message, clean_label, clean_text, message_of

RISKY = st.text(alphabet=st.sampled_from(list("ab1 9-@.\"'“”«»`#…é１漢\n\u202e")), max_size=300)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Your card was declined.", "Your card was declined."),
        ("Card 4111 1111 1111 1111 is not valid", "Card # is not valid"),
        ("Order K7Q2-99X failed, call +44 20 7946 0000", "Order # failed, call +#"),
        ("１２３ is full-width", "# is full-width"),
        ("Mail ann.lee+shop@fern.example is taken", "Mail … is taken"),
        ("The name “Ann Lee” is too short", "The name … is too short"),
        ("Field 'Ann' is wrong, isn't it", "Field … is wrong, isn't it"),
        ("a\tb\r\n  c\x00d", "a b c d"),
        ("pay\u202egpj.exe", "paygpj.exe"),
        ("a\u2028b\u2029c", "a b c"),
        ("a\ud800b\ue000c\u0378d", "abcd"),
        ("", ""),
    ],
)
def test_text_keeps_words_and_loses_data(text: str, cleaned: str) -> None:
    """Digits, e-mail addresses, quoted parts and invisible characters go; the sentence stays."""
    assert clean_text(text) == cleaned


def test_typed_values_are_cut_out_as_whole_words() -> None:
    """A value of the request is removed wherever it stands as a word, in any case; a longer word that holds it stays."""
    assert clean_text("Sorry ANN LEE, Annabel's address Rose Lane is unknown", ["Ann Lee", "Rose Lane", "Ann", "x"]) == (
        "Sorry …, Annabel's address … is unknown"
    )


@pytest.mark.parametrize(
    ("text", "typed", "cleaned"),
    [
        ("Sorry Ann Lee", ["Lee", "Ann Lee"], "Sorry …"),  # the longer one first, or a part of it is left
        ("Sorry Bo, pay by x or y", ["Bo", "x"], "Sorry …, pay by x or y"),
        ("No such street: Rose+*+Lane", ["Rose * Lane"], "No such street: …"),
        ("No such street: Rose%2FLane%20Nord", ["Rose/Lane Nord"], "No such street: …"),
        ("No such street: Rose/Lane%20Nord", ["Rose/Lane Nord"], "No such street: …"),
        ("Sorry Kraak\\u00f8y is unknown", ["Kraakøy"], "Sorry … is unknown"),
    ],
)
def test_a_typed_value_goes_whole(text: str, typed: list[str], cleaned: str) -> None:
    """However it is written, the longest first; a single letter is part of every word."""
    assert clean_text(text, typed) == cleaned


def test_of_too_many_typed_values_the_longest_are_looked_for() -> None:
    """They say most about whoever typed them."""
    assert clean_text("Sorry Ann Rosamunde", [f"v{chr(97 + n % 26)}{n}" for n in range(TYPED_MAX + 9)] + ["Ann Rosamunde"]) == "Sorry …"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("word " * 39 + "words", "word " * 39 + "words"),
        ("word " * 60, "word " * 39 + "word…"),
        ("word " * 39 + "abX# " + "word", "word " * 39 + "abX…"),
    ],
)
def test_a_long_text_is_cut_with_a_mark(text: str, cleaned: str) -> None:
    """At two hundred characters, and with no other mark before that one."""
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    "quoted",
    [
        "street=Rose+Lane+Kraak%C3%B8y&to=ann%40leak.example",  # the body of a form
        "street=Rose%20Lane%20Kraak%C3%B8y&to=ann%40leak.example",  # a query
        '{"street": "Rose Lane Kraak\\u00f8y", "to": "ann@leak.example"}',  # JSON
        "street=Rose+Lane+Kraak%c3%b8y&to=ann%40leak.example",
    ],
)
def test_typed_values_are_cut_out_however_they_are_written(quoted: str) -> None:
    """A page that quotes the whole form as it came, or a service's answer with the query in it."""
    cleaned = clean_text(f"Not valid: {quoted}", ["Rose Lane Kraakøy", "ann@leak.example"])
    assert not any(word in cleaned.lower() for word in ("rose", "lane", "kraak", "ann", "leak"))


@given(RISKY)
def test_cleaning_is_bounded_digit_free_and_changes_nothing_the_second_time(text: str) -> None:
    """However odd the text: at most 200 characters, no digit, and cleaning it again gives the same."""
    cleaned = clean_text(text)
    assert len(cleaned) <= TEXT_MAX
    assert not any(char.isdigit() for char in cleaned)
    assert clean_text(cleaned) == cleaned


@given(RISKY, st.integers(0, 99))
def test_label_reads_back_as_the_message(text: str, version: int) -> None:
    """A message's label names it fully, ours and the shop's."""
    for message in (Message(text=text), Message(key="payment.declined", version=version), Message(key="a@b", version=version)):
        assert message_of(message.label) == message


def test_a_label_that_is_none_of_ours_is_a_name_all_the_same() -> None:
    """One of an older version, or of nobody."""
    assert message_of("declined") == Message(key="declined")
    assert message_of("mail@shop") == Message(key="mail", version=0)


def test_a_message_holds_no_data_whoever_makes_it() -> None:
    """Its text is cleaned, and its key is short."""
    message = Message(key="k" * 90, text="Card 4111 1111 1111 1111 is not valid")
    assert (message.key, message.text) == ("k" * 80, "Card # is not valid")


def test_label_of_device_is_short_and_printable() -> None:
    """Market, language and device names are cut to 32 printable characters."""
    assert clean_label("  mobile\n\u200bphone " + "x" * 99) == ("mobile phone " + "x" * 99)[:32]


def test_a_short_value_among_many_is_cut_out() -> None:
    """A form of hundreds of fields hides nobody's first name behind its longer values."""
    typed = [f"a much longer value, number {number}" for number in range(500)] + ["Ann"]
    assert clean_text("Sorry Ann, this card cannot be used", typed) == "Sorry …, this card cannot be used"


def test_a_value_is_cut_out_however_its_letters_are_composed() -> None:
    """The page may write one letter where the form sent a letter and an accent, or an invisible mark."""
    assert clean_text("Sorry Jos\u00e9", ["Jose\u0301"]) == "Sorry …"
    assert clean_text("Sorry Ann", ["An\u200bn"]) == "Sorry …"
