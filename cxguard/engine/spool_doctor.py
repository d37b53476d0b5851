"""What `cxguard doctor` says about the spool: where it lies, what waits in it, and whether somebody forwards it."""

from __future__ import annotations

from pathlib import Path

from cxguard.config import Settings
from cxguard.engine.doctor import Examined, examine_file, fail, ok, warn
from cxguard.engine.spool import SpoolFigures
from cxguard.stores.sqlite.aside import those_aside

FORWARD_SECONDS_WARN = 120.0  # a record that somebody acts on lapses within a minute or so
FULL_SHARE_WARN = 0.5
UNREADABLE = "spool cannot be opened"


def spool_missing() -> Examined:
    """A shared store without a spool: honest, and a choice."""
    return warn(
        "spool",
        "none: while the store is away, guarded paths answer 503",
        'to keep orders meanwhile, on a disk that outlives the process: Guard(..., spool="/var/lib/shop/spool.db")',
    )


def examine_spool_file(path: Path) -> list[Examined]:
    """Whether the file lies where orders outlive the process, the container and the machine's next start."""
    if not path.parent.is_dir():
        return [fail("spool", f"there is no folder {path.parent}", f"make it: mkdir -p {path.parent}; on a worker without it, all is well")]
    aside = [_put_aside(one) for one in those_aside(path)]
    return aside + ([_about_spool(one) for one in examine_file(path)] if path.exists() else [])


def _put_aside(path: Path) -> Examined:
    """Its orders were told "saved", and those that could not be read are in no store."""
    do = (
        f'copy out what is left (sqlite3 {path.name} ".recover" | sqlite3 recovered.db), look whose orders those are '
        "(cxguard orders list spool:///recovered.db), tell those whom neither the spool nor the store knows, "
        f"then move {path.name} away; and look at the disk"
    )
    return fail("spool", f"{path} was damaged and put aside: what could not be read of it was not brought to the store", do)


def unreadable_spool(error: Exception) -> Examined:
    """What the next start of the app will find, too."""
    return fail(UNREADABLE, str(error), "start the app: what is damaged is put aside then, and a new one takes its place")


def _about_spool(one: Examined) -> Examined:
    return Examined(f"spool {one.about}", one.health, one.found, one.do)


def examine_spool(figures: SpoolFigures, *, now: float, settings: Settings, away: bool) -> Examined:
    """What waits, for how long, and how near the bounds it is.

    Args:
        away: the store does not answer, so that waiting is right.
    """
    items = figures.orders + figures.facts
    told = f"{figures.orders} orders and {figures.facts} facts wait, {figures.used_bytes // 1024**2} MB"
    if items == 0:
        return ok("spool", "empty")
    age_seconds = max(0.0, now - figures.oldest_at) if figures.oldest_at is not None else 0.0
    told += f", the oldest for {age_seconds / 60:.0f} minutes"
    share = max(items / settings.spool_items_max, figures.used_bytes / settings.spool_bytes_max)
    if not away and age_seconds > FORWARD_SECONDS_WARN:
        return fail("spool", told, "nobody forwards them, though the store answers: start the app, or cxguard worker, on this machine")
    if share >= FULL_SHARE_WARN:
        return warn("spool", f"{told}: {share:.0%} full", "bring the store back: a full spool takes no order in")
    return warn("spool", told, "bring the store back") if away else ok("spool", told)
