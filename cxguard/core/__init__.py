"""Pure decisions: nothing to wait for, no input or output, no clock, no randomness, no logging.

Times are seconds since the epoch and are passed in; amounts are integers in the currency's minor unit.
"""
