"""A record's body survives being written, also when somebody else wrote it."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import RECORD_VERSION, Operation, WaitingFor
from cxguard.core.outcomes import Unknown
from cxguard.stores.codec import HEAD, SUM, decode_body, decode_note, encode_body, encode_note
from cxguard.testing.contract.base import charge_send, charged_note, sample
from cxguard.testing.contract.saving import everything


def decoded(operation: Operation, text: str) -> Operation:
    head = {name: getattr(operation, name) for name in HEAD}
    return Operation(**{**head, **decode_body(text)})


@pytest.mark.parametrize("operation", [sample(), everything(sample())])
def test_body_comes_back(operation: Operation) -> None:
    """A record, bare or full, is the same after writing and reading."""
    assert decoded(operation, encode_body(operation)) == operation


def test_every_member_is_in_the_head_or_in_the_body() -> None:
    """A member that is added to the record later is kept without anybody thinking of the codec."""
    names = {field.name for field in fields(Operation)}
    assert names >= HEAD
    assert set(json.loads(encode_body(everything(sample())))) <= names - HEAD - {"extra"} | {"of_tomorrow", SUM}


def test_defaults_are_not_written() -> None:
    """A new record's body is short: only what differs, and the sum."""
    assert set(json.loads(encode_body(sample()))) == {"owner", "fingerprint", SUM}


def test_unknown_members_survive() -> None:
    """What a newer cxguard wrote is kept in `extra`, and written again beside what we know."""
    read = decoded(sample(), '{"owner":"o","fingerprint":"f","of_tomorrow":[1]}')
    assert read.extra == {"of_tomorrow": [1]}
    assert json.loads(encode_body(replace(read, why="changed")))["of_tomorrow"] == [1]


def test_extra_never_hides_a_member() -> None:
    """A name in `extra` that is a member's own is not written: the member stands."""
    assert json.loads(encode_body(sample(extra={"owner": "mine", "id": "x"})))["owner"] == "owner"


def test_sum_is_no_member() -> None:
    """Neither of a record that is read, nor of the next body: there it would be of other letters."""
    for text in (encode_body(sample()), '{"sum":"of a cxguard that made none","owner":"o","fingerprint":"f"}'):
        read = decoded(sample(), text)
        assert read.extra == {}
        assert decoded(sample(), encode_body(read)) == read


@pytest.mark.parametrize("name", ["sends", "amount_minor", "steps", "generation", "of_tomorrow"])
def test_spoilt_name_is_damage(name: str) -> None:
    """One letter of a member's name: it would read as a record without it, that never charged, or never began a step."""
    text = encode_body(replace(everything(sample()), generation=2))
    assert f'"{name}"' in text
    assert decoded(sample(), text.replace(f'"{name}"', f'"{name[:-1]}~"')).why == "unreadable"


def test_spoilt_digit_is_damage() -> None:
    """An amount that nobody asked for is never sent."""
    text = encode_body(sample(sends=(charge_send(),)))
    assert decoded(sample(), text.replace("4999", "4998")).why == "unreadable"


def test_choices_of_a_newer_version_read_as_the_careful_one() -> None:
    """An unknown reason to wait goes to a person, an unknown kind of send counts as a charge without an answer."""
    body = json.loads(encode_body(sample(waiting_for=WaitingFor.SHOPPER, sends=(charge_send(),))))
    body["waiting_for"] = body["sends"][0]["kind"] = "tomorrow"
    read = decoded(sample(), json.dumps(body))
    assert read.waiting_for is WaitingFor.AGENT
    assert (read.sends[0].kind, type(read.sends[0].outcome)) == (SendKind.CHARGE, Unknown)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"sends":7}', '{"sends":[{}]}', '{"history":[[]]}', '{"steps":[null]}'])
def test_unreadable_body_is_shown_and_never_leased(text: str) -> None:
    """A damaged body reads as a record of a newer version: on view, with its reason, and left alone."""
    read = decoded(sample(), text)
    assert (read.why, read.version, read.id) == ("unreadable", RECORD_VERSION + 1, sample().id)


def test_note_comes_back() -> None:
    """A note is the same after writing and reading, whatever its text."""
    for note in (charged_note(), Note("e", NoteKind.CANCEL, 1.5, "shopper", text="\ud800 é \x00", generation=2)):
        assert decode_note(encode_note(note)) == note


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind":"outcome"}'])
def test_unreadable_note_is_still_a_note(text: str) -> None:
    """A damaged note is not lost from sight."""
    assert decode_note(text).text == "unreadable"


@pytest.mark.parametrize("name", [field.name for field in fields(Note)])
def test_spoilt_name_in_a_note_is_damage(name: str) -> None:
    """A fact that has lost a member tells of something else: of no key, or of nothing."""
    text = encode_note(charged_note())
    assert decode_note(text.replace(f'"{name}":', f'"{name[:-1]}~":')).text == "unreadable"
