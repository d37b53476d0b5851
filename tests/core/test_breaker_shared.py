"""The shared breakers: batches are folded once and in order, one process alone stops nobody, and a copy follows."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from breaker_bench import NOW, POLICY

from cxguard.core.breaker import BreakerPolicy, BreakerState, Counts, Forced, Heard, Label, Probe, Verdict
from cxguard.core.breaker_shared import (
    BREAKERS_MAX,
    HEARD_LATELY_SECONDS,
    SAID_MAX,
    Batch,
    Name,
    Report,
    Said,
    Shared,
    SharedBreaker,
    Told,
    adopted,
    fold,
    lease,
    restored,
    say,
    shifted,
)
from cxguard.core.breaker_shared_json import shared_from_bytes, shared_to_bytes

CARDS: Name = ("cards", "charge", "")
DEBIT: Name = ("cards", "charge", "debit")
FIND: Name = ("cards", "find", "")
F, OK = Told(Heard.FAILURE), Told(Heard.OK)


class Shop:
    """Processes that tell, with the value between them."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.shared = Shared()
        self.policy = policy
        self.now = NOW
        self.numbers: dict[str, int] = {}

    def batch(self, process: str, *told: Told, name: Name = CARDS, revision: int | None = None) -> Batch:
        self.numbers[process] = self.numbers.get(process, 0) + 1
        at = self.shared.state(name).revision if revision is None else revision
        return Batch(process, self.numbers[process], (Report(name, at, told),))

    def tell(self, process: str, *told: Told, name: Name = CARDS, revision: int | None = None) -> None:
        self.fold(self.batch(process, *told, name=name, revision=revision))

    def fold(self, batch: Batch) -> None:
        self.shared = fold(self.shared, batch, self.policy, self.now)

    def label(self, name: Name = CARDS) -> Label:
        return self.shared.state(name).label

    def probe(self, probe_id: str, *, queued: bool = True, operation_id: str = "") -> Verdict:
        admission, self.shared = lease(
            self.shared, CARDS, self.policy, self.now, probe_id=probe_id, queued=queued, operation_id=operation_id
        )
        return admission.verdict


def test_failures_in_a_row_are_counted_across_processes() -> None:
    """Two here, two there and one more: open, at the fifth."""
    shop = Shop()
    shop.tell("a", F, F)
    shop.tell("b", F, F)
    assert shop.label() is Label.CLOSED
    shop.tell("c", F)
    assert (shop.label(), shop.shared.state(CARDS).why) == (Label.OPEN, "consecutive_failures")


@pytest.mark.parametrize(("told", "opens"), [((OK, F, F, F), False), ((F, OK, F, F), False), ((F, F, F, OK), False), ((F, F, F), True)])
def test_the_order_within_a_batch_counts(told: tuple[Told, ...], opens: bool) -> None:
    """A good answer ends the row where it was heard, not at the end of the batch."""
    shop = Shop()
    shop.tell("a", F, F)
    shop.tell("b", *told)
    assert (shop.label() is Label.OPEN) is opens


def test_a_batch_that_is_sent_again_counts_once() -> None:
    """Whether the answer was lost once or often; an older one that comes late counts no more, either."""
    shop = Shop()
    shop.tell("b", F)
    first, second = shop.batch("a", F, F), shop.batch("a", F)
    for batch in (first, first, second, first, second, second):
        shop.fold(batch)
    assert (shop.label(), shop.shared.state(CARDS).failures) == (Label.CLOSED, 4)


@pytest.mark.parametrize(
    ("others", "opens"),
    [([], True), ([("b", (OK,))], False), ([("b", (F,))], True), ([("b", (OK,)), ("c", (OK,))], False), ([("b", (F, OK))], False)],
    ids=["alone", "the other is well", "the other failed, too", "two are well", "the other is well again"],
)
def test_one_process_among_others_stops_nobody(others: list[tuple[str, tuple[Told, ...]]], opens: bool) -> None:
    """Ten failures of one process open it for all only if it is alone, or another one's last word is a failure."""
    shop = Shop()
    for process, told in others:
        shop.tell(process, *told)
    shop.tell("a", Told(Heard.FAILURE, 10))
    assert (shop.label() is Label.OPEN) is opens


