"""Checkout middleware: charges once, keeps the order when the gateway is down, shows who met an error."""
