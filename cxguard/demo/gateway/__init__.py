"""A payment gateway as a process of its own: its ledger is the truth that the judge reads.

Start it with `python -m cxguard.demo.gateway --port 0 --ledger gateway.db`; it prints its addresses as one JSON line.
"""
