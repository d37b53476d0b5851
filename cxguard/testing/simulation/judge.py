"""Judges a story by the gateway's ledger and by what shoppers were told; it knows nothing of how the guard decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from cxguard.core.money import MoneyState, NoteKind
from cxguard.core.names import reference_of
from cxguard.core.operation import Operation, State, money_of
from cxguard.testing.simulation.timelines import lost_facts, unseen_errors, untrue_timelines, wrong_sums
from cxguard.testing.simulation.world import Landing, Said, World

# Of ours, for no shop here asks for other figures than were accepted: a person would have to find out what the bug is.
FAILURES = frozenset({"attend_failed", "duties_circle", "step_mismatch"})
GOING_BACK = frozenset({"refund_due", "cancel_asked"})  # what was paid, and may be back already
ANSWER_SECONDS_MAX = 30.0  # the rule's deadline, the wait for the first click, and slow stores


async def judge(world: World) -> list[str]:
    """Everything that went wrong, in words."""
    operations = await world.operations()
    return [
        *_charged_twice(world, operations),
        *_told_wrong(world, operations),
        *_stranded(world, operations),
        *_kept_though_cancelled(world, operations),
        *_books_differ(world, operations),
        *untrue_timelines(world, operations),
        *lost_facts(world, operations),
        *wrong_sums(world, operations),
        *await unseen_errors(world),
        *(f"{world.zombies} acts of the dead" for _ in range(world.zombies > 0)),
        *world.broken,
        *(f"a task failed: {failure}" for failure in world.loop.failures),
    ]


def _stands(world: World, landing: Landing) -> bool:
    return any(payment.id == landing.payment and payment.stands for payment in world.fake.payments)


def _purchase(world: World, order: str) -> str:
    owner, cart, key, amount = order.split("/")
    if world.plan.derived:
        return f"{owner}/{cart}"
    return f"{owner}/{cart}/{amount}" if world.plan.purchase else f"{owner}/{key}"


def _charged_twice(world: World, operations: list[Operation]) -> Iterator[str]:
    """At rest. A second charge that no machine may give back is allowed only while a person is shown it."""
    standing = defaultdict(list)
    for landing in world.landings:
        if _stands(world, landing):
            standing[_purchase(world, landing.order)].append(landing)
    for purchase, landings in standing.items():
        if len(landings) > 1 and not _excused(world, landings, operations):
            yield f"charged {len(landings)} times: {purchase} {[landing.payment for landing in landings]}"


def _excused(world: World, landings: list[Landing], operations: list[Operation]) -> bool:
    """What the design cannot promise: no keys at the gateway, and a process that froze between its check and the socket, or a
    store whose clock was set, so that it gave a lease away that lived."""
    overlapping = any(world.keys.get(landing.key) in world.overlapping for landing in landings)
    if not world.plan.keyed and (world.plan.stalls or overlapping):
        return True
    if any(_is_beyond_asking(world, landing) for landing in landings) or _claim_was_lost(world, landings):
        return True
    keys = {landing.key for landing in landings}
    on_desk = [each for each in operations if each.state is State.HELD and keys & {send.key for send in each.sends}]
    return bool(on_desk) and world.plan.charged_by == "shop"


def _told_wrong(world: World, operations: list[Operation]) -> Iterator[str]:
    in_doubt = {each.reference for each in operations if _refund_in_doubt(each)}
    for said in world.said:
        mine = _landings_of(world, said, operations)
        told = said.body.get("money")
        paid = said.status == 201 or (told == "charged" and said.body.get("situation") not in GOING_BACK)
        refused = told == "not_charged" or said.status == 402
        if refused:
            for landing in mine:
                if _may_stand(landing, said) and not _is_beyond_asking(world, landing):
                    yield f"told not charged over {landing.payment}: {_short(said)}"
        if paid and said.body.get("reference") not in in_doubt and not any(_stood(landing, said) for landing in mine):
            yield f"told paid without a charge: {_short(said)}"
        if said.status == 402 and not any(payment.state == "declined" for payment in world.fake.payments):
            yield f"told declined without an issuer's no: {_short(said)}"


def _refund_in_doubt(operation: Operation) -> bool:
    """A person finds out whether the money went back: nobody was told, or only facts are known of the order."""
    return operation.state is State.HELD and (operation.why == "refund_unknown" or not operation.rule)


def _is_beyond_asking(world: World, landing: Landing) -> bool:
    """Made where the shop charges, without keys, and the store has lost who paid: without `resolve` nobody can be asked."""
    plan = world.plan
    asked = plan.keyed or plan.charged_by == "guard" or plan.resolve
    return not asked and world.keys.get(landing.key) in world.taken_back


def _claim_was_lost(world: World, landings: list[Landing]) -> bool:
    """One purchase under two keys, and the store has lost the record that said so: no gateway knows of purchases. An older copy
    still says so, and somebody is asked about it, if there is anybody."""
    presses = {_press(world, landing.order) for landing in landings}
    ids = {id for landing in landings if (id := world.keys.get(landing.key)) is not None}
    asked = world.plan.charged_by == "guard" or world.plan.resolve
    gone = world.lost & {reference_of(id) for id in ids} if asked else world.taken_back & ids
    return len(presses) == len(landings) and bool(gone)


def _landings_of(world: World, said: Said, operations: list[Operation]) -> list[Landing]:
    reference = said.body.get("reference")
    named = next((each for each in operations if each.reference == reference), None) if reference else None
    keys = _keys_of(world, named) if named else _keys_of_lost(world, reference)
    return [
        landing
        for landing in world.landings
        if landing.key in keys or (named is None and _press(world, landing.order) == _press(world, said.order))
    ]


def _keys_of_lost(world: World, reference: str | None) -> set[str | None]:
    """Of a record that the store has lost for good. Its press is not always the one that was told of it: the order may have been
    paid under the purchase's other key."""
    return {key for key, id in world.keys.items() if reference_of(id) == reference} if reference else set()


