"""Where a record lives: its partition, and the names of everything in it.

A script touches one slot of a cluster, so all that one step compares must lie in one partition. That is what belongs to
one owner: its records and their claims. With more than one partition, ids begin with digits that come from the owner alone
(`names.operation_id`, `home`), and the partition is found from these: by whoever holds an id, without asking. The contract
stays as it is, but for this: a claim is compared among the records whose ids begin alike.

On a single server more partitions gain nothing: there is one, and ids are as on every other store.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import crc32
from functools import lru_cache

from cxguard.core.names import OWNER_DIGITS

PARTITIONS = 16  # of a cluster of up to a dozen primaries; each list and each look at the queue asks all of them
PARTITIONS_MAX = 64  # a lease token ends with the partition's number: see `prelude.lua`
_FOREIGN = b"=" * 33  # before an id that is not one of ours: longer than any of ours, so that the two never meet


def partition_of(id: str, partitions: int) -> int:
    """The partition of a record, from the first digits of its id."""
    led = id[:OWNER_DIGITS]
    try:
        return int(led, 16) % partitions
    except ValueError:
        return crc32(led.encode("utf-8", "surrogatepass")) % partitions


def tag(prefix: str, partition: int) -> str:
    """What every key of a partition begins with; the braces make a cluster keep them in one slot."""
    return f"{{{prefix}:{partition}}}:"


def packed_id(id: str) -> bytes:
    """An id as it stands in keys and lists: half as long as its digits."""
    if len(id) == 64:
        try:
            packed = bytes.fromhex(id)
        except ValueError:
            packed = b""
        if packed.hex() == id:
            return packed
    return _FOREIGN + id.encode("utf-8", "surrogatepass")


def unpacked_id(packed: bytes) -> str:
    """The id of `packed_id`."""
    if packed.startswith(_FOREIGN):
        return packed[len(_FOREIGN) :].decode("utf-8", "surrogatepass")
    return packed.hex()


@lru_cache(maxsize=64)  # a program has one or two
def space_name(namespace: str) -> str:
    """What stands for a namespace in keys: short, and free of anything that a key's name must not hold."""
    return _short("space", namespace)


@lru_cache(maxsize=1024)  # as many as it has rules
def line_name(namespace: str, rule: str, version: int) -> str:
    """The list from which `take` takes: one for each rule, and for each version of the record."""
    return _short("line", namespace, rule, str(version))


def exact_name(kind: str, namespace: str, value: str) -> str:
    """What stands for an exact name; the first three digits say in which bucket it is."""
    return _short(kind, namespace, value)


def bucket_of(name: str) -> str:
    """The list of an exact name. Buckets stay small, and small lists take the least room."""
    return f"x:{name[:3]}"


def _short(*parts: str) -> str:
    framed = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(framed.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# --- places in lists


def place_of(time: float, packed: bytes) -> bytes:
    """Where a record stands in a list: text that sorts as the times do, then as the ids do."""
    return struct.pack(">d", max(0.0, time)) + packed


def place_parts(place: bytes) -> tuple[float, bytes]:
    """Time and packed id."""
    (time,) = struct.unpack(">d", place[:8])
    return time, place[8:]


def number_of(packed: bytes) -> int:
    """A packed id as the number that a cursor carries."""
    return int.from_bytes(b"\x01" + packed, "big")


def packed_of(number: int) -> bytes:
    """The packed id of `number_of`; of a made-up number, something that is no record's."""
    return number.to_bytes((max(number, 0).bit_length() + 7) // 8, "big")[1:] if number > 0 else b""
