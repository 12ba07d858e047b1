"""Synthetic images: deterministic renderers of the bundled datasets `digits` and `shapes`."""
