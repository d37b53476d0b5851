"""The cases, and what each has to end like. Pure: answers and a count of charges in, broken promises out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cxguard.testing.answers import Answer, Says, differences


class Case(StrEnum):
    """What happens to one purchase. In every case the gateway charges when it is first asked."""

    TWICE_AT_ONCE = "twice_at_once"
    TWICE_AFTERWARDS = "twice_afterwards"
    RAISED = "raised"
    ANSWER_LOST = "answer_lost"
    CLIENT_GONE = "client_gone"
    DROPPED = "dropped"
    KILLED = "killed"


STORIES = {
    Case.TWICE_AT_ONCE: "a double click: the second press comes while the first is being charged",
    Case.TWICE_AFTERWARDS: "the button is pressed again when the answer is there",
    Case.RAISED: "the gateway charged, then the call to it raised",
    Case.ANSWER_LOST: "the gateway charged, and its answer never came",
    Case.CLIENT_GONE: "the client went away while the gateway was charging",
    Case.DROPPED: "the gateway charged, then the shop's task was cancelled, as by a server that stops",
    Case.KILLED: "the gateway charged, then the shop's process was killed, and started again",
}

UNTROUBLED = frozenset({Case.TWICE_AT_ONCE, Case.TWICE_AFTERWARDS})


class Promise(StrEnum):
    """What has to hold in every case."""

    ONCE = "charged once"
    TRUTH = "told the truth"
    SAME = "same answer again"


@dataclass(frozen=True, slots=True)
class Press:
    """One submit, and what came back."""

    answer: Answer
    says: Says


@dataclass(frozen=True, slots=True)
class Told:
    """What one case has shown.

    Attributes:
        charges: how many more stand in the gateway's books than before.
        struck: how many calls reached the gateway; at none the case has proved nothing.
        presses: in the order of their answers. The last two were sent one after the other, when all was over.
    """

    case: Case
    charges: int
    struck: int
    presses: Sequence[Press]

    def broken(self) -> dict[Promise, list[str]]:
        """What is wrong, by promise; empty when all hold."""
        found = {Promise.ONCE: list(_charged(self)), Promise.TRUTH: list(_told(self)), Promise.SAME: list(_same(self))}
        return {promise: wrong for promise, wrong in found.items() if wrong}


def _charged(told: Told) -> Iterator[str]:
    if not told.struck:
        yield "the gateway was never asked, so nothing was tried: wrap what charges in guard_faults.after(...)"
    elif told.charges != 1:
        yield f"{told.charges} charges stand in the gateway's books"


def _told(told: Told) -> Iterator[str]:
    for number, press in enumerate(told.presses, start=1):
        if press.says is Says.NOT_PAID and told.charges:
            yield f"press {number} was told that nothing was paid, while a charge stood"
        elif press.says is Says.PAID and not told.charges:
            yield f"press {number} was told that it is paid, and nothing was charged"
        elif press.says is Says.NOTHING and (press.answer.status or 0) >= 500:
            yield f"press {number} got an error that says nothing about the money, while a charge stood"
    if told.presses[-1].says is Says.NOTHING:
        yield f"press {len(told.presses)}, the last one, was still told nothing about the money"


def _same(told: Told) -> Iterator[str]:
    """The last two are one answer; where nothing was in the way, so is every yes. What is not known, or not
    finished yet, may be told anew each time."""
    settled = told.presses[-1]
    earlier = list(enumerate(told.presses[:-1], start=1))
    for number, press in earlier if told.case in UNTROUBLED else earlier[-1:]:
        unfinished = press.answer.is_unfinished or settled.answer.is_unfinished
        if press.says is Says.PAID and settled.says is Says.PAID and not unfinished:
            yield from (f"press {len(told.presses)}, beside press {number}: {wrong}" for wrong in differences(press.answer, settled.answer))
    if told.presses[-2].says is Says.PAID and settled.says is not Says.PAID:
        yield f"press {len(told.presses)} took back what press {len(told.presses) - 1} was told"


def report(found: Sequence[Told], *, not_tried: Sequence[str] = ()) -> str:
    """What broke, case by case, with each answer. For people."""
    bad = [told for told in found if told.broken()]
    lines = [f"{len(bad)} of {len(found)} cases broke a promise"]
    for told in bad:
        lines += ["", *_case_lines(told)]
    return "\n".join([*lines, *(f"\nnot tried: {why}" for why in not_tried)])


def _case_lines(told: Told) -> Iterator[str]:
    broken = told.broken()
    yield f"{told.case}: {STORIES[told.case]}"
    for promise in Promise:
        yield f"  {promise:<18} {'NO: ' + broken[promise][0] if promise in broken else 'yes'}"
        yield from (f"  {'':<22} {more}" for more in broken.get(promise, ())[1:])
    for number, press in enumerate(told.presses, start=1):
        yield f"  press {number:<2} {press.answer}"