def test_who_was_not_heard_of_lately_is_not_waited_for() -> None:
    """A process that had no calls for a while may be gone: the one that is left is alone."""
    shop = Shop()
    shop.tell("b", OK)
    shop.now += HEARD_LATELY_SECONDS + 0.1
    shop.tell("a", Told(Heard.FAILURE, 5))
    assert shop.label() is Label.OPEN


def test_the_second_process_to_fail_opens_it() -> None:
    """What the first one heard was kept: one more failure elsewhere is the proof."""
    shop = Shop()
    shop.tell("b", OK)
    shop.tell("a", Told(Heard.FAILURE, 5))
    shop.tell("b", F)
    assert shop.label() is Label.OPEN


def test_stragglers_of_many_processes_make_one_transition() -> None:
    """Thirty calls under way over four processes when the gateway dies: the revision moves once."""
    shop = Shop()
    batches = [shop.batch(f"p{number % 4}", F, revision=1) for number in range(30)]
    for batch in batches:
        shop.fold(batch)
    assert (shop.label(), shop.shared.state(CARDS).revision) == (Label.OPEN, 2)


def test_a_failing_method_weighs_more_beside_another() -> None:
    """While one method is open, two failures of another are enough; another kind of call is not touched."""
    shop = Shop()
    shop.tell("a", Told(Heard.FAILURE, 5))
    shop.tell("a", F, F, name=DEBIT)
    shop.tell("a", F, F, name=FIND)
    assert (shop.label(DEBIT), shop.label(FIND)) == (Label.OPEN, Label.CLOSED)


def test_rates_are_counted_over_all() -> None:
    """Forty calls over four processes, half of them failed, none five in a row."""
    shop = Shop(BreakerPolicy(consecutive_failures=100))
    for number in range(20):
        shop.tell(f"p{number % 4}", OK, F)
    assert shop.shared.state(CARDS).why == "failure_rate"


def test_all_processes_together_let_the_probes_through() -> None:
    """Whoever asks, `probes_max` go; the place of a dead one is free at its end, which nothing lengthens."""
    policy = BreakerPolicy(probe_pause_seconds=0.0, turn_seconds=0.0)
    shop = Shop(policy)
    shop.tell("a", Told(Heard.FAILURE, 5))
    shop.now += policy.open_seconds_max
    verdicts = [shop.probe(f"p{number}", operation_id=f"o{number}") for number in range(200)]
    assert verdicts.count(Verdict.PROBE) == policy.probes_max
    shop.now += policy.probe_lease_seconds - 0.1
    shop.tell("b", Told(Heard.NEUTRAL, probe_id="nobody's"))
    assert shop.probe("late", operation_id="o") is Verdict.REJECTED
    shop.now += 0.2
    assert shop.probe("later", operation_id="o") is Verdict.PROBE


@pytest.mark.parametrize(("second", "label"), [(Heard.OK, Label.CLOSED), (Heard.FAILURE, Label.OPEN), (Heard.NEUTRAL, Label.HALF_OPEN)])
def test_probes_of_different_processes_decide_together(second: Heard, label: Label) -> None:
    """Two that went well close it for all; one that failed opens it again."""
    policy = BreakerPolicy(probe_pause_seconds=0.0, turn_seconds=0.0)
    shop = Shop(policy)
    shop.tell("a", Told(Heard.FAILURE, 5))
    shop.now += policy.open_seconds_max
    for probe_id in ("p1", "p2"):
        assert shop.probe(probe_id, operation_id=probe_id) is Verdict.PROBE
    shop.tell("a", Told(Heard.OK, probe_id="p1"))
    shop.tell("b", Told(second, probe_id="p2"))
    assert shop.label() is label


