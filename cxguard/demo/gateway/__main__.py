"""`python -m cxguard.demo.gateway`: the gateway as a process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
import uvicorn

from cxguard.demo.gateway.app import make_gateway
from cxguard.demo.gateway.door import Door, quiet_config
from cxguard.demo.gateway.ledger import Ledger
from cxguard.demo.gateway.world import ALL_WELL, World
from cxguard.demo.serving import end_with_parent, listen, say_ready, url_of


@click.command()
@click.option("--port", default=0, show_default=True, help="Port for payments; 0 takes a free one.")
@click.option("--control-port", default=0, show_default=True, help="Port of control page and ledger, always open.")
@click.option("--ledger", required=True, type=click.Path(path_type=Path, dir_okay=False), help="SQLite file of the gateway's own books.")
@click.option("--no-keys", is_flag=True, help="Ignore Idempotency-Key: each request charges.")
@click.option("--with-parent", is_flag=True, help="End when standard input closes.")
def main(port: int, control_port: int, ledger: Path, no_keys: bool, with_parent: bool) -> None:
    """A payment gateway with faults to order, on the loopback interface only."""
    asyncio.run(_serve(port=port, control_port=control_port, ledger=Ledger(ledger, keyed=not no_keys), with_parent=with_parent))


async def _serve(*, port: int, control_port: int, ledger: Ledger, with_parent: bool) -> None:
    async def set_open(wanted: bool) -> None:
        await door.set_open(wanted)

    world = World(set_open)
    app = make_gateway(ledger, world)
    door = Door(app, host="127.0.0.1", port=port)
    control = uvicorn.Server(quiet_config(app))
    listener = listen("127.0.0.1", control_port)
    try:
        await world.play((ALL_WELL,))
        if with_parent:
            end_with_parent(control)
        say_ready({"url": door.url, "control_url": url_of(listener), "pid": os.getpid()})
        await control.serve(sockets=[listener])
    finally:
        await world.stop()
        await world.hold.release()
        await door.close()
        ledger.close()


if __name__ == "__main__":
    main()
