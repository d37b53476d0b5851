"""Damaged records: whatever stands in a store's bytes, reading it breaks nothing, and nobody reckons with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuzz_budget import thrown
from hypothesis import given
from hypothesis import strategies as st
from shopworld import KEYS

from cxguard.cli.order_views import order_json
from cxguard.core.consent import Consent
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import RECORD_VERSION, Entry, NoticeLine, Operation, Step, WaitingFor, changed, money_of
from cxguard.core.reading import HandlerAnswer
from cxguard.core.snapshot import Snapshot
from cxguard.engine.cold import open_answer, seal_answer
from cxguard.errors import SealError
from cxguard.seal import Seal
from cxguard.stores.codec import decode_body, decode_note, encode_body, encode_note
from cxguard.testing.contract.base import charge_send, charged_note, sample

FULL = sample(
    sends=(charge_send(),),
    steps=(Step("mail", 1, "ab", 1.0, 2.0, b"result"),),
    history=(Entry(1.0, "payment.sent", "h", {"gateway": "g"}),),
    notices=(NoticeLine("accepted", 1, 1.0),),
    consent=Consent("1", 1.0, 2.0, 100, "EUR"),
    waiting_for=WaitingFor.AGENT,
    why="charge_unknown",
    give_up_at=5.0,
)
BODY = encode_body(FULL)
NOTES = [encode_note(charged_note()), encode_note(Note("e", NoteKind.CANCEL, 1.0, "shopper", generation=1))]
HEAD = {name: getattr(FULL, name) for name in ("id", "namespace", "rule", "reference", "state", "created_at", "updated_at")}

odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none(), max_size=2) | st.just({})
spans = st.tuples(st.integers(0, 10_000), st.integers(0, 8), st.text(alphabet='{}[]",:0e-NaI\\u \x00é', max_size=6))


def spoilt(text: str, span: tuple[int, int, str]) -> str:
    """Some letters of *text* are others."""
    at, length, instead = span
    at %= len(text) + 1
    return text[:at] + instead + text[at + length :]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside of *value*."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in inside for place in places(one, (*path, name)))]


def with_odd(text: str, path: tuple[Any, ...], value: Any) -> str:
    """The same JSON with another value in one place."""
    whole = json.loads(text)
    at = whole
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(whole)


def assert_readable(body: str, notes: tuple[str, ...] = ()) -> None:
    """It becomes a record with which everybody can go on: the money is reckoned, the order shown."""
    read = Operation(**{**HEAD, **decode_body(body), "notes": tuple(map(decode_note, notes))})
    money_of(read)
    json.dumps(order_json(read, whole=True), default=str)
    if read.version == RECORD_VERSION:
        again = Operation(**{**HEAD, **decode_body(encode_body(read)), "notes": read.notes})
        assert again == read, "what is worked on can be written again"


@thrown(300)
@given(spans, spans)
def test_a_spoilt_body_is_a_record_all_the_same(first: tuple[int, int, str], second: tuple[int, int, str]) -> None:
    """Letters changed, lost or put in: never an error, and what cannot be read is left alone."""
    assert_readable(spoilt(spoilt(BODY, first), second), (spoilt(NOTES[0], first), NOTES[1]))


@thrown(300)
@given(spans)
def test_a_spoilt_body_is_never_another_record(span: tuple[int, int, str]) -> None:
    """Letters changed, lost or put in, in one place: damage, or as it was."""
    text = spoilt(BODY, span)
    read = Operation(**{**HEAD, **decode_body(text)})
    assert read.why == "unreadable" or changed(read, extra={}) == Operation(**{**HEAD, **decode_body(BODY)})


@thrown(300)
@given(st.sampled_from([path for path in places(json.loads(BODY)) if path]), odd)
def test_a_member_of_another_kind_is_damage(path: tuple[Any, ...], value: Any) -> None:
    """JSON it is, and a number stands where a text was: shown, and never reckoned with."""
    assert_readable(with_odd(BODY, path, value))


@thrown(150)
@given(st.sampled_from([path for path in places(json.loads(NOTES[0])) if path]), odd)
def test_a_note_of_another_kind_is_still_a_note(path: tuple[Any, ...], value: Any) -> None:
    """A fact that cannot be read keeps nobody from the record, and tells nothing of the money."""
    assert_readable(BODY, (with_odd(NOTES[0], path, value), NOTES[1]))


MONSTERS = ["[" * 200_000, '{"a":' * 100_000, "1" * 10_000, '{"owner":"o","fingerprint":"f","attempts":1e999}', "\ud800"]


@pytest.mark.parametrize("text", MONSTERS, ids=["lists", "objects", "a number", "an infinity", "half a letter"])
def test_a_monstrous_body_is_unreadable(text: str) -> None:
    """Nested without end, or a number that is none: left alone, like any other damage."""
    assert decode_body(text)["why"] == "unreadable"
    assert decode_note(text).text == "unreadable"


def test_a_body_without_its_owner_is_damage() -> None:
    """A record of nobody would be anybody's."""
    for name in ("owner", "fingerprint"):
        assert decode_body(BODY.replace(f'"{name}"', f'"{name[::-1]}"'))["why"] == "unreadable"


@thrown(200)
@given(st.integers(0, 10_000), st.integers(1, 255), st.sampled_from(["flip", "cut", "grow"]))
def test_spoilt_seals_are_said_to_be_so(at: int, flip: int, how: str) -> None:
    """No byte of a sealed part can change unseen; the error is ours, and says what to do."""
    seal = Seal(KEYS)
    sealed = bytearray(seal_answer(seal, FULL, HandlerAnswer(200, body=b"thank you")))
    at %= len(sealed)
    match how:
        case "flip":
            sealed[at] ^= flip
        case "cut":
            del sealed[at:]
        case "grow":
            sealed[at:at] = bytes([flip])
    if sealed:
        with pytest.raises(SealError, match=r"restore|put that key back"):
            open_answer(seal, Operation(**{**vars(FULL), "answer": bytes(sealed)}))


@thrown(200)
@given(st.integers(0, 10_000), st.binary(max_size=5))
def test_a_spoilt_snapshot_is_a_value_error(at: int, instead: bytes) -> None:
    """What a newer version wrote, or nobody: one kind of error, for whoever opens it."""
    kept = Snapshot("POST", "/pay", "a=b", (("content-type", "application/json"),), b'{"a":1}').to_bytes()
    at %= len(kept) + 1
    try:
        read = Snapshot.from_bytes(kept[:at] + instead + kept[at + len(instead) :])
    except ValueError:
        return
    assert read.header("content-type") is None or isinstance(read.body, bytes)