def test_a_gateway_that_asks_for_silence_is_left_alone_by_all() -> None:
    """One process heard it: the end of the silence is in the value, whatever the quorum."""
    shop = Shop()
    shop.tell("b", OK)
    shop.tell("a", Told(Heard.THROTTLED, retry_after_seconds=7.0))
    assert shop.shared.state(CARDS).throttled_until == NOW + 7.0


# A person's word.


def test_a_word_holds_for_every_method_also_those_that_come() -> None:
    """Forced for the family, it is found by a method that nobody has asked for yet; taken back, by none. No other kind hears it."""
    shop = Shop()
    shop.tell("a", OK, name=FIND)
    shop.tell("a", OK, name=DEBIT)
    shop.shared = say(shop.shared, CARDS, Label.OPEN, NOW, reason="bank holiday", seconds=60.0, by="ada")
    new: Name = ("cards", "charge", "wallet")
    word = Forced(Label.OPEN, "bank holiday", NOW + 60.0, "ada")
    assert [shop.shared.state(name).forced for name in (CARDS, DEBIT, new, FIND)] == [word, word, word, None]
    shop.tell("a", OK, name=new)
    shop.shared = say(shop.shared, CARDS, None, NOW)
    assert [shop.shared.state(name).forced for name in (CARDS, DEBIT, new)] == [None] * 3


def test_a_word_about_one_method_leaves_the_others() -> None:
    """Only the one that is named."""
    shared = say(Shared().put_state(CARDS, BASE), DEBIT, Label.CLOSED, NOW, reason="false alarm", seconds=60.0, family=False)
    assert shared.state(CARDS).forced is None
    assert shared.state(DEBIT).forced is not None


def test_a_word_for_all_needs_an_end_too() -> None:
    """A shop that nobody can open again is worse than its gateway."""
    with pytest.raises(ValueError, match="for how long"):
        say(Shared(), CARDS, Label.OPEN, NOW, reason="bank holiday")


def test_what_people_did_is_on_record() -> None:
    """Who, when, what, why and until when; the last thirty of it."""
    shared = say(Shared(), CARDS, Label.OPEN, NOW, reason="bank holiday", seconds=60.0, by="ada")
    shared = say(shared, CARDS, None, NOW + 1.0, by="bob")
    assert shared.said == (
        Said(NOW, "ada", CARDS, "open", "bank holiday", NOW + 60.0),
        Said(NOW + 1.0, "bob", CARDS, "", "", None),
    )
    for _ in range(2 * SAID_MAX):
        shared = say(shared, CARDS, None, NOW + 2.0)
    assert (len(shared.said), shared.said[-1].by) == (SAID_MAX, "")
    assert shared_from_bytes(shared_to_bytes(shared)) == shared


# The copy of a process.

BASE = replace(BreakerState(), revision=3)
OWN = replace(BASE, failures=2, now_counts=Counts(NOW, 9, 2, 0), last_counts=Counts(NOW - 15.0, 4))
OPEN = replace(BreakerState(), label=Label.OPEN, revision=4, opened_until=NOW + 2.0)
OWN_OPEN = replace(BASE, label=Label.OPEN, revision=4, opened_until=NOW + 1.0)


