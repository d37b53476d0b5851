"""Records whose lease this process holds, as it saw them last: what a save may believe without looking."""

from __future__ import annotations

from collections import OrderedDict

from cxguard.core.operation import Operation
from cxguard.stores.base import Opened

KNOWN_MAX = 4096  # far more than one process works on at once; what it forgets costs one more round trip


class Known:
    """Only a belief: the server compares token and revision before it writes. From any thread."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Operation] = OrderedDict()

    def get(self, id: str) -> Operation | None:
        return self._by_id.get(id)

    def pop(self, id: str) -> Operation | None:
        """What is known of it, and nothing more from now on: a write is under way whose answer may be lost."""
        return self._by_id.pop(id, None)

    def see(self, opened: Opened) -> None:
        if opened.won:
            self.keep(opened.operation)

    def keep(self, operation: Operation) -> None:
        """Remember a record that was read or written under our lease."""
        if operation.lease is None:
            self._by_id.pop(operation.id, None)
            return
        self._by_id[operation.id] = operation
        if len(self._by_id) > KNOWN_MAX:
            self._by_id.popitem(last=False)

    def changed(self, operation: Operation) -> None:
        """Take in a change from outside, if the record is one of ours."""
        if operation.id in self._by_id:
            self.keep(operation)
