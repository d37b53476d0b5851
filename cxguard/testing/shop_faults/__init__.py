"""What a checkout must live through, as a test of the shop's own: `guard_faults` of `cxguard.testing.plugin`."""
