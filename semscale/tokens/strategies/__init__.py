"""Implementations of the token strategies, one module each; `run(batch, setting)` returns an `Outcome`."""
