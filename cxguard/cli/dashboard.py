"""`cxguard dashboard`."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, find_target, namespace_option, opened_guard, target_argument

PASSWORD_BYTES = 12  # 96 bits: nobody guesses it while the command runs
HOST = "127.0.0.1"  # from elsewhere: mount dashboard(guard, auth=...) in the shop, behind its TLS and its sign-in


@click.command("dashboard", short_help="The desk in your browser.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}")
@target_argument
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65535), help="On this machine only; 0 takes a free one.")
@click.option("--name", default="desk", show_default=True, help="Who you are: kept with everything that you do.")
@namespace_option
@click.option("--json", "as_json", is_flag=True, help="Print address, name and password as one line of JSON.")
def command(target: str, port: int, name: str, namespace: str, as_json: bool) -> None:
    """The desk in your browser: what goes on now, the orders, and what can be done about each.

    Answers on this machine only, with a password that is printed here and made anew each time. Named by its program
    (shop.main:app) rather than its store, it also knows the rules and gateways, and so what can be done.

    \b
    Examples:
      cxguard dashboard shop.main:app
      cxguard dashboard sqlite:///shop.db --port 0 --name anna
    """
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise click.ClickException("the dashboard needs a server: run pip install 'cxguard[server]'") from None
    if not name.strip() or ":" in name:
        raise click.BadParameter("a name without a colon", param_hint="--name")
    asyncio.run(_serve(find_target(target, namespace=namespace), port=port, name=name, as_json=as_json))


async def _serve(target: Target, *, port: int, name: str, as_json: bool) -> None:
    import uvicorn

    from cxguard.dashboard import BasicAuth, dashboard, password_hash

    password = secrets.token_urlsafe(PASSWORD_BYTES)
    async with opened_guard(target) as guard:
        with _listening(port) as listener:
            app = dashboard(guard, auth=BasicAuth({name: password_hash(password)}))
            config = uvicorn.Config(app, access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2)
            _say(f"http://{HOST}:{listener.getsockname()[1]}/", name=name, password=password, as_json=as_json)
            await uvicorn.Server(config).serve(sockets=[listener])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port} ({error.strerror}): give another --port, or 0") from error


def _say(url: str, *, name: str, password: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"url": url, "name": name, "password": password}))
    else:
        click.echo(f"cxguard dashboard: {url}\n  name      {name}\n  password  {password}\nCtrl-C ends it.")
