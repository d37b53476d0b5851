"""Takes the fixture `guard_faults` in."""

pytest_plugins = ["cxguard.testing.plugin"]
