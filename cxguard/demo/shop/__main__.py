"""`python -m cxguard.demo.shop`: the shop as a process."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
import uvicorn

from cxguard.demo.serving import BACKLOG, end_with_parent, listen, say_ready, url_of
from cxguard.demo.shop.app import DESK_PATH, make_shop

STAFF = "desk"  # the one name that may sign in at the desk
PASSWORD_BYTES = 12


@click.command()
@click.option("--gateway", required=True, help="Where the payment gateway answers.")
@click.option("--database", required=True, type=click.Path(path_type=Path, dir_okay=False), help="SQLite file of the shop's own orders.")
@click.option("--guarded/--unguarded", default=True, show_default=True, help="With cxguard around the checkout, or without.")
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option("--with-parent", is_flag=True, help="End when standard input closes.")
def main(gateway: str, database: Path, guarded: bool, port: int, with_parent: bool) -> None:
    """Fern & Co, on the loopback interface only."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)  # made anew each time, and said only to whoever started this process
    app = make_shop(gateway, database, guarded=guarded, staff=_staff(password) if guarded else None)
    config = uvicorn.Config(
        app, lifespan="on", access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2, backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", port)
    if with_parent:
        end_with_parent(server)
    url = url_of(listener)
    desk = {"desk": f"{url}{DESK_PATH}/", "desk_name": STAFF, "desk_password": password} if guarded else {}
    say_ready({"url": url, "pid": os.getpid(), **desk})
    server.run(sockets=[listener])


def _staff(password: str) -> dict[str, str]:
    from cxguard.dashboard import password_hash

    return {STAFF: password_hash(password)}


if __name__ == "__main__":
    main()
