"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from cxguard.core.currency import major

PLAIN_COLUMNS = 160  # where no terminal says how wide it is: a log, a pipe

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def print_json(value: Any) -> None:
    """One JSON document, in which what a terminal would not print as it is stands escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    click.echo("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def say(text: str) -> None:
    """One line. Whatever a record holds stays on it, and moves no cursor."""
    click.echo(_printable(text.replace("\n", " ")))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """A table; the columns named in *right* hold figures."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[_plain(cell) for cell in row])
    console().print(table)


def console() -> Console:
    """Standard output as it is now."""
    out = Console(highlight=False, soft_wrap=False)
    return out if out.is_terminal else Console(highlight=False, width=PLAIN_COLUMNS)


def moment(at: float | None) -> str:
    """A time as people write it, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""


def amount(amount_minor: int | None, currency: str | None) -> str:
    """`49.99 EUR`, or nothing."""
    return f"{major(amount_minor, currency or '')} {currency or ''}".strip() if amount_minor is not None else ""


def _plain(cell: str) -> str:
    """Text from a record is no markup, and moves no cursor."""
    return _printable(cell).replace("[", "\\[")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
