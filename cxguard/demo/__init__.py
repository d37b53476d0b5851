"""The demo: a shop, a payment gateway that breaks on request, a crowd of shoppers, and a judge who believes only the ledger."""
