"""Sessions folded from facts, and the counters that they stand for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxguard.core.census import CENSUS_PREFIX, Counts, Group, Told, census, counter_deltas, read_census
from cxguard.core.message import Message
from cxguard.core.session import (
    EXPOSURES_MAX,
    SHOWN_MAX,
    Basket,
    Bought,
    By,
    Cause,
    Exposed,
    Fact,
    Reached,
    Session,
    Stage,
    fold,
    visit_id,
)
from cxguard.core.session_json import session_from_bytes, session_to_bytes

DECLINED = Message(key="declined", version=2)
BASKET = Basket(amount_minor=4999, currency="EUR", items=2)


def reached(stage: Stage = Stage.PAY, *, at: float = 1.0, basket: Basket | None = BASKET, session: str = "s") -> Reached:
    return Reached(session, stage, at, basket=basket)


def exposed(
    id: str = "x",
    *,
    stage: Stage = Stage.PAY,
    at: float = 2.0,
    message: Message = DECLINED,
    cause: Cause = Cause.ISSUER,
    session: str = "s",
) -> Exposed:
    return Exposed(id=id, session=session, stage=stage, at=at, message=message, cause=cause, by=By.OURS, status=402)


def bought(at: float = 3.0, *, session: str = "s") -> Bought:
    return Bought(session, at, amount_minor=4999, currency="EUR", reference="K7Q2")


def counted(session: Session) -> dict[str, int]:
    return {name.removeprefix(CENSUS_PREFIX): value for name, value in census(session).items()}


times = st.integers(0, 50).map(float)
baskets = st.none() | st.builds(
    Basket, amount_minor=st.none() | st.integers(0, 9999), currency=st.sampled_from(["EUR", "GBP"]), items=st.none() | st.integers(0, 9)
)
labels = st.sampled_from(["", "de", "en", "mobile"])
messages = st.sampled_from([Message(key="declined", version=1), Message(key="unknown", version=1), Message(text="Sorry / 50% “off”")])
facts_of_s: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Reached, st.just("s"), st.sampled_from(Stage), times, baskets, labels, labels, labels),
    st.builds(Bought, st.just("s"), times, st.none() | st.integers(0, 9999), st.sampled_from(["", "EUR"]), st.sampled_from(["", "K7"])),
    st.builds(
        Exposed,
        id=st.uuids().map(str),
        session=st.just("s"),
        stage=st.sampled_from(Stage),
        at=times,
        message=messages,
        cause=st.sampled_from(Cause),
        by=st.sampled_from(By),
        status=st.sampled_from([0, 402, 503]),
        basket=baskets,
        market=labels,
        field_name=st.sampled_from(["", "card"]),
        reference=st.sampled_from(["", "K7"]),
    ),
)


@given(st.lists(facts_of_s, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=400)
def test_order_and_repetition_of_facts_do_not_matter(facts: list[Fact], random: object) -> None:
    """The same facts, shuffled and some of them twice, give the same session."""
    shuffled = facts + facts[:5]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(None, shuffled) == fold(None, facts)


@given(st.lists(facts_of_s, min_size=1, max_size=40), st.integers(1, 6))
def test_deltas_add_up_to_the_census_in_any_number_of_steps(facts: list[Fact], size: int) -> None:
    """Folded in one batch or many, the counters end at what the session stands for, and none of them is below zero."""
    session, total = None, Counter[str]()
    for start in range(0, len(facts), size):
        after = fold(session, facts[start : start + size])
        total.update(counter_deltas(session, after))
        session = after
    assert session is not None
    assert {name: value for name, value in total.items() if value} == {name: value for name, value in census(session).items() if value}
    assert all(value >= 0 for value in census(session).values())


@given(st.lists(facts_of_s, min_size=1, max_size=40))
def test_session_survives_its_bytes(facts: list[Fact]) -> None:
    """What is written is read back as it was."""
    session = fold(None, facts)
    assert session_from_bytes(session_to_bytes(session)) == session


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff", b'{"v":1,"about":[]}', b"[" * 5000])
def test_bytes_that_are_no_session_are_refused(body: bytes) -> None:
    """Anything else than a session raises ValueError, and nothing stranger."""
    with pytest.raises(ValueError):
        session_from_bytes(body)


def test_choices_of_a_newer_version_are_left_out() -> None:
    """A stage, cause or member that this version does not know is skipped; the rest is read."""
    body = session_to_bytes(fold(None, [reached(), exposed("a"), exposed("b", cause=Cause.SLOW)]))
    read = session_from_bytes(body.replace(b'"slow"', b'"haunted"').replace(b'"last_at"', b'"mood":1,"last_at"'))
    assert [exposure.id for exposure in read.exposures] == ["a"]
    assert [shown.cause for shown in read.shown] == [Cause.ISSUER]


def test_fact_of_another_session_is_refused() -> None:
    """Folding a stranger's fact raises, and so does folding nothing into nothing."""
    with pytest.raises(ValueError, match="group facts by session"):
        fold(fold(None, [reached()]), [reached(session="t")])
    with pytest.raises(ValueError, match="at least one fact"):
        fold(None, [])


