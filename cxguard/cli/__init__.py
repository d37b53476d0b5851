"""The command line: `cxguard`. Each command's own imports wait until it is called."""

from cxguard.cli.main import main

__all__ = ["main"]