def _keys_of(world: World, operation: Operation) -> set[str | None]:
    """Under which it was charged, also in lives that the store has lost, or somebody told it that it was."""
    keys = {*(send.key for send in operation.sends), *(note.gateway_key for note in operation.notes)}
    return keys | {key for key, id in world.keys.items() if id == operation.id}


def _press(world: World, order: str) -> str:
    """What one key stands for: an answer without a reference is about the order of its own key."""
    owner, cart, key, _ = order.split("/")
    return f"{owner}/{cart}" if world.plan.derived else f"{owner}/{key}"


def _may_stand(landing: Landing, said: Said) -> bool:
    """It stood when that was said, or was on its way already and came to stand later."""
    sent_before = landing.sent_at < said.began_at or (said.asking != 0 and landing.asking == said.asking)
    gone = landing.gone_at is not None and landing.gone_at <= said.at
    return sent_before and not gone and landing.stood_at is not None


def _stood(landing: Landing, said: Said) -> bool:
    gone = landing.gone_at is not None and landing.gone_at < said.began_at
    return landing.stood_at is not None and landing.stood_at <= said.at and not gone


def _stranded(world: World, operations: list[Operation]) -> Iterator[str]:
    at_last = {each.reference for each in operations}
    for said in world.said:
        there = world.at_rest if said.at < world.rested_at else at_last  # what was gone then is made anew by the next press
        reference = said.body.get("reference")
        saved = said.body.get("order_saved") and said.body.get("situation") not in ("in_flight",)
        if saved and reference not in there and reference not in world.lost:
            yield f"a saved order is nowhere: {_short(said)}"
        if said.at - said.began_at > ANSWER_SECONDS_MAX and not world.plan.stalls:
            yield f"waited {said.at - said.began_at:.0f} s: {_short(said)}"
    if world.spooled():
        yield f"{world.spooled()} orders or facts wait in the spool for ever"
    for each in operations:
        if each.why in FAILURES:
            yield f"{each.reference} is held, since it {each.why}"
        if each.state not in (State.FINISHED, State.CANCELLED, State.HELD):
            yield f"{each.reference} is {each.state} ({each.why}) for ever"


def _kept_though_cancelled(world: World, operations: list[Operation]) -> Iterator[str]:
    """Whoever was told that the order is being cancelled keeps the money, or a person is shown why not."""
    by_reference = {each.reference: each for each in operations}
    for said in world.cancelled:
        each = by_reference.get(str(said.body.get("reference")))
        if each is None or each.state is State.HELD or not _wished_in_this_life(each):
            continue
        if _stands_for(world, each):
            yield f"told that it is being cancelled, and charged: {_short(said)}"


def _wished_in_this_life(operation: Operation) -> bool:
    """Whoever pressed again after the end of a cancelled order wanted it after all."""
    return any(note.kind is NoteKind.CANCEL and note.generation == operation.generation for note in operation.notes)


def _books_differ(world: World, operations: list[Operation]) -> Iterator[str]:
    for each in operations:
        stands, state = _stands_for(world, each), money_of(each).state
        if state is MoneyState.UNKNOWN and each.state is not State.HELD:
            yield f"{each.reference} is {each.state} and unknown at rest"
        known = any(not _is_beyond_asking(world, landing) for landing in stands)
        if known and each.rule and state not in (MoneyState.CHARGED, MoneyState.UNKNOWN):  # facts alone may be old ones
            yield f"{each.reference} is {state} over a standing charge"
        if not stands and state is MoneyState.CHARGED and not _refund_in_doubt(each):
            yield f"{each.reference} is charged, and nothing stands"
        if stands and each.state is State.CANCELLED:
            yield f"{each.reference} is cancelled over a standing charge"


def _stands_for(world: World, operation: Operation) -> list[Landing]:
    keys = _keys_of(world, operation)
    return [landing for landing in world.landings if landing.key in keys and _stands(world, landing)]


def _short(said: Said) -> str:
    told = {name: said.body[name] for name in ("situation", "money", "reference", "paid", "declined") if name in said.body}
    return f"#{said.asking} {said.order} at {said.at:.2f} (from {said.began_at:.2f}): {said.status} {told}"
