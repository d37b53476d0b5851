"""The parts of the store contract suite, one file a group of verbs. `cxguard.testing.store_contract` joins them."""
