"""Facts about a payment that came without its order's name while the store did not know the order: a record of their own has them.

A webhook names the gateway's key, and not every shop's names the order, too. A store that has lost the order finds nothing under
the key, so the fact lies beside it when the order comes again. Where the gateway, or the shop, can be asked, that is enough; where
nobody can, it is all that is known of the first charge.
"""

from __future__ import annotations

from cxguard.core.money import NoteKind
from cxguard.core.operation import Operation, changed, money_of
from cxguard.core.outcomes import Charged, Refunded
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine
from cxguard.stores.base import Query

ALIKE_MAX = 4  # records that one key is looked for in: its order's own, and one of facts


async def bring_stray_facts(engine: Engine, work: Work) -> None:
    """Give the order in hand what was told of charges under its own keys, and went back. A "no" may be older than its line.

    Raises:
        StoreUnavailable: nobody knows now.
    """
    operations = engine.operations
    for key in money_of(work.operation).unknown_keys:
        page = await operations.store.search(Query(operations.namespace, gateway_key=key, limit=ALIKE_MAX))
        for stray in page.operations:
            if not stray.owner:
                await _bring(engine, work, stray, key)


async def _bring(engine: Engine, work: Work, stray: Operation, key: str) -> None:
    for note in stray.notes:
        if note.kind is NoteKind.OUTCOME and note.gateway_key == key and isinstance(note.outcome, Charged | Refunded):
            noted = await engine.operations.note(work.operation.id, note)
            async with work.turn:
                work.operation = changed(work.operation, notes=noted.notes)
