"""Payments in prefork workers, as Celery and its like run them: jobs come twice, workers are killed, each order is paid once.

    python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
    python examples/celery_style_worker/worker.py http://127.0.0.1:8801 jobs

Each file in the folder `jobs` is an order: {"order": "1001", "amount_minor": 4999, "currency": "EUR", "source": "tok_ok"}.
A job that its worker did not live to end is delivered again, as every queue does sooner or later. With Celery, `pay_order`
is the body of a task; `acks_late=True` and retries are then harmless.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from cxguard import Charge, Guard, Purpose, Shop
from cxguard.errors import CxguardError, PaymentDeclined
from cxguard.gateways.http import HttpGateway

WORKERS = 2


def make_guard(gateway_url: str, folder: Path) -> Guard:
    """One for each program. Workers that are forked from it begin anew by themselves."""
    gateway = HttpGateway("http:shop:test", gateway_url)
    # a worker that was killed is taken over after five seconds, and who meets its order meanwhile waits for that
    purpose = Purpose("pay order", lease_seconds=5.0, wait_seconds=15.0)
    shop, store = Shop("Fern & Co", phone="+44 20 7946 0000"), f"sqlite:///{folder / 'orders.db'}"
    return Guard(store, shop=shop, gateways=[gateway], purposes=[purpose], duties=False)


def pay_order(guard: Guard, job: dict[str, Any]) -> dict[str, str]:
    """The task: however often it is delivered, and to however many workers at once, it charges once."""

    def pay(op: Any) -> dict[str, str]:
        payment = op.charge(Charge(job["amount_minor"], job["currency"], source=job["source"], order_id=job["order"]))
        invoice = op.step("write invoice", write_invoice, job["order"])
        return {"payment": payment.payment_id, "invoice": invoice}

    return guard.sync.run(pay, purpose="pay order", key=job["order"], owner=f"order {job['order']}")


def write_invoice(order: str) -> str:
    return f"INV-{order}"


def work(guard: Guard, folder: Path) -> None:
    """Take one job after the other until none is left."""
    for job_file in sorted(folder.glob("*.json")):
        mine = job_file.with_suffix(f".taken-{os.getpid()}")
        try:
            job_file.rename(mine)
        except FileNotFoundError:
            continue  # another worker has it
        job = json.loads(mine.read_text("utf-8"))
        try:
            result: dict[str, str] = pay_order(guard, job)
        except PaymentDeclined:
            result = {"declined": "yes"}
        except CxguardError as error:  # in flight, held, unknown: the same key again later finds out
            print(f"{job['order']}: again later ({error})", flush=True)
            mine.rename(job_file.with_suffix(".later"))
            continue
        mine.with_suffix(".done").write_text(json.dumps(result), "utf-8")
        mine.unlink()
        print(f"{job['order']}: {result}", flush=True)


def deliver_again(folder: Path) -> None:
    """What a worker took and did not end: a queue's visibility time-out."""
    for taken in [*folder.glob("*.taken-*"), *folder.glob("*.later")]:
        taken.rename(taken.with_suffix(".json"))


def main(gateway_url: str, folder: Path) -> None:
    deliver_again(folder)
    guard = make_guard(gateway_url, folder)
    children = []
    for _ in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            with guard:
                work(guard, folder)
            os._exit(0)
        children.append(pid)
    print("workers", *children, flush=True)
    for pid in children:
        os.waitpid(pid, 0)
    print("no more jobs", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
