"""A script that pays one order, and dies by its own hand around the commit of its own transaction. No part of the product knows.

    python tests/finish_shop.py DATABASE SCHEMA GATEWAY before|after
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import psycopg

from cxguard import Charge, Guard, Shop
from cxguard.gateways.http import HttpGateway
from cxguard.stores.postgres import PostgresStore


def made(database: str, schema: str, gateway: str, **options: Any) -> Guard:
    store = PostgresStore(database, schema=schema, clock=options.get("clock"))
    payments = [HttpGateway("http:shop:test", gateway)]
    secrets = {"secret": bytes(range(32)), "keys": [bytes(range(1, 33))]}
    return Guard(store, shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=payments, duties=False, **secrets, **options)


async def place(op: Any, database: str, schema: str, dies: str) -> None:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(f"INSERT INTO {schema}.shop_orders VALUES ('o1')".encode())
        await op.finish({"payment": payment.payment_id}, connection=connection)
        if dies == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await connection.commit()
        os.kill(os.getpid(), signal.SIGKILL)


async def main(database: str, schema: str, gateway: str, dies: str) -> None:
    async with made(database, schema, gateway) as guard, await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(f"CREATE TABLE {schema}.shop_orders (number text PRIMARY KEY)".encode())
        await guard.run(place, database, schema, dies, purpose="order", key="o1", owner="ann")


if __name__ == "__main__":
    sys.stderr.write("begins\n")
    asyncio.run(main(*sys.argv[1:]))
