"""Synthetic images: the renderers of the bundled datasets `digits` and `shapes`, the same bytes on every machine."""
