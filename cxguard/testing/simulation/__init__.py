"""Small shops in which everything goes wrong at once, in virtual time, by the dice of a seed: `cxguard simulate`."""
