"""What hints are called, and when a process may rely on them."""

from __future__ import annotations

import pytest

from cxguard.core.hints import (
    DUE_SOON_SECONDS,
    ECHO_LATE_SECONDS,
    ECHO_SECONDS,
    about,
    are_known_to_come,
    awaited_topic,
    breakers_topic,
    due_in,
    due_topic,
    echo_topic,
    news_topic,
)
from cxguard.stores.base import TOPIC_CHARS_MAX

NOW = 1_000.0
ID = "f" * 64


@pytest.mark.parametrize(
    ("due_at", "told"),
    [
        (None, None),
        (NOW - 60.0, 0.0),
        (NOW, 0.0),
        (NOW + 1.5, NOW + 1.5),
        (NOW + 1.51, NOW + 1.6),
        (NOW + DUE_SOON_SECONDS, NOW + DUE_SOON_SECONDS),
        (NOW + DUE_SOON_SECONDS + 0.1, None),
    ],
)
def test_what_is_due_soon_is_told_with_its_time(due_at: float | None, told: float | None) -> None:
    """At once is nought; what is due later, or never, is not worth a word."""
    topic = due_topic("shop", due_at, NOW)
    assert (due_in(topic, "shop") if topic is not None else None) == told


@pytest.mark.parametrize("namespace", ["shop", "Blumen & Töpfe", "a@b:c", "x" * 500])
def test_any_namespace_makes_a_topic(namespace: str) -> None:
    """Printable ASCII, short enough, and understood by its own namespace alone."""
    for topic in (breakers_topic(namespace), echo_topic(namespace), due_topic(namespace, NOW + 1.0, NOW)):
        assert topic is not None
        assert topic.isascii() and topic.isprintable() and len(topic) <= TOPIC_CHARS_MAX
    topic = due_topic(namespace, NOW + 1.0, NOW) or ""
    assert (due_in(topic, namespace), due_in(topic, "other")) == (NOW + 1.0, None)


def test_a_name_is_written_as_it_is_where_it_can_be() -> None:
    """Up to 150 characters; what stands between names, and what is not ASCII, is escaped."""
    assert breakers_topic("a-shop/b_1!") == "breakers:a-shop/b_1!"
    assert breakers_topic("a@b:c") == "breakers:a%40b%3Ac"
    assert breakers_topic("x" * 500) == "breakers:" + "x" * 150


@pytest.mark.parametrize("topic", ["", "queue:shop", "breakers:shop", "queue:other@0", "queue", "news:queue:shop@0"])
def test_a_topic_about_something_else_tells_of_no_order(topic: str) -> None:
    """Also one that an older version, or somebody else, announces."""
    assert due_in(topic, "shop") is None


def test_a_time_that_is_none_is_at_once() -> None:
    """A look too many costs little; one too few costs a shopper's time."""
    assert due_in("queue:shop@soon", "shop") == 0.0


@pytest.mark.parametrize(
    ("topic", "word", "id"),
    [
        (awaited_topic(ID), "awaited", ID),
        (news_topic(ID), "news", ID),
        (news_topic(ID), "awaited", None),
        ("news:a:b", "news", "a:b"),
        ("news", "news", None),
        ("", "news", None),
    ],
)
def test_a_topic_names_its_operation(topic: str, word: str, id: str | None) -> None:
    """By the word that it begins with."""
    assert about(topic, word) == id


@pytest.mark.parametrize(
    ("heard_at", "known"),
    [(None, False), (NOW, True), (NOW - ECHO_SECONDS - ECHO_LATE_SECONDS, True), (NOW - ECHO_SECONDS - ECHO_LATE_SECONDS - 0.1, False)],
)
def test_hints_are_known_to_come_while_one_was_heard_lately(heard_at: float | None, known: bool) -> None:
    """The own echo comes every few seconds; without it, nothing is known."""
    assert are_known_to_come(heard_at, NOW) is known
