"""`python -m cxguard.demo.shop`: the shop as a process."""

from __future__ import annotations

import os
from pathlib import Path

import click
import uvicorn

from cxguard.demo.serving import BACKLOG, end_with_parent, listen, say_ready, url_of
from cxguard.demo.shop.app import make_shop


@click.command()
@click.option("--gateway", required=True, help="Where the payment gateway answers.")
@click.option("--database", required=True, type=click.Path(path_type=Path, dir_okay=False), help="SQLite file of the shop's own orders.")
@click.option("--guarded/--unguarded", default=True, show_default=True, help="With cxguard around the checkout, or without.")
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option("--with-parent", is_flag=True, help="End when standard input closes.")
def main(gateway: str, database: Path, guarded: bool, port: int, with_parent: bool) -> None:
    """Fern & Co, on the loopback interface only."""
    app = make_shop(gateway, database, guarded=guarded)
    config = uvicorn.Config(
        app, lifespan="on", access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2, backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", port)
    if with_parent:
        end_with_parent(server)
    say_ready({"url": url_of(listener), "pid": os.getpid()})
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