@pytest.mark.parametrize(
    ("own", "shared", "goes_by"),
    [
        (OWN, BASE, OWN),
        (OWN, replace(BASE, throttled_until=NOW + 9.0), replace(OWN, throttled_until=NOW + 9.0)),
        (replace(OWN, throttled_until=NOW + 5.0), BASE, replace(OWN, throttled_until=NOW + 5.0)),
        (OWN, OPEN, replace(OPEN, now_counts=Counts(NOW))),
        (OWN, replace(OPEN, failures=3, last_counts=Counts(NOW, 9)), replace(OPEN, now_counts=Counts(NOW))),
        (OWN_OPEN, BASE, OWN_OPEN),
        (OWN_OPEN, replace(OPEN, trips=2), replace(OPEN, trips=2, now_counts=Counts(NOW))),
        (OWN_OPEN, replace(BASE, revision=6), replace(BASE, revision=6, now_counts=Counts(NOW))),
    ],
    ids=["nothing new", "a silence", "one not told yet", "opened by all", "with no counts", "opened here alone", "then by all", "moved on"],
)
def test_what_a_process_goes_by(own: BreakerState, shared: BreakerState, goes_by: BreakerState) -> None:
    """By what all know, but for its own counts, and for what it alone has seen."""
    assert adopted(own, BASE, shared, NOW) == goes_by


@pytest.mark.parametrize(
    ("since", "failures"),
    [
        (None, OWN.failures),
        ((), 4),
        ((F,), 5),
        ((OK,), 0),
        ((F, OK, F), 1),
        ((Told(Heard.NEUTRAL), Told(Heard.FAILURE, 3)), 7),
        ((Told(Heard.SLOW), Told(Heard.THROTTLED, 2)), 2),
    ],
    ids=["not known", "nothing", "a failure", "a good one", "one of each, and one", "a cancelled call counts not", "slow, then throttled"],
)
def test_failures_are_counted_on(since: tuple[Told, ...] | None, failures: int) -> None:
    """From those of all, with what was heard here since; one's own, while it is not known what they know of that."""
    assert adopted(OWN, BASE, replace(BASE, failures=4), NOW, since=since).failures == failures


def test_every_time_of_a_state_moves_with_the_clock() -> None:
    """One that stayed behind would be an hour off in another process."""
    state = BreakerState(
        now_counts=Counts(10.0),
        last_counts=Counts(20.0),
        opened_until=30.0,
        closed_at=40.0,
        turn_at=50.0,
        probed_at=60.0,
        throttled_until=70.0,
        probes=(Probe("p", 80.0),),
        forced=Forced(Label.OPEN, "r", 90.0),
    )
    moved = shifted(state, 5.0)
    assert (moved.now_counts.since, moved.last_counts.since, moved.opened_until, moved.closed_at) == (15.0, 25.0, 35.0, 45.0)
    assert (moved.turn_at, moved.probed_at, moved.throttled_until, moved.probes) == (55.0, 65.0, 75.0, (Probe("p", 85.0),))
    assert moved.forced == Forced(Label.OPEN, "r", 95.0)
    assert shifted(BreakerState(), 5.0) == BreakerState()


def test_a_state_on_another_clock_comes_back_as_it_was() -> None:
    """Shifted there and back; what never was stays zero, and what lies ahead lies as far ahead."""
    state = replace(OPEN, probes=(Probe("p", NOW + 30.0),), forced=Forced(Label.OPEN, "why", NOW + 60.0, "ada"), probed_at=NOW)
    there = shifted(state, 3600.0)
    assert shifted(there, -3600.0) == state
    assert (there.opened_until, there.probes[0].until, there.closed_at) == (NOW + 3602.0, NOW + 3630.0, 0.0)


def test_a_store_that_lost_its_tail_is_told_what_we_know() -> None:
    """A later revision that a process remembers goes back; an earlier one does not."""
    shared = Shared().put_state(CARDS, OPEN)
    assert restored(shared, {CARDS: BASE}) is shared
    assert restored(Shared(), {CARDS: OPEN}).state(CARDS) == OPEN


def test_one_breaker_too_many_is_left_out() -> None:
    """The value stays small: what does not fit is each process's own."""
    shared = Shared()
    for number in range(BREAKERS_MAX + 10):
        shared = fold(shared, Batch("a", number + 1, (Report(("gw", "find", f"m{number}"), 1, (OK,)),)), POLICY, NOW)
    assert len(shared.breakers) == BREAKERS_MAX


# As bytes.


