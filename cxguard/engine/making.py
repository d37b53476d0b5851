"""The engine of a guard, made of its parts."""

from __future__ import annotations

from collections.abc import Mapping

from cxguard.clock import Clock
from cxguard.config import Secrets
from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.breakers import Breakers
from cxguard.engine.engine import Engine, Timeouts
from cxguard.engine.epochs import Epochs
from cxguard.engine.hints import Hints
from cxguard.engine.leases import Leases
from cxguard.engine.mode import holder_name
from cxguard.engine.operations import Operations
from cxguard.engine.pressure import Pressure
from cxguard.engine.spool import Spool
from cxguard.engine.waiting import Waiting
from cxguard.events import Bus, Event
from cxguard.gateways.base import Gateway
from cxguard.seal import Seal
from cxguard.stores.base import Store


def make_engine(
    secrets: Secrets,
    *,
    store: Store,
    clock: Clock,
    bus: Bus,
    namespace: str,
    gateways: Mapping[str, Gateway],
    breakers: BreakerPolicy,
    timeouts: Timeouts,
    beat_seconds: float,
    spool: Spool | None,
    tells: bool,
) -> Engine:
    """Put together; nothing of it runs yet. Its holder of leases is a new one, with each call.

    Args:
        tells: somebody gives notices to shoppers.
    """
    holder = holder_name()
    hints = Hints(store, clock, process=holder)
    epochs = Epochs(
        store, clock, namespace=namespace, tell=lambda epoch: bus.emit(Event("store.began_anew", clock.now(), detail={"epoch": epoch}))
    )
    leases = Leases(store, clock, beat_seconds=beat_seconds, on_lost=lambda id: None)
    operations = Operations(
        store,
        clock,
        leases,
        bus,
        namespace=namespace,
        holder=holder,
        waiting=Waiting(clock, leases, hints),
        hints=hints,
        spool=spool,
        tells=tells,
        doubts=epochs.doubts,
    )
    return Engine(
        operations=operations,
        seal=Seal(secrets.ring),
        naming=secrets.naming,
        gateways=gateways,
        breakers=Breakers(breakers, clock, bus=bus),
        pressure=Pressure(calls_max=timeouts.calls_max, wait_seconds=timeouts.place_seconds, retry_share=timeouts.retry_share),
        epochs=epochs,
        timeouts=timeouts,
    )
