"""What token strategies do to a tower, a module each; `run(batch, setting)` returns an `Outcome`."""