def test_the_value_survives_a_round_trip() -> None:
    """With voices, batches, probes and a person's word."""
    shop = Shop()
    shop.tell("a", Told(Heard.FAILURE, 5))
    shop.tell("b", OK, name=FIND)
    shop.now += 60.0
    shop.probe("p", operation_id="o")
    shop.shared = say(shop.shared, FIND, Label.OPEN, NOW, reason="why", seconds=5.0, by="ada")
    assert shared_from_bytes(shared_to_bytes(shop.shared)) == shop.shared
    assert shared_from_bytes(b"") == Shared()


def test_members_of_another_version_survive() -> None:
    """What we do not know is kept where it was, in the value and in each breaker."""
    value = {"v": 1, "moon": 1, "batches": {}, "breakers": [{"gateway": "g", "kind": "find", "method": "", "voices": {}, "tide": [2]}]}
    shared = fold(shared_from_bytes(json.dumps(value).encode()), Batch("a", 1, (Report(("g", "find", ""), 1, (F,)),)), POLICY, NOW)
    written = json.loads(shared_to_bytes(shared))
    assert (written["moon"], written["breakers"][0]["tide"], written["breakers"][0]["failures"]) == (1, [2], 1)


NO_VALUES = [b"{", b"[]", b"{}", b'{"v":2,"breakers":[],"batches":{}}', b'{"v":1,"breakers":[{}],"batches":{}}']
POISON = [b"[" * 100_000, b'{"v":1,"breakers":[],"batches":{"a":[Infinity,1]}}', b'{"v":1,"breakers":[],"batches":{"a":[1,NaN]}}']


@pytest.mark.parametrize("value", [*NO_VALUES, *POISON], ids=range(len(NO_VALUES + POISON)))
def test_what_cannot_be_read_is_refused(value: bytes) -> None:
    """Also a newer version's: it may mean something else, and is not written over."""
    with pytest.raises(ValueError, match="each process is alone"):
        shared_from_bytes(value)


# Against a tiny model.


def test_random_sequences_keep_the_promises() -> None:
    """Over thousands of random batches, repeats and probes: see the assertions."""
    for seed in range(60):
        rng = random.Random(seed)
        shop = Shop(BreakerPolicy(probe_pause_seconds=0.0, turn_seconds=0.0, open_seconds=1.0, open_seconds_max=4.0))
        sent: list[Batch] = []
        out: dict[str, float] = {}
        for step in range(150):
            shop.now += rng.random()
            before = shop.shared.state(CARDS)
            again = bool(sent) and rng.random() < 0.2
            if again:
                shop.fold(rng.choice(sent))
            elif rng.random() < 0.3:
                if shop.probe(f"{seed}-{step}", queued=rng.random() < 0.5, operation_id=str(step)) is Verdict.PROBE:
                    out[f"{seed}-{step}"] = shop.now + shop.policy.probe_lease_seconds
            else:
                probe_id = rng.choice(list(out)) if out and rng.random() < 0.5 else ""
                out.pop(probe_id, None)
                told = Told(rng.choice(list(Heard)), probe_id=probe_id)
                batch = shop.batch(rng.choice("abc"), told, revision=before.revision - (rng.random() < 0.2))
                sent.append(batch)
                shop.fold(batch)
            after = shop.shared.state(CARDS)
            assert not again or after == before, "a batch that is sent again changes nothing"
            assert after.revision - before.revision in (0, 1), "a revision is never skipped and never goes back"
            assert (after.revision == before.revision) <= (after.label is before.label), "no change of the label without one"
            assert len(after.probes) <= shop.policy.probes_max
            assert all(probe in before.probes or probe.until == shop.now + 30.0 for probe in after.probes), "no lease is lengthened"
            assert shared_from_bytes(shared_to_bytes(shop.shared)) == shop.shared


def test_an_unknown_breaker_is_closed() -> None:
    """Nothing heard, nothing forced."""
    assert Shared().breaker(CARDS) == SharedBreaker()