def test_unexposed_session_is_counted_as_control() -> None:
    """A session without an error counts as reached and unexposed, and as bought once it buys."""
    session = fold(None, [reached(), bought()])
    assert counted(session) == {"reached/pay/sessions": 1, "reached/pay/bought": 1, "unexposed/pay/sessions": 1, "unexposed/pay/bought": 1}


def test_first_error_moves_the_session_from_unexposed_to_exposed() -> None:
    """Meeting an error takes the session out of the control of every stage and puts it among the exposed of this one."""
    before = fold(None, [reached(Stage.CART), reached()])
    deltas = counter_deltas(before, fold(before, [exposed()]))
    message = "message/pay/issuer/ours/declined@2"
    assert {name.removeprefix(CENSUS_PREFIX): delta for name, delta in deltas.items()} == {
        "unexposed/cart/sessions": -1,
        "unexposed/pay/sessions": -1,
        "exposed/pay/sessions": 1,
        "exposed/pay/left/EUR": 4999,
        f"{message}/sessions": 1,
        f"{message}/shown": 1,
        f"{message}/left/EUR": 4999,
    }


def test_recovered_session_takes_its_basket_back() -> None:
    """A purchase after the error counts as bought, and nothing was left behind."""
    before = fold(None, [reached(), exposed()])
    after = fold(before, [bought()])
    deltas = counter_deltas(before, after)
    assert (before.left, after.left, after.recovered) == (True, False, True)
    assert deltas[f"{CENSUS_PREFIX}exposed/pay/bought"] == 1
    assert deltas[f"{CENSUS_PREFIX}exposed/pay/left/EUR"] == -4999


def test_error_after_the_purchase_cannot_have_cost_it() -> None:
    """An error that came after the purchase is counted apart, and the session stays in the control."""
    session = fold(None, [reached(), bought(at=2.0), exposed(stage=Stage.DONE, at=5.0)])
    figures = counted(session)
    assert figures["message/done/issuer/ours/declined@2/after_purchase"] == 1
    assert figures["unexposed/pay/bought"] == 1
    assert not session.recovered
    assert "exposed/done/sessions" not in figures


def test_late_fact_about_an_earlier_error_changes_the_group() -> None:
    """An exposure that is told late but happened before the purchase still counts as before it."""
    session = fold(fold(None, [reached(), bought(at=9.0)]), [exposed(at=4.0)])
    assert session.recovered


def test_same_message_twice_is_one_line_shown_twice() -> None:
    """Two exposures to one message make one line; the same exposure twice counts once."""
    session = fold(None, [exposed("a"), exposed("b", at=7.0), exposed("a")])
    assert [(shown.times, shown.first_at) for shown in session.shown] == [(2, 2.0)]


