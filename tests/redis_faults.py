"""What a Redis server goes through while shoppers press the button: the same as any other."""

from __future__ import annotations

from collections.abc import Mapping

from server_faults import Fault, faults_of
from store_machines import redis_machine

FAULTS: Mapping[str, Fault] = dict(faults_of("redis", redis_machine))
