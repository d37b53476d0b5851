"""For your tests and ours: a clock to move by hand, a store that fails on demand, and the contract suite of a store."""

from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore

__all__ = ["Fault", "FaultyStore", "ManualClock"]