def test_newest_exposures_are_kept() -> None:
    """Beyond the limit the oldest exposures go, but the count of how often it was shown stays."""
    session = fold(None, [exposed(f"x{at:02}", at=float(at)) for at in range(EXPOSURES_MAX + 5)])
    assert [exposure.at for exposure in session.exposures] == [float(at) for at in range(5, EXPOSURES_MAX + 5)]
    assert session.shown[0].times == EXPOSURES_MAX + 5


def test_messages_of_the_money_step_outlast_others() -> None:
    """When a session met too many different messages, those of the money step stay."""
    letters = [chr(ord("a") + at) for at in range(SHOWN_MAX)]
    others = [exposed(letter, stage=Stage.CART, at=1.0, message=Message(text=f"{letter}{letter}")) for letter in letters]
    session = fold(None, [*others, exposed("z", at=9.0)])
    assert len(session.shown) == SHOWN_MAX
    assert session.shown[0].stage is Stage.PAY


def test_newest_known_basket_counts() -> None:
    """The newest basket with an amount is the one at stake; a newer one without an amount does not erase it."""
    session = fold(
        None, [reached(at=1.0), reached(at=5.0, basket=replace(BASKET, amount_minor=700)), reached(at=9.0, basket=Basket(items=1))]
    )
    assert session.basket == replace(BASKET, amount_minor=700)


def test_counters_are_read_back_into_groups() -> None:
    """Groups, messages with slashes and quotes, and money by currency come out as they went in; unknown names do not hurt."""
    text = Message(text='Sorry / 50% off " today')
    one = fold(None, [reached(), exposed(message=text), exposed("y", stage=Stage.CART, at=1.5)])
    other = fold(None, [reached(session="t"), bought(session="t")])
    counters = Counter(
        {f"{CENSUS_PREFIX}message/pay/haunted/ours/boo/sessions": 3, f"{CENSUS_PREFIX}unfolded/pay": 2, f"{CENSUS_PREFIX}x": 1}
    )
    counters.update(census(one))
    counters.update(census(other))
    found = read_census(counters)
    assert found.reached[Stage.PAY] == Counts(2, 1)
    assert found.unexposed == {Stage.PAY: Counts(1, 1)}
    assert found.exposed[Stage.PAY].left_minor == {"EUR": 4999}
    message = found.messages[Told(Stage.PAY, Cause.ISSUER, By.OURS, text)]
    assert (message.shown, message.left_minor) == (1, {"EUR": 4999})
    assert len(found.messages) == 2


def test_a_message_after_the_purchase_is_counted_apart() -> None:
    """It is in none of the other figures, and a group without a figure has none."""
    late = census(fold(None, [reached(), bought(at=5.0), exposed(at=9.0)]))
    assert read_census(late).messages == {Told(Stage.PAY, Cause.ISSUER, By.OURS, exposed().message): Group(shown=1, after_purchase=1)}
    only = {f"{CENSUS_PREFIX}exposed/pay/left/EUR": 5, f"{CENSUS_PREFIX}exposed/cart/sessions": 2, f"{CENSUS_PREFIX}left/EUR": 7}
    found = read_census(only)
    assert found.exposed == {Stage.PAY: Group(left_minor={"EUR": 5}), Stage.CART: Group(Counts(2, 0))}
    assert found.messages == {}


def test_a_name_with_a_percent_sign_comes_back() -> None:
    """Also one that looks like an escape."""
    for message in (Message(text="50%2F off / 3%25"), Message(key="half%2Foff", version=3)):
        found = read_census(census(fold(None, [exposed(message=message)])))
        assert [told.message for told in found.messages] == [message]


def test_visit_is_a_visitors_day() -> None:
    """Requests of one day share a visit; the next day's are another."""
    assert visit_id("v", 86_400.0) == visit_id("v", 172_799.9) != visit_id("v", 172_800.0)
